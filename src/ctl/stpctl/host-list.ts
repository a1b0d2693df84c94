/** `stpctl host list`: who is attached. */
import type { Command } from 'commander';
import type { HostReport, HostsDocument } from '../../daemon/reports.js';
import { orDash, print, printable } from '../output.js';
import { amount, table, text } from '../table.js';
import { addVerb, clientOf, type VerbOptions } from './verb.js';

const COLUMNS = [
  amount<HostReport>('HOST', (h) => h.id),
  amount<HostReport>('PID', (h) => h.pid),
  amount<HostReport>('UID', (h) => h.uid),
  amount<HostReport>('GID', (h) => h.gid),
  amount<HostReport>('SOCKETS', (h) => h.sockets),
  amount<HostReport>('PAGES', (h) => h.sendPages + h.heldPages),
  text<HostReport>('ATTACHED', (h) => h.attachedAt),
  text<HostReport>('STGS', (h) => orDash(h.stgs.join(','))),
  text<HostReport>('NAME', (h) => orDash(h.name === null ? null : printable(h.name))),
];

export const hostsText = ({ hosts }: HostsDocument): string => table(COLUMNS, hosts);

export function addHostList(parent: Command): void {
  addVerb(parent, 'list', {
    summary: 'list the attached hosts',
    document: '{"hosts": [...]}',
    examples: ['stpctl host list', 'stpctl host list --json'],
  }).action(async (options: VerbOptions) => {
    print(options, await clientOf(options).hosts(), hostsText);
  });
}
