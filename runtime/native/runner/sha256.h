/* SHA-256 (FIPS 180-4), of data that comes in pieces.
 *
 * The first prediction of a camera waits for the checksum of some megabytes of library, so the
 * instructions that a CPU has for it are used: five times as fast as what C becomes. */
#ifndef RUNNER_SHA256_H
#define RUNNER_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK_BYTES 64
#define SHA256_DIGEST_BYTES 32

/* Takes `count` whole blocks into the state. */
typedef void sha256_blocks(uint32_t state[8], const uint8_t *data, size_t count);

typedef struct sha256 {
    sha256_blocks *take;
    uint32_t state[8];
    uint64_t bytes;                    /* taken so far */
    uint8_t part[SHA256_BLOCK_BYTES]; /* of a block: its first bytes % SHA256_BLOCK_BYTES */
} sha256;

/* For any CPU. */
void sha256_portable(uint32_t state[8], const uint8_t *data, size_t count);

/* With this CPU's instructions for it; NULL: it has none, or the compiler knows none. */
sha256_blocks *sha256_instructions(void);

/* take: one of the above; NULL: the faster. */
void sha256_open(sha256 *sha256, sha256_blocks *take);
void sha256_update(sha256 *sha256, const void *data, size_t bytes);
void sha256_close(sha256 *sha256, uint8_t digest[SHA256_DIGEST_BYTES]);

#endif
