/** Names of hosts, servers and databases stand in `HOST:PATH`, in TLS identities, lists and members. */
export const HOST_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const HOST_NAME_RULE = 'must be 1 to 63 letters, digits, dots, dashes or underscores';
