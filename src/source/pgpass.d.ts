/** The package has no types of its own. */
declare module 'pgpass' {
  /** Undefined where the password file has none for it, or there is no such file. */
  export default function passwordFile(
    connection: object,
    found: (password: string | undefined) => void,
  ): void;
}
