/** The scripts over TLS, which lives on event loops only. A process of their own: one test after the other. */
import { randomBytes } from 'node:crypto';
import { forms, suite } from './forms.js';

const identity = 'host-a';
const key = randomBytes(32);
suite(
  'tls',
  {
    family: 'inet',
    prepare: (layer, fd, role) => {
      const lookup = (name: string): Buffer | null => (name === identity ? key : null);
      layer.setsockopt(fd, 'psk', role === 'connecting' ? { identity, key } : { lookup });
    },
  },
  forms.slice(0, 1),
);
