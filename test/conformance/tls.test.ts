import { randomBytes } from 'node:crypto';
import test from 'ava';
import { STPConnect } from '../../src/connect/stp-connect.js';
import { conformance } from './suite.js';

const identity = 'host-a';
const key = randomBytes(32);

conformance(test, {
  name: 'tls',
  family: 'inet',
  make: async () => ({ client: new STPConnect(), server: new STPConnect() }),
  prepare: (layer, fd, role) => {
    const lookup = (name: string): Buffer | null => (name === identity ? key : null);
    layer.setsockopt(fd, 'psk', role === 'connecting' ? { identity, key } : { lookup });
  },
});
