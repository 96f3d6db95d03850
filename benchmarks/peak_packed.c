/* The loops behind peak_packed.h. All is in registers; each sum is added to once a round, and there
 * are as many sums as hide an addition's latency: 4 to 6 cycles, two starting in each at most.
 *
 * Loops are written out in assembly. A compiler would move a product of what does not change out of
 * them, may choose another instruction than the kernels have, and may keep a sum on the stack. */
#include "peak_packed.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cpu/cpu_features.h"

/* A statement for each sum, by its register's number. */
#define EACH_6(ONE) ONE("0") ONE("1") ONE("2") ONE("3") ONE("4") ONE("5")
#define EACH_8(ONE) EACH_6(ONE) ONE("6") ONE("7")
#define EACH_24(ONE)                                                                         \
  EACH_8(ONE) ONE("8") ONE("9") ONE("10") ONE("11") ONE("12") ONE("13") ONE("14") ONE("15")  \
  ONE("16") ONE("17") ONE("18") ONE("19") ONE("20") ONE("21") ONE("22") ONE("23")

#if defined(__x86_64__)

/* Both factors are this number, as many times as they are wide: 1.0 as bfloat16. */
static const int32_t factor = 0x3f803f80;

#define LOOP(CLEAR, BODY, FACTOR, ...)                                                      \
  __asm__ volatile(CLEAR "vpbroadcastd %1, %%" FACTOR "\n1:\n" BODY "dec %0\n jnz 1b\n"     \
                   : "+r"(rounds)                                                           \
                   : "m"(factor)                                                            \
                   : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",  \
                     "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",           \
                     "xmm15" __VA_ARGS__)
#define HIGH                                                                                \
  , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm31"

#endif

#if defined(__AVX2__)
#define CLEAR_Y(N) "vpxor %%ymm" N ", %%ymm" N ", %%ymm" N "\n"
/* Adds two products and leaves the sum to another instruction, as in the kernels. Six and six make
 * 177 GOP/s on a Zen 3 core, one and one 168, its float32 113: it does not spread them evenly over
 * its units. Sums are registers 0 to 5, their products 10 to 15. */
#define MADD_Y(N) "vpmaddwd %%ymm9, %%ymm9, %%ymm1" N "\n"
#define ADD_Y(N) "vpaddd %%ymm1" N ", %%ymm" N ", %%ymm" N "\n"
static void madd_256(int64_t rounds) {
  LOOP(EACH_6(CLEAR_Y), EACH_6(MADD_Y) EACH_6(ADD_Y), "ymm9");
}
#else
#define madd_256 NULL
#endif

#if defined(__AVXVNNI__)
/* Sums are registers 0 to 5 and 10 to 15. Processors may have this form of it alone. */
#define CLEAR_2(N) CLEAR_Y(N) CLEAR_Y("1" N)
#define DPBUSD_Y(N)                                                                         \
  "%{vex%} vpdpbusd %%ymm9, %%ymm9, %%ymm" N "\n%{vex%} vpdpbusd %%ymm9, %%ymm9, %%ymm1" N "\n"
static void dpbusd_256(int64_t rounds) { LOOP(EACH_6(CLEAR_2), EACH_6(DPBUSD_Y), "ymm9"); }
#else
#define dpbusd_256 NULL
#endif

#if defined(__AVX512F__)
#define CLEAR_Z(N) "vpxord %%zmm" N ", %%zmm" N ", %%zmm" N "\n"
#endif

#if defined(__AVX512BW__)
#define MADD_Z(N) "vpmaddwd %%zmm31, %%zmm31, %%zmm1" N "\n"
#define ADD_Z(N) "vpaddd %%zmm1" N ", %%zmm" N ", %%zmm" N "\n"
static void madd_512(int64_t rounds) {
  LOOP(EACH_8(CLEAR_Z), EACH_8(MADD_Z) EACH_8(ADD_Z), "zmm31", HIGH);
}
#else
#define madd_512 NULL
#endif

#if defined(__AVX512VNNI__)
#define DPBUSD(N) "vpdpbusd %%zmm31, %%zmm31, %%zmm" N "\n"
static void dpbusd_512(int64_t rounds) { LOOP(EACH_24(CLEAR_Z), EACH_24(DPBUSD), "zmm31", HIGH); }
#else
#define dpbusd_512 NULL
#endif

#if defined(__AVX512BF16__)
#define DPBF16(N) "vdpbf16ps %%zmm31, %%zmm31, %%zmm" N "\n"
static void dpbf16_512(int64_t rounds) { LOOP(EACH_24(CLEAR_Z), EACH_24(DPBF16), "zmm31", HIGH); }
#else
#define dpbf16_512 NULL
#endif

#if defined(__aarch64__)

#define LOOP(BODY)                                                                          \
  __asm__ volatile(EACH_24(CLEAR_V) "movi v31.16b, #3\n1:\n" BODY                           \
                   "subs %0, %0, #1\n b.ne 1b\n"                                            \
                   : "+r"(rounds)                                                           \
                   :                                                                        \
                   : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9",      \
                     "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19",  \
                     "v20", "v21", "v22", "v23", "v31")
#define CLEAR_V(N) "movi v" N ".4s, #0\n"

#define HALVES(N) "smlal v" N ".4s, v31.4h, v31.4h\n"
static void smlal_16(int64_t rounds) { LOOP(EACH_24(HALVES)); }

/* Each instruction for all sums before the next one: an A53 runs them in order. Sums are v0 to v7,
 * their products v10 to v17. */
#define LOW(N) "smull v1" N ".8h, v31.8b, v31.8b\n"
#define HIGH(N) "smlal2 v1" N ".8h, v31.16b, v31.16b\n"
#define SUM(N) "sadalp v" N ".4s, v1" N ".8h\n"
static void smlal_pairs(int64_t rounds) { LOOP(EACH_8(LOW) EACH_8(HIGH) EACH_8(SUM)); }

#else
#define smlal_16 NULL
#define smlal_pairs NULL
#endif

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define SDOT(N) "sdot v" N ".4s, v31.16b, v31.16b\n"
static void sdot_bytes(int64_t rounds) { LOOP(EACH_24(SDOT)); }
#else
#define sdot_bytes NULL
#endif

/* Operations: 2, times the products of an instruction, times the instructions of a round. */
static const packed_product every[] = {
    {"vpdpbusd", "avx512f avx512_vnni", 2.0 * 64 * 24, dpbusd_512},
    {"vpmaddwd-512", "avx512f avx512bw", 2.0 * 32 * 8, madd_512},
    {"vpdpbusd-256", "avx2 avx_vnni", 2.0 * 32 * 12, dpbusd_256},
    {"vpmaddwd", "avx2", 2.0 * 16 * 6, madd_256},
    {"vdpbf16ps", "avx512f avx512_bf16", 2.0 * 32 * 24, dpbf16_512},
    {"sdot", "asimd asimddp", 2.0 * 16 * 24, sdot_bytes},
    {"smlal-pairs", "asimd", 2.0 * 16 * 8, smlal_pairs},
    {"smlal", "asimd", 2.0 * 4 * 24, smlal_16},
};
enum { EVERY = sizeof every / sizeof every[0] };

/* The first of `features` that this CPU lacks, and its length; NULL where it has them all. */
static const char *lacking(const char *features, int *length) {
  for (const char *next = features; *next; next += *length + (next[*length] == ' ')) {
    char name[32];
    bool known = false;
    *length = (int)strcspn(next, " ");
    snprintf(name, sizeof name, "%.*s", *length, next);
    if (!shiftedge_cpu_has(name, &known)) return next;
  }
  return NULL;
}

/* The end of a sentence: names with commas between, of those that can run here or of all. */
static void say_names(bool all) {
  const char *between = "";
  int length = 0;
  for (int i = 0; i < EVERY; i++) {
    if (!all && (lacking(every[i].features, &length) || !every[i].run)) continue;
    fprintf(stderr, "%s%s", between, every[i].name);
    between = ", ";
  }
  fprintf(stderr, "%s.\n", *between ? "" : "none");
}

const packed_product *find_packed(const char *name) {
  for (int i = 0; i < EVERY; i++) {
    const packed_product *found = &every[i];
    if (strcmp(found->name, name) != 0) continue;
    int length = 0;
    const char *lacked = lacking(found->features, &length);
    if (lacked)
      fprintf(stderr, "This CPU has no %.*s, which %s needs; it can run ", length, lacked, name);
    else if (!found->run)
      fprintf(stderr, "The C compiler does not know %s: install a newer one; it built ", name);
    else
      return found;
    say_names(false);
    return NULL;
  }
  fprintf(stderr, "There is no instruction %s here; known are ", name);
  say_names(true);
  return NULL;
}
