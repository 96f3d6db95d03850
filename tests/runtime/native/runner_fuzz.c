/* Reads damaged specs, for a sanitizer: runner_fuzz SPEC ROUNDS. Each round changes some bytes of
 * the spec, takes some away, or repeats a part, and reads it from memory of just its length. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spec.h"

static uint32_t seed = 1;

/* Below `limit`; Numerical Recipes' generator, of which the high bits are good. */
static size_t chance(size_t limit) {
    seed = seed * 1664525u + 1013904223u;
    return limit > 0 ? (size_t)(seed >> 8) % limit : 0;
}

static size_t damage(const char *text, size_t length, char *out) {
    static const char bytes[] = "{}[]\",:\\u0129.eE+-tfn \n\xff\xc3\xed\xf4\x80\x01";
    size_t used = length;
    memcpy(out, text, length);
    for (size_t i = chance(6) + 1; i > 0 && used > 0; i--) {
        size_t place = chance(used), count = chance(used - place);
        switch (chance(4)) {
        case 0:
            memmove(out + place, out + place + count, used - place - count);
            used -= count;
            break;
        case 1:
            if (used + count <= 4 * length) {
                memmove(out + place + count, out + place, used - place);
                used += count;
            }
            break;
        default:
            out[place] = chance(9) == 0 ? (char)chance(256) : bytes[chance(sizeof bytes)];
        }
    }
    return used;
}

int main(int count, char **words) {
    if (count != 3) {
        return 2;
    }
    size_t length = strlen(words[1]), good = 0, rounds = (size_t)atol(words[2]);
    char *room = malloc(4 * length);
    for (size_t i = 0; room != NULL && i < rounds; i++) {
        spec spec;
        failure failure = {""};
        size_t used = damage(words[1], length, room);
        char *exact = malloc(used > 0 ? used : 1);
        if (exact == NULL) {
            return 1;
        }
        memcpy(exact, room, used);
        if (spec_read(&spec, exact, used, &failure)) {
            good++;
            spec_close(&spec);
        } else if (failure.text[0] == '\0') {
            return 1;
        }
        free(exact);
    }
    free(room);
    printf("%zu\n", good);
    return 0;
}
