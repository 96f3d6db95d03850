#include "sha256.h"

#include <stdbool.h>
#include <string.h>

/* FIPS 180-4, 4.2.2. */
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turned(uint32_t value, int by) { return value >> by | value << (32 - by); }

static uint32_t big_endian(const uint8_t *data) {
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

/* 6.2.2, with the standard's names. */
void sha256_portable(uint32_t state[8], const uint8_t *data, size_t count) {
    for (; count > 0; count--, data += SHA256_BLOCK_BYTES) {
        uint32_t w[64];
        for (int t = 0; t < 16; t++) {
            w[t] = big_endian(data + 4 * t);
        }
        for (int t = 16; t < 64; t++) {
            uint32_t x = w[t - 15], y = w[t - 2];
            w[t] = w[t - 16] + (turned(x, 7) ^ turned(x, 18) ^ x >> 3) + w[t - 7] +
                   (turned(y, 17) ^ turned(y, 19) ^ y >> 10);
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; t++) {
            uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) +
                           (g ^ (e & (f ^ g))) + constants[t] + w[t];
            uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) +
                           ((a & b) | (c & (a | b)));
            h = g, g = f, f = e, e = d + one;
            d = c, c = b, b = a, a = one + two;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* Intel, "New Instructions Supporting the Secure Hash Algorithm": the state lies in two registers
 * as (f, e, b, a) and (h, g, d, c), from the low word on; one instruction makes two rounds, and two
 * make the next four words of the schedule. */
__attribute__((target("sha,sse4.1,ssse3"))) static void with_instructions(uint32_t state[8],
                                                                           const uint8_t *data,
                                                                           size_t count) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
    for (; count > 0; count--, data += SHA256_BLOCK_BYTES) {
        const __m128i *words = (const __m128i *)data;
        __m128i abef_before = abef, cdgh_before = cdgh, w[4];
        for (int i = 0; i < 4; i++) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128(words + i), swap);
        }
        /* Written out, so that w[] is registers. */
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i now = w[i % 4], last = w[(i + 3) % 4];
            __m128i four = _mm_loadu_si128((const __m128i *)(constants + 4 * i));
            four = _mm_add_epi32(four, now);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, four);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(four, 0x0e));
            /* The words of 16 rounds later, the last four times of none. */
            now = _mm_sha256msg1_epu32(now, w[(i + 1) % 4]);
            now = _mm_add_epi32(now, _mm_alignr_epi8(last, w[(i + 2) % 4], 4));
            w[i % 4] = _mm_sha256msg2_epu32(now, last);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static bool has_instructions(void) {
    unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;
    bool shuffles = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_SSSE3) != 0 &&
                    (ecx & bit_SSE4_1) != 0;
    return shuffles && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_SHA) != 0;
}

#elif defined(__aarch64__) && (!defined(__clang__) || __clang_major__ >= 16)

#include <arm_neon.h>
#include <sys/auxv.h>

#ifndef HWCAP_SHA2
#define HWCAP_SHA2 (1 << 6) /* asm/hwcap.h of Linux */
#endif

/* Arm, "Arm Architecture Reference Manual", SHA256H and its kin: an instruction makes four rounds
 * of one half of the state, another the other half, and two the next four words. */
__attribute__((target("+sha2"))) static void with_instructions(uint32_t state[8],
                                                               const uint8_t *data, size_t count) {
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; count > 0; count--, data += SHA256_BLOCK_BYTES) {
        uint32x4_t abcd_before = abcd, efgh_before = efgh, w[4];
        for (int i = 0; i < 4; i++) {
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
        }
        /* Written out, so that w[] is registers. */
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            uint32x4_t four = vaddq_u32(w[i % 4], vld1q_u32(constants + 4 * i)), abcd_now = abcd;
            abcd = vsha256hq_u32(abcd, efgh, four);
            efgh = vsha256h2q_u32(efgh, abcd_now, four);
            /* The words of 16 rounds later, the last four times of none. */
            w[i % 4] = vsha256su1q_u32(vsha256su0q_u32(w[i % 4], w[(i + 1) % 4]), w[(i + 2) % 4],
                                       w[(i + 3) % 4]);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

static bool has_instructions(void) { return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0; }

#else

#define with_instructions sha256_portable /* never asked for */
static bool has_instructions(void) { return false; }

#endif

sha256_blocks *sha256_instructions(void) { return has_instructions() ? with_instructions : NULL; }

void sha256_open(sha256 *sha256, sha256_blocks *take) {
    /* FIPS 180-4, 5.3.3. */
    *sha256 = (struct sha256){
        .take = take != NULL ? take : sha256_instructions(),
        .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                  0x1f83d9ab, 0x5be0cd19},
    };
    sha256->take = sha256->take != NULL ? sha256->take : sha256_portable;
}

void sha256_update(sha256 *sha256, const void *data, size_t bytes) {
    const uint8_t *at = data;
    size_t used = (size_t)(sha256->bytes % SHA256_BLOCK_BYTES);
    sha256->bytes += bytes;
    if (used > 0) {
        size_t count = SHA256_BLOCK_BYTES - used < bytes ? SHA256_BLOCK_BYTES - used : bytes;
        memcpy(sha256->part + used, at, count);
        at += count;
        bytes -= count;
        if (used + count < SHA256_BLOCK_BYTES) {
            return;
        }
        sha256->take(sha256->state, sha256->part, 1);
    }
    size_t whole = bytes / SHA256_BLOCK_BYTES;
    sha256->take(sha256->state, at, whole);
    if (bytes % SHA256_BLOCK_BYTES > 0) {
        memcpy(sha256->part, at + whole * SHA256_BLOCK_BYTES, bytes % SHA256_BLOCK_BYTES);
    }
}

/* Most significant byte first. */
static void write_big_endian(uint8_t *out, uint64_t value, size_t bytes) {
    for (size_t i = bytes; i > 0; i--, value >>= 8) {
        out[i - 1] = (uint8_t)value;
    }
}

void sha256_close(sha256 *sha256, uint8_t digest[SHA256_DIGEST_BYTES]) {
    /* 5.1.1: a bit, zeros, and the length in bits, so that the last block is full. */
    uint8_t padding[SHA256_BLOCK_BYTES + 8] = {0x80};
    size_t used = (size_t)(sha256->bytes % SHA256_BLOCK_BYTES);
    size_t zeros = (used < 56 ? 56 : 120) - used;
    write_big_endian(padding + zeros, sha256->bytes * 8, 8);
    sha256_update(sha256, padding, zeros + 8);
    for (size_t i = 0; i < 8; i++) {
        write_big_endian(digest + 4 * i, sha256->state[i], 4);
    }
}
