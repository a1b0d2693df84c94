/*
 * The ranges of memory behind the segments of this process.
 */
#ifndef STPD_SEGMENT_H
#define STPD_SEGMENT_H

#include <cstdint>

namespace stpd {

/*
 * The first byte of a segment, or null if there is no segment of that number. `bytes`, unless null,
 * gets the length of the range. Any thread; takes no lock. The range stays for as long as the
 * process does, but which parts of it may be written is for the caller to know.
 */
uint8_t* segmentBase(uint32_t segment, uint64_t* bytes);

}  // namespace stpd

#endif
