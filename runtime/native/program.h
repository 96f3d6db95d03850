/* What the compiler writes for one model, as far as it is the same for every backend: the spec, the
 * size of the states, the names of the kernels, and which executor runs them by which plan.
 *
 * The generated source defines `shiftedge_program_table` and the plan; the rest of this folder is the
 * same for every model.
 */
#ifndef SHIFTEDGE_PROGRAM_H
#define SHIFTEDGE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "executor.h"
#include "shiftedge.h"

struct shiftedge_program {
    const shiftedge_spec *spec;
    const char *spec_json; /* the same, UTF-8, ended by a 0 */
    uint64_t fingerprint;  /* of weights and state layout, not 0: a state of another fingerprint is
                              refused */
    uint64_t state_bytes;  /* all states, without the block's header; may be 0 */
    uint32_t kernel_count; /* at least 1 */
    const char *const *kernel_names; /* in the order of a step, for messages and profiles */
    const shiftedge_executor *executor;
    const void *plan; /* the executor's own: of cpu/, a shiftedge_cpu_plan */
};

extern const shiftedge_program shiftedge_program_table;

/* Bytes of a frame with packed rows. */
static inline size_t shiftedge_frame_bytes(const shiftedge_program *program) {
    return (size_t)program->spec->height * (size_t)program->spec->width * 3;
}

static inline size_t shiftedge_round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* The first 64 bytes of a state block; the states follow. All zero in a fresh one. */
typedef struct shiftedge_state_header {
    uint32_t magic;       /* SHIFTEDGE_STATE_MAGIC from the first step on */
    uint32_t version;     /* SHIFTEDGE_STATE_VERSION */
    uint64_t block_bytes; /* shiftedge_state_size() */
    uint64_t fingerprint; /* of the program */
    uint64_t owner;       /* 0, or made of process and address while a step runs: see model.c */
    uint64_t reserved[4]; /* 0 */
} shiftedge_state_header;

_Static_assert(sizeof(shiftedge_state_header) == 64, "the states begin at a multiple of 64 bytes");

#define SHIFTEDGE_STATE_MAGIC 0x53456c73u /* "slES" in memory of a little-endian machine */
#define SHIFTEDGE_STATE_VERSION 1u

#endif
