import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import test from 'ava';
import { AF_INET, STPConnect } from '../../../src/connect/stp-connect.js';
import { failsWith } from '../../conformance/rig.js';

/** A certificate of its own, or undefined where there is no openssl to make one. */
function certificate(directory: string): { key: Buffer; cert: Buffer } | undefined {
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const subject = ['-subj', '/CN=127.0.0.1', '-days', '1'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const args = ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', cert];
  try {
    execFileSync('openssl', args, { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

test('a server that shows a certificate instead of knowing the key is refused', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-certificate-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const made = certificate(directory);
  if (made === undefined) {
    t.log('skipped: there is no openssl to make a certificate with');
    t.pass();
    return;
  }
  const server = tls.createServer({ ...made, minVersion: 'TLSv1.3' }, (socket) => socket.end('hi'));
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const layer = new STPConnect();
  t.teardown(() => layer.closeAll());
  const fd = layer.socket(AF_INET);
  layer.setsockopt(fd, 'psk', { identity: 'host-a', key: randomBytes(32) });
  const { port } = server.address() as AddressInfo;
  await failsWith(t, layer.connect(fd, { host: '127.0.0.1', port }), 'EACCES', 'EPROTO');
});
