/* Names are those of /proc/cpuinfo, but the file is not read: a program may run where /proc is not
 * mounted. x86 is asked itself, ARM's kernel passes the answer to each process. What the environment
 * takes away from it (runtime/process/cpu.py says why) is read whenever a model is opened.
 *
 * This file, like all of this folder, is compiled for the architecture's baseline. Compiled for the
 * kernels' CPU, the check itself could be what the wrong CPU dies of. */
#define _GNU_SOURCE

#include "cpu.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "shiftedge.h"

#define WITHOUT "SHIFTEDGE_CPU_WITHOUT"

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

#define ARCHITECTURE "x86"

/* Intel 64 manual, volume 2A, CPUID; AMD64 manual, volume 3, appendix E. */
enum { LEAF_1_ECX, LEAF_1_EDX, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX, LEAF_7_1_EAX, LEAF_EXT_ECX };

/* Registers that the operating system must save when it switches threads, or the instructions
 * fault: bits of XCR0. Intel 64 manual, volume 1, 13.3. */
enum {
    NO_STATE = 0,
    AVX_STATE = 0x06,    /* XMM, upper halves of YMM */
    AVX512_STATE = 0xe6, /* and masks, upper halves of ZMM0-15, ZMM16-31 */
};

typedef struct feature {
    const char *name;
    uint8_t word;
    uint8_t bit;
    uint8_t state;
} feature;

static const feature features[] = {
    {"sse", LEAF_1_EDX, 25, NO_STATE},
    {"sse2", LEAF_1_EDX, 26, NO_STATE},
    {"pni", LEAF_1_ECX, 0, NO_STATE}, /* what Linux calls SSE3 */
    {"sse3", LEAF_1_ECX, 0, NO_STATE},
    {"pclmulqdq", LEAF_1_ECX, 1, NO_STATE},
    {"ssse3", LEAF_1_ECX, 9, NO_STATE},
    {"fma", LEAF_1_ECX, 12, AVX_STATE},
    {"cx16", LEAF_1_ECX, 13, NO_STATE},
    {"sse4_1", LEAF_1_ECX, 19, NO_STATE},
    {"sse4_2", LEAF_1_ECX, 20, NO_STATE},
    {"movbe", LEAF_1_ECX, 22, NO_STATE},
    {"popcnt", LEAF_1_ECX, 23, NO_STATE},
    {"aes", LEAF_1_ECX, 25, NO_STATE},
    {"xsave", LEAF_1_ECX, 26, NO_STATE},
    {"avx", LEAF_1_ECX, 28, AVX_STATE},
    {"f16c", LEAF_1_ECX, 29, AVX_STATE},
    {"bmi1", LEAF_7_EBX, 3, NO_STATE},
    {"avx2", LEAF_7_EBX, 5, AVX_STATE},
    {"bmi2", LEAF_7_EBX, 8, NO_STATE},
    {"avx512f", LEAF_7_EBX, 16, AVX512_STATE},
    {"avx512dq", LEAF_7_EBX, 17, AVX512_STATE},
    {"avx512ifma", LEAF_7_EBX, 21, AVX512_STATE},
    {"avx512cd", LEAF_7_EBX, 28, AVX512_STATE},
    {"avx512bw", LEAF_7_EBX, 30, AVX512_STATE},
    {"avx512vl", LEAF_7_EBX, 31, AVX512_STATE},
    {"avx512vbmi", LEAF_7_ECX, 1, AVX512_STATE},
    {"avx512_vbmi2", LEAF_7_ECX, 6, AVX512_STATE},
    {"avx512_vnni", LEAF_7_ECX, 11, AVX512_STATE},
    {"avx512_bitalg", LEAF_7_ECX, 12, AVX512_STATE},
    {"avx512_vpopcntdq", LEAF_7_ECX, 14, AVX512_STATE},
    {"avx512_fp16", LEAF_7_EDX, 23, AVX512_STATE},
    {"avx_vnni", LEAF_7_1_EAX, 4, AVX_STATE},
    {"avx512_bf16", LEAF_7_1_EAX, 5, AVX512_STATE},
    {"lahf_lm", LEAF_EXT_ECX, 0, NO_STATE},
    {"abm", LEAF_EXT_ECX, 5, NO_STATE}, /* LZCNT; POPCNT is above */
    {"lzcnt", LEAF_EXT_ECX, 5, NO_STATE},
};

/* A register of a leaf; 0 where the CPU has no such leaf. */
static uint32_t read_word(uint8_t word) {
    uint32_t leaf = word == LEAF_EXT_ECX ? 0x80000001u : word <= LEAF_1_EDX ? 1u : 7u;
    unsigned int eax = 0;
    unsigned int ebx = 0;
    unsigned int ecx = 0;
    unsigned int edx = 0;
    /* Subleaf 0. Leaf 7 answers there, in EAX, which subleaves it has. */
    if (!__get_cpuid_count(leaf, 0, &eax, &ebx, &ecx, &edx)) {
        return 0;
    }
    switch (word) {
    case LEAF_7_EBX:
        return ebx;
    case LEAF_1_ECX:
    case LEAF_7_ECX:
    case LEAF_EXT_ECX:
        return ecx;
    case LEAF_1_EDX:
    case LEAF_7_EDX:
        return edx;
    default: /* LEAF_7_1_EAX */
        if (eax < 1 || !__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) {
            return 0;
        }
        return eax;
    }
}

/* XCR0, or 0 where the system has not switched it on. */
static uint32_t saved_state(void) {
    if ((read_word(LEAF_1_ECX) >> 27 & 1) == 0) { /* OSXSAVE: or XGETBV itself would fault */
        return 0;
    }
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(const feature *wanted) {
    return (read_word(wanted->word) >> wanted->bit & 1) != 0 &&
           (saved_state() & wanted->state) == wanted->state;
}

#elif defined(__linux__) && (defined(__aarch64__) || defined(__arm__))

#include <sys/auxv.h>

typedef struct feature {
    const char *name;
    uint8_t word; /* 0: AT_HWCAP, 1: AT_HWCAP2 */
    uint8_t bit;
} feature;

#if defined(__aarch64__)

#define ARCHITECTURE "aarch64"

/* Linux, arch/arm64/include/uapi/asm/hwcap.h. */
static const feature features[] = {
    {"fp", 0, 0},        {"asimd", 0, 1},     {"aes", 0, 3},      {"pmull", 0, 4},
    {"sha1", 0, 5},      {"sha2", 0, 6},      {"crc32", 0, 7},    {"atomics", 0, 8},
    {"fphp", 0, 9},      {"asimdhp", 0, 10},  {"asimdrdm", 0, 12}, {"jscvt", 0, 13},
    {"fcma", 0, 14},     {"lrcpc", 0, 15},    {"dcpop", 0, 16},   {"sha3", 0, 17},
    {"asimddp", 0, 20},  {"sha512", 0, 21},   {"sve", 0, 22},     {"asimdfhm", 0, 23},
    {"dit", 0, 24},      {"uscat", 0, 25},    {"ilrcpc", 0, 26},  {"flagm", 0, 27},
    {"ssbs", 0, 28},     {"sb", 0, 29},       {"paca", 0, 30},    {"pacg", 0, 31},
    {"dcpodp", 1, 0},    {"sve2", 1, 1},      {"flagm2", 1, 7},   {"frint", 1, 8},
    {"svei8mm", 1, 9},   {"svebf16", 1, 12},  {"i8mm", 1, 13},    {"bf16", 1, 14},
    {"bti", 1, 17},
};

#else

#define ARCHITECTURE "32-bit ARM"

/* Linux, arch/arm/include/uapi/asm/hwcap.h. */
static const feature features[] = {
    {"half", 0, 1},      {"thumb", 0, 2},     {"fastmult", 0, 4}, {"vfp", 0, 6},
    {"edsp", 0, 7},      {"neon", 0, 12},     {"vfpv3", 0, 13},   {"vfpv3d16", 0, 14},
    {"tls", 0, 15},      {"vfpv4", 0, 16},    {"idiva", 0, 17},   {"idivt", 0, 18},
    {"vfpd32", 0, 19},   {"lpae", 0, 20},     {"fphp", 0, 22},    {"asimdhp", 0, 23},
    {"asimddp", 0, 24},  {"asimdfhm", 0, 25}, {"asimdbf16", 0, 26}, {"i8mm", 0, 27},
    {"aes", 1, 0},       {"pmull", 1, 1},     {"sha1", 1, 2},     {"sha2", 1, 3},
    {"crc32", 1, 4},
};

#endif

static bool has(const feature *wanted) {
    return (getauxval(wanted->word == 0 ? AT_HWCAP : AT_HWCAP2) >> wanted->bit & 1) != 0;
}

#else

#define ARCHITECTURE "this architecture"

typedef struct feature {
    const char *name;
    uint8_t word;
    uint8_t bit;
} feature;

static const feature features[] = {{"", 0, 0}};

static bool has(const feature *wanted) {
    (void)wanted;
    return false;
}

#endif

/* As Python's split() has it. */
#define SPACE " \t\n"

/* The next word of a space-separated list, whose rest remains; its length is 0 at the end. */
static const char *next_word(const char **list, size_t *length) {
    const char *word = *list + strspn(*list, SPACE);
    *length = strcspn(word, SPACE);
    *list = word + *length;
    return word;
}

static const feature *find(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        if (length > 0 && strncmp(features[i].name, name, length) == 0 &&
            features[i].name[length] == '\0') {
            return &features[i];
        }
    }
    return NULL;
}

/* A bit that has two names is taken away by either. */
static bool taken_away(const feature *wanted) {
    const char *list = getenv(WITHOUT);
    size_t length = 0;
    for (const char *word; list != NULL && (word = next_word(&list, &length), length > 0);) {
        const feature *named = find(word, length);
        if (named != NULL && named->word == wanted->word && named->bit == wanted->bit) {
            return true;
        }
    }
    return false;
}

static bool remains(const feature *wanted) { return has(wanted) && !taken_away(wanted); }

bool shiftedge_cpu_has(const char *name, bool *known) {
    const feature *wanted = find(name, strlen(name));
    *known = wanted != NULL;
    return *known && remains(wanted);
}

/* What a sentence shows of a name. */
static int shown(size_t length) { return (int)(length < 100 ? length : 100); }

static int check_environment(void) {
    const char *list = getenv(WITHOUT);
    size_t length = 0;
    for (const char *word; list != NULL && (word = next_word(&list, &length), length > 0);) {
        if (find(word, length) == NULL) {
            return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                                  WITHOUT " names %.*s, which is no CPU feature that is known on "
                                  ARCHITECTURE ": expected names as in /proc/cpuinfo with spaces "
                                  "between.",
                                  shown(length), word);
        }
    }
    return SHIFTEDGE_OK;
}

int shiftedge_check_cpu(const char *list) {
    int status = check_environment();
    size_t length = 0;
    for (const char *word; status == SHIFTEDGE_OK && list != NULL &&
                           (word = next_word(&list, &length), length > 0);) {
        const feature *wanted = find(word, length);
        if (wanted == NULL) {
            status = shiftedge_fail(SHIFTEDGE_ERROR_PROGRAM,
                                    "This libmodel.so asks for the CPU feature %.*s, which is not "
                                    "known on " ARCHITECTURE ": compile the model again.",
                                    shown(length), word);
        } else if (!remains(wanted)) {
            status = shiftedge_fail(SHIFTEDGE_ERROR_CPU,
                                    "This libmodel.so needs a CPU with %s, which this one has "
                                    "not: compile the model for another target.",
                                    wanted->name);
        }
    }
    return status;
}
