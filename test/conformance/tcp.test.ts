import test from 'ava';
import { STPConnect } from '../../src/connect/stp-connect.js';
import { conformance } from './suite.js';

conformance(test, {
  name: 'tcp',
  family: 'inet',
  make: async () => ({ client: new STPConnect(), server: new STPConnect() }),
});
