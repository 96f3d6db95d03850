#include "clip.h"

/* Numbers without a pattern from numbers with one. */
static uint32_t mix(uint32_t n) {
    n ^= n >> 16;
    n *= 0x7feb352du;
    n ^= n >> 15;
    n *= 0x846ca68bu;
    return n ^ (n >> 16);
}

static uint8_t texel(uint32_t layer, uint32_t row, uint32_t column, uint32_t cell,
                     uint32_t channel) {
    uint32_t which = 4 * layer + channel;
    uint32_t patch = mix((row / cell * 4099u + column / cell) * 8u + which);
    uint32_t grain = mix((row * 65537u + column) * 8u + which + 0x9e3779b9u);
    return (uint8_t)((patch & 255u) ^ (grain & 15u));
}

void clip_frame(uint8_t *frame, int height, int width, int index) {
    uint32_t h = (uint32_t)height, w = (uint32_t)width, t = (uint32_t)index;
    uint32_t longer = h > w ? h : w, shorter = h > w ? w : h;
    uint32_t cell = longer / 12 > 0 ? longer / 12 : 1;
    uint32_t side = shorter / 3 > 0 ? shorter / 3 : 1;
    uint32_t drift = t * (1 + cell / 4);
    for (uint32_t y = 0; y < h; y++) {
        uint32_t down = (y + h - drift % h) % h;
        for (uint32_t x = 0; x < w; x++) {
            uint32_t right = (x + w - 2 * drift % w) % w;
            for (uint32_t c = 0; c < 3; c++) {
                *frame++ = down < side && right < side
                               ? texel(1, down, right, cell, c)
                               : texel(0, y + drift, x + drift, cell, c);
            }
        }
    }
}
