import { randomInt } from 'node:crypto';
import { isIPv6 } from 'node:net';
import test from 'ava';
import { addressText, addressWords } from '../../../src/memory/address-words.js';

test('addresses come back as they are usually written', (t) => {
  for (const address of [
    '127.0.0.1',
    '255.255.255.255',
    '::1',
    'fe80::1',
    '2001:db8::8:800:200c:417a',
    '2001:db8:1:2:3:4:5:6',
    '2001:0:0:1::',
    '1::2:0:0:3',
  ]) {
    const back = addressText(addressWords(address));
    t.deepEqual(addressWords(back ?? ''), addressWords(address), `${address} became ${back}`);
  }
  t.is(addressText(addressWords('2001:db8::8:800:200c:417a')), '2001:db8::8:800:200c:417a');
  t.is(addressText(addressWords('192.168.7.9')), '192.168.7.9');
});

test('an IPv4 address inside of IPv6 is the IPv4 address; a zone is left out', (t) => {
  t.is(addressText(addressWords('::ffff:10.1.2.3')), '10.1.2.3');
  t.is(addressText(addressWords('fe80::12%eth0')), 'fe80::12');
});

test('what is no address is none', (t) => {
  for (const text of ['', 'localhost', '1.2.3', '::g', '1.2.3.256']) {
    t.deepEqual(addressWords(text), [0, 0, 0, 0]);
  }
  t.is(addressText([0, 0, 0, 0]), null);
});

test('any four words give an address that is valid and gives the same words', (t) => {
  for (let i = 0; i < 1000; i++) {
    const words = Array.from({ length: 4 }, () => (randomInt(4) === 0 ? 0 : randomInt(2 ** 32)));
    const text = addressText(words);
    if (text === null) continue;
    t.true(isIPv6(text) || words[2] === 0xffff, `${words} gave ${text}`);
    t.deepEqual([...addressWords(text)], words, text);
  }
});
