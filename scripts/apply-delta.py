#!/usr/bin/env python3
"""Applies block deltas without stpd: apply-delta.py FILE PATH MEDIUM...

FILE is PATH (as stored, without its first slash) as tar extracted it from the set that has it in
full; it is changed in place. MEDIUM... are the tar files of the sets behind that one, in the order
of the chain. Compare the result with the blake3 of its manifest line: b3sum FILE (of a file without
holes).
"""
import sys
import tarfile

target, path, *media = sys.argv[1:]
prefix = f".stp-delta/{path}/"
with open(target, "r+b") as out:
    for medium in media:
        with tarfile.open(medium) as tar, open(medium, "rb") as raw:
            for member in tar:
                if member.name == f"{prefix}map":
                    # How many segments have data, then offset and bytes of each, up to the end.
                    numbers = tar.extractfile(member).read().split(b"\n")
                    count = int(numbers[0])
                    ends = [int(n) for n in numbers[1 : 1 + 2 * count]]
                    end = 0
                    segments = list(zip(ends[::2], ends[1::2]))
                    out.truncate(sum(segments[-1]))
                    for offset, size in segments:
                        out.seek(end)
                        while end < offset:
                            end += out.write(bytes(min(offset - end, 1 << 20)))
                        end = offset + size
                elif member.name.startswith(prefix) and member.issparse():
                    raw.seek(member.offset_data)
                    for offset, size in member.sparse:
                        out.seek(offset)
                        out.write(raw.read(size))
