/* SHA-256 of the first 0, 1, ... bytes of a pattern, a line each: as on any CPU, then, where this one
 * has instructions for it, with those. */
#include <stdio.h>
#include <stdlib.h>

#include "sha256.h"

static void print(const uint8_t *data, size_t bytes, sha256_blocks *take) {
    uint8_t digest[SHA256_DIGEST_BYTES];
    sha256 sum;
    sha256_open(&sum, take);
    sha256_update(&sum, data, bytes);
    sha256_close(&sum, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        printf("%02x", digest[i]);
    }
}

int main(int count, char **words) {
    static uint8_t data[4096];
    size_t lengths = count == 2 ? (size_t)atoi(words[1]) : 0;
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(7 * i);
    }
    for (size_t length = 0; length < lengths && length <= sizeof data; length++) {
        print(data, length, sha256_portable);
        if (sha256_instructions() != NULL) {
            (void)putchar(' ');
            print(data, length, sha256_instructions());
        }
        (void)putchar('\n');
    }
    return 0;
}
