/**
 * Addresses of `stpctl forward`: what is taken, and what each mistake is answered with.
 */
import test from 'ava';
import { addressText, checkPair, parseAddress } from '../../../src/ctl/stpctl/forward-address.js';

test('each form is taken, and printed as it may be typed', (t) => {
  for (const [typed, expected] of [
    ['stp:demo:5432', { kind: 'stp', stg: 'demo', port: 5432 }],
    ['stp:a.b-c_1:0', { kind: 'stp', stg: 'a.b-c_1', port: 0 }],
    ['tcp:localhost:80', { kind: 'tcp', host: 'localhost', port: 80 }],
    ['tcp:10.0.0.1:65535', { kind: 'tcp', host: '10.0.0.1', port: 65535 }],
    ['tcp:[::1]:5432', { kind: 'tcp', host: '::1', port: 5432 }],
    ['unix:/run/a:b.sock', { kind: 'unix', path: '/run/a:b.sock' }],
  ] as const) {
    t.deepEqual(parseAddress(typed), expected);
    t.is(addressText(parseAddress(typed)), typed);
  }
});

test('short forms: a TCP port alone is the loopback, a relative path is made whole, - is stdio', (t) => {
  t.deepEqual(parseAddress('tcp:5432'), { kind: 'tcp', host: '127.0.0.1', port: 5432 });
  t.deepEqual(parseAddress('unix:a.sock'), { kind: 'unix', path: `${process.cwd()}/a.sock` });
  t.deepEqual(parseAddress('-'), { kind: 'stdio' });
  t.deepEqual(parseAddress('stdio'), { kind: 'stdio' });
});

for (const [typed, message] of [
  ['', /'' is no address: use one of stp:STG:PORT, tcp:HOST:PORT, tcp:PORT, unix:PATH, - or stdio/],
  ['demo:5432', /'demo:5432' is no address: use one of/],
  ['TCP:1', /'TCP:1' is no address: use one of/],
  ['/run/a.sock', /is no address: use one of/],
  ['stp:demo', /'stp:demo' is no address: it needs an STG and a port, such as stp:demo:5432/],
  ['stp::5432', /'' is no name of an STG; 'stpctl stg list' shows those there are/],
  ['stp:a/b:5432', /'a\/b' is no name of an STG/],
  ['stp:demo:', /'' is no port; give a whole number from 0 to 65535/],
  ['stp:demo:-1', /'-1' is no port/],
  ['stp:demo:65536', /'65536' is no port/],
  ['stp:demo:0x50', /'0x50' is no port/],
  ['tcp:http', /'http' is no port/],
  ['tcp::80', /the host is missing; tcp:PORT is for 127\.0\.0\.1, tcp:0\.0\.0\.0:PORT for all/],
  ['tcp:::1:80', /an IPv6 address stands in brackets, such as tcp:\[::1\]:5432/],
  ['tcp:[::1:80', /in brackets stands an IPv6 address/],
  ['tcp:[localhost]:80', /in brackets stands an IPv6 address/],
  ['unix:', /the path is missing, as in unix:\/run\/demo\.sock/],
  [`unix:/${'x'.repeat(107)}`, /the kernel takes paths of at most 107 bytes .* has 108; choose a/],
] as const) {
  test(`refused: ${typed.slice(0, 40)}`, (t) => {
    const error = t.throws(() => parseAddress(typed), { code: 'EINVAL' });
    t.regex(error?.message ?? '', message);
  });
}

for (const [from, to, message] of [
  ['-', 'stdio', /both addresses are stdio/],
  ['tcp:1', 'tcp:0', /tcp:127\.0\.0\.1:0 cannot be connected to: port 0 stands for any free one/],
  ['-', 'stp:demo:0', /stp:demo:0 cannot be connected to/],
  ['tcp:5', 'tcp:127.0.0.1:5', /tcp:127\.0\.0\.1:5 would be forwarded to itself, without end/],
  ['unix:/a/../b', 'unix:/b', /unix:\/b would be forwarded to itself/],
] as const) {
  test(`refused together: ${from} and ${to}`, (t) => {
    const error = t.throws(() => checkPair(parseAddress(from), parseAddress(to)), {
      code: 'EINVAL',
    });
    t.regex(error?.message ?? '', message);
  });
}
