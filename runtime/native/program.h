/* What the compiler writes for one model: a constant table of kernels, and how the step runs it.
 *
 * The generated source defines `shiftedge_program_table`; the rest of this folder is the same for
 * every model. A step runs the kernels in order. Each kernel has `units` units of work, cut into
 * one contiguous range per thread, or several; all are done before the next kernel begins, so a
 * kernel sees everything that earlier ones wrote. Which thread runs a unit depends on the number
 * of threads and on chance, what a unit computes must not: it writes only what is its own, and
 * reads nothing that another unit of the same kernel writes.
 */
#ifndef SHIFTEDGE_PROGRAM_H
#define SHIFTEDGE_PROGRAM_H

#include <stdint.h>

#pragma GCC visibility push(hidden)

/* Raised with any change of this file that old tables do not survive. */
#define SHIFTEDGE_PROGRAM_ABI 2u

/* Memory that a kernel's argument lies in. All begin at a multiple of 64 bytes but FRAME. No two
 * overlap. */
typedef enum shiftedge_buffer_kind {
    SHIFTEDGE_FRAME = 0,      /* read: the frame, uint8 (height, width, 3) BGR, rows packed, at a
                                 multiple of `frame_alignment`; not a byte past its end may be
                                 read */
    SHIFTEDGE_WEIGHTS = 1,    /* read: constants of the library */
    SHIFTEDGE_STATE = 2,      /* read: the states as the last frame left them */
    SHIFTEDGE_NEXT_STATE = 3, /* write: the states for the next frame, same offsets as in STATE */
    SHIFTEDGE_WORKSPACE = 4,  /* read and write: what kernels leave for later ones, of undefined
                                 content when a step begins */
    SHIFTEDGE_LOGITS = 5,     /* write: float (classes) */
    SHIFTEDGE_SCRATCH = 6,    /* read and write: a block that each thread has for itself, of
                                 undefined content when a kernel is called */
} shiftedge_buffer_kind;

/* STATE and NEXT_STATE are different memory. A step writes NEXT_STATE in the model's own memory
 * and copies it over the caller's block when all kernels are done, so a kernel that fails, or a
 * caller that is refused, leaves the block as it was. So a step must write every byte of every
 * state; bytes that belong to no state (padding between them) are never written and stay 0.
 *
 * Why copy: with two sets in the block and a word that says which counts, nothing need be copied,
 * but a snapshot doubles, and two equal streams differ in their bytes. The copy's cost is in
 * pool.h beside the other figures. Since kernels name the two apart, that choice can be reversed
 * here without compiling a model again. */

typedef struct shiftedge_buffer {
    uint32_t kind;     /* shiftedge_buffer_kind */
    uint32_t reserved; /* 0 */
    uint64_t offset;   /* bytes from the beginning of that memory */
} shiftedge_buffer;

/* Compute units begin .. end-1; never called for none. Returns 0, or a number that the error message will carry. Must
 * not allocate, start threads, keep anything from one call to the next, or change its constants.
 * Runs with round-to-nearest and with denormal numbers taken as 0 (see float_env.h).
 *
 * Where the code generator makes plain C functions, the table's function is a line of C:
 *
 *     void conv_0(const uint8_t *, const float *, float *, float *, int32_t, int32_t);
 *     static int32_t run_conv_0(void *const *b, int32_t begin, int32_t end) {
 *         conv_0(b[0], b[1], b[2], b[3], begin, end);
 *         return 0;
 *     }
 *
 * Where it keeps TVM's own packed arguments, see tvm_abi.h. */
typedef int32_t (*shiftedge_kernel_function)(void *const *buffers, int32_t begin, int32_t end);

typedef struct shiftedge_kernel {
    const char *name; /* for messages and profiles */
    shiftedge_kernel_function function;
    const shiftedge_buffer *buffers; /* its arguments, in order */
    uint32_t buffer_count;           /* at most SHIFTEDGE_BUFFERS_MOST */
    int32_t units;                   /* at least 1 */
    int32_t pieces; /* chunks that each thread's share may be cut into, so that others can take
                       over what it has not begun; 0 is 1: a call repeats work of its neighbour */
} shiftedge_kernel;

#define SHIFTEDGE_BUFFERS_MOST 24

typedef struct shiftedge_program {
    uint32_t abi;          /* SHIFTEDGE_PROGRAM_ABI */
    uint32_t kernel_count; /* at least 1 */
    const shiftedge_kernel *kernels;
    const char *spec_json; /* UTF-8, ended by a 0 */
    int32_t frame_height;  /* pixels */
    int32_t frame_width;   /* pixels */
    int32_t classes;
    int32_t frame_alignment;  /* bytes, a power of two up to 64 that the first kernel's loads rely
                                 on; a caller's frame elsewhere is copied first. 1: never */
    uint64_t fingerprint;     /* of weights and state layout, not 0: a state of another fingerprint
                                 is refused */
    uint64_t state_bytes;     /* all states, without the block's header; may be 0 */
    uint64_t workspace_bytes; /* may be 0 */
    uint64_t scratch_bytes;   /* of one thread, the most that a kernel needs; may be 0 */
    uint64_t weights_bytes;   /* may be 0 */
    const void *weights;      /* in a section mapped read-only, at a multiple of 64 bytes */
    const char *cpu_features; /* what the CPU must have for the kernels' instructions: names of the
                                 line flags or Features in Linux's /proc/cpuinfo that cpu.c knows,
                                 with spaces between; NULL or "": the architecture's baseline */
} shiftedge_program;

extern const shiftedge_program shiftedge_program_table;

/* The first 64 bytes of a state block; the states follow. All zero in a fresh one. */
typedef struct shiftedge_state_header {
    uint32_t magic;       /* SHIFTEDGE_STATE_MAGIC from the first step on */
    uint32_t version;     /* SHIFTEDGE_STATE_VERSION */
    uint64_t block_bytes; /* shiftedge_state_size() */
    uint64_t fingerprint; /* of the program */
    uint64_t owner;       /* 0, or made of process and address while a step runs: see step.c */
    uint64_t reserved[4]; /* 0 */
} shiftedge_state_header;

_Static_assert(sizeof(shiftedge_state_header) == 64, "the states begin at a multiple of 64 bytes");

#define SHIFTEDGE_STATE_MAGIC 0x53456c73u /* "slES" in memory of a little-endian machine */
#define SHIFTEDGE_STATE_VERSION 1u

#pragma GCC visibility pop

#endif
