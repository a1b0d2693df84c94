/**
 * The part `media` of the server's configuration: how sets are cut, compressed and encrypted, and
 * with what they are read again. Any thread; reads files once.
 */
import path from 'node:path';
import { messageOf } from '../errors.js';
import { type Identity, readIdentityFile } from '../library/age-keys.js';
import { ConfigurationError } from './config-error.js';
import { compressLevel, type MediaSettings } from './media-data.js';
import type { MediaFields } from './media-schema.js';

/** @throws ConfigurationError for an identity file that cannot be read */
export function mediaSettings(configFile: string, media: MediaFields): MediaSettings {
  const absolute = (p: string): string => path.resolve(path.dirname(path.resolve(configFile)), p);
  const read = (where: string, name: string): Identity[] => {
    try {
      return readIdentityFile(absolute(name));
    } catch (e) {
      throw new ConfigurationError(`${configFile}: media.${where}: ${messageOf(e)}`);
    }
  };
  const { volumeBytes, compress, recipients, listIdentity } = media;
  const lists = listIdentity === undefined ? [] : read('listIdentity', listIdentity);
  const others = media.identities.flatMap((name) => read('identities', name));
  return {
    plan: {
      volumeBytes,
      level: compressLevel(compress),
      recipients,
      listRecipient: lists[0]?.recipient.text,
    },
    access: {
      search: media.search.map(absolute),
      identities: [...lists, ...others].map(({ text }) => text),
    },
  };
}
