/* Structs of options that a caller fills in, whose header may be older or newer than this library. */
#ifndef SHIFTEDGE_OPTIONS_H
#define SHIFTEDGE_OPTIONS_H

#include <stddef.h>

/* Take what the caller's header knew; leave the rest zero.
 *
 * options: `bytes` of the struct called `name`, which begins with its uint32_t size.
 * given: the caller's.
 * least: bytes that every header had.
 *
 * Returns a shiftedge_status: what this library does not know must be zero. */
int shiftedge_read_options(void *options, size_t bytes, const void *given, size_t least,
                           const char *name);

#endif
