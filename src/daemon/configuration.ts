/**
 * What an array is made of: configuration file, flags, defaults, and the rules they keep.
 *
 * The file is JSON, by default /etc/stpd/stpd.json if that exists. Every key is optional:
 *
 *     {
 *       "memory": "1GiB",          all boards together; or "boards": 64
 *       "boardSize": "16MiB",      bytes, or a number with KiB, MiB, GiB or TiB
 *       "directors": 1,            channel directors (worker threads)
 *       "connections": 16384,      connection slots of an STG that does not say
 *       "logFile": "/var/log/stpd.log",   in the background; default: in the run directory
 *       "logLevel": "info",        trace, debug, info, warn, error
 *       "allowUids": [1000],       who may attach to an STG that does not say;
 *       "allowGids": []            both absent: the user that runs stpd
 *     }
 *
 * Flags override the file; a flag for `boards` also overrides the file's `memory`, and the other
 * way round. Pure but for `readConfigurationFile`; any thread.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { isAbsolute } from 'node:path';
import * as z from 'zod';
import { isCoded, messageOf } from '../errors.js';
import { PAGE_BYTES } from '../layout/tables.js';
import {
  BOARD_BYTES_DEFAULT,
  BOARD_BYTES_MAX,
  BOARD_BYTES_MIN,
  BOARDS_DEFAULT,
  BOARDS_MAX,
  BOARDS_MIN,
  DIRECTORS_MAX,
  STG_CONNECTIONS_DEFAULT,
  STG_CONNECTIONS_MAX,
} from '../limits.js';
import { shown } from './shown.js';
import { formatSize, parseSize } from './size.js';
import { idList, objectError, ValidationError, validate, wholeNumber } from './validation.js';

export const CONFIGURATION_FILE_DEFAULT = '/etc/stpd/stpd.json';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A complete and valid configuration. */
export interface Configuration {
  readonly boards: number;
  readonly boardBytes: number;
  readonly directors: number;
  /** Connection slots of an STG whose request does not say. */
  readonly connections: number;
  /** Absolute; null for stpd.log in the run directory. */
  readonly logFile: string | null;
  readonly logLevel: LogLevel;
  /** Access lists of an STG whose request has none. */
  readonly allowUids: readonly number[];
  readonly allowGids: readonly number[];
}

/** Some of the settings, each valid in itself. Sizes in bytes. */
export interface Settings {
  readonly boards?: number | undefined;
  readonly boardSize?: number | undefined;
  readonly memory?: number | undefined;
  readonly directors?: number | undefined;
  readonly connections?: number | undefined;
  readonly logFile?: string | undefined;
  readonly logLevel?: LogLevel | undefined;
  readonly allowUids?: readonly number[] | undefined;
  readonly allowGids?: readonly number[] | undefined;
}

const size = z.unknown().transform((value, context): number => {
  const parsed = parseSize(value);
  if ('bytes' in parsed) return parsed.bytes;
  context.addIssue({ code: 'custom', message: parsed.problem });
  return z.NEVER;
});

function problemOfBoardSize(bytes: number): string | undefined {
  const given = formatSize(bytes);
  if (bytes < BOARD_BYTES_MIN) {
    return `${given} is too small: a board has at least ${formatSize(BOARD_BYTES_MIN)}`;
  }
  if (bytes > BOARD_BYTES_MAX) {
    return `${given} is too large: a board has at most ${formatSize(BOARD_BYTES_MAX)}`;
  }
  if (bytes % PAGE_BYTES !== 0) {
    return `${given} is not a multiple of ${formatSize(PAGE_BYTES)}: a board is made of pages`;
  }
  return undefined;
}

function fieldsFor(cores: number) {
  const directorsMax = Math.min(DIRECTORS_MAX, cores);
  return {
    boards: wholeNumber({
      min: BOARDS_MIN,
      max: BOARDS_MAX,
      least: `an array has at least ${BOARDS_MIN}, so that work on different boards runs at once`,
      most: `an array has at most ${BOARDS_MAX}; larger boards give more memory`,
    }).optional(),
    boardSize: size
      .superRefine((bytes, context) => {
        const problem = problemOfBoardSize(bytes);
        if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
      })
      .optional(),
    memory: size.optional(),
    directors: wholeNumber({
      min: 1,
      max: directorsMax,
      least: 'an array needs one to make connections',
      most:
        directorsMax < DIRECTORS_MAX
          ? `this machine has ${cores} cores, and a director uses up to one`
          : `an array has at most ${DIRECTORS_MAX}`,
    }).optional(),
    connections: wholeNumber({
      min: 1,
      max: STG_CONNECTIONS_MAX,
      least: 'an STG carries at least one connection',
      most: `an STG carries at most ${STG_CONNECTIONS_MAX}`,
    }).optional(),
    logFile: z
      .string({ error: (issue) => `${shown(issue.input)} is not a path` })
      .refine(isAbsolute, { error: (issue) => `${shown(issue.input)} is not an absolute path` })
      .optional(),
    logLevel: z
      .enum(LOG_LEVELS, {
        error: (issue) => `${shown(issue.input)} is not one of ${LOG_LEVELS.join(', ')}`,
      })
      .optional(),
    allowUids: idList('user').optional(),
    allowGids: idList('group').optional(),
  };
}

/**
 * Checks each setting by itself.
 * @param nameOf what the user calls a key: `--board-size`, or `boardSize` of a file
 * @throws ValidationError
 */
export function checkSettings(
  value: unknown,
  nameOf = (key: string): string => key,
  cores: number = availableParallelism(),
): Settings {
  const fields = fieldsFor(cores);
  const schema = z.strictObject(fields, { error: objectError(Object.keys(fields)) });
  return validate(schema, value, nameOf);
}

/** "line 3, column 7" of a JSON.parse error, where it tells the position. */
function placeOf(text: string, error: unknown): string {
  const position = /at position (\d+)/.exec(messageOf(error))?.[1];
  if (position === undefined) return '';
  const before = text.slice(0, Number(position)).split('\n');
  return ` in line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`;
}

/**
 * @param file null: the default file, which need not exist
 * @throws ValidationError, also where the file cannot be read
 */
export function readConfigurationFile(file: string | null): Settings {
  const path = file ?? CONFIGURATION_FILE_DEFAULT;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (file === null && isCoded(error) && error.code === 'ENOENT') return {};
    throw new ValidationError([`${path}: cannot be read: ${messageOf(error)}`]);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ValidationError([`${path}: is not JSON${placeOf(text, error)}: ${messageOf(error)}`]);
  }
  try {
    return checkSettings(value);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    throw new ValidationError(error.problems.map((problem) => `${path}: ${problem}`));
  }
}

/** Without a board size, boards grow from the default until no more than BOARDS_MAX are needed. */
function boardBytesFor(memory: number): number {
  let bytes = BOARD_BYTES_DEFAULT;
  while (memory / bytes > BOARDS_MAX && bytes < BOARD_BYTES_MAX) bytes *= 2;
  return bytes;
}

/** The count of boards that make up `memory`. */
function boardsOf(memory: number, boardBytes: number): number {
  const given = `memory: ${formatSize(memory)}`;
  const board = formatSize(boardBytes);
  const boards = memory / boardBytes;
  if (boards < BOARDS_MIN) {
    const least = formatSize(BOARDS_MIN * boardBytes);
    throw new ValidationError([
      `${given} is too little: an array has at least ${BOARDS_MIN} boards of ${board}, ${least}`,
    ]);
  }
  if (boards > BOARDS_MAX) {
    const most = formatSize(BOARDS_MAX * boardBytes);
    const hint = boardBytes < BOARD_BYTES_MAX ? '; larger boards give more' : '';
    throw new ValidationError([
      `${given} is too much: an array has at most ${BOARDS_MAX} boards of ${board}, ${most}${hint}`,
    ]);
  }
  if (!Number.isInteger(boards)) {
    const below = formatSize(Math.floor(boards) * boardBytes);
    const above = formatSize(Math.ceil(boards) * boardBytes);
    throw new ValidationError([
      `${given} is not a multiple of the board size, ${board}: use ${below} or ${above}`,
    ]);
  }
  return boards;
}

/**
 * Flags over file over defaults.
 * @throws ValidationError where settings contradict each other
 */
export function resolveConfiguration(file: Settings, flags: Settings): Configuration {
  for (const { boards, memory } of [file, flags]) {
    if (boards !== undefined && memory !== undefined) {
      throw new ValidationError([
        `memory: ${formatSize(memory)} and boards: ${boards} are both given: give one of them`,
      ]);
    }
  }
  const amount = flags.boards !== undefined || flags.memory !== undefined ? flags : file;
  const boardSize = flags.boardSize ?? file.boardSize;
  const { memory } = amount;
  const boardBytes =
    boardSize ?? (memory === undefined ? BOARD_BYTES_DEFAULT : boardBytesFor(memory));
  return {
    boards: memory === undefined ? (amount.boards ?? BOARDS_DEFAULT) : boardsOf(memory, boardBytes),
    boardBytes,
    directors: flags.directors ?? file.directors ?? 1,
    connections: flags.connections ?? file.connections ?? STG_CONNECTIONS_DEFAULT,
    logFile: flags.logFile ?? file.logFile ?? null,
    logLevel: flags.logLevel ?? file.logLevel ?? 'info',
    allowUids: flags.allowUids ?? file.allowUids ?? [],
    allowGids: flags.allowGids ?? file.allowGids ?? [],
  };
}
