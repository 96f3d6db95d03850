/* The C interface of a compiled model, libmodel.so: a frame of the model's own size in, logits out.
 * From a camera's frames to events is live.h. It needs libc, libm and libpthread (glibc 2.27 or
 * newer), no TVM and no Python. A library for GPUs (lib/cuda-.../ of a bundle) looks for NVIDIA's
 * driver, libcuda.so.1, when a model is opened, and needs nothing else of NVIDIA's.
 *
 *     shiftedge_model *model = NULL;
 *     shiftedge_options options = {.size = sizeof options, .threads = 2};
 *     if (shiftedge_open(&options, &model)) die(shiftedge_last_error());
 *     void *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
 *     memset(state, 0, shiftedge_state_size());                   // a fresh stream
 *     while (camera(bgr)) {
 *         if (shiftedge_step(model, state, bgr, 3 * width, logits)) die(shiftedge_last_error());
 *     }
 *     free(state);
 *     shiftedge_close(model);
 *
 * The state is one flat block of bytes that the caller owns: reset is memset to 0, snapshot and
 * restore are memcpy, both while no step runs on it. A block restored into the same library on a
 * machine of the same byte order continues the stream exactly. The same bytes in give the same
 * bytes out, for any number of threads. A step that fails has changed neither state nor logits.
 *
 * Threads: every function may be called from any thread. Steps on one model run one after another,
 * each with all of the model's threads; steps on different models run at once. Who wants several
 * streams side by side on one thread each opens one model per thread: weights are shared, a model
 * costs its workspace. Two threads that step one state at once are told so: the first goes on, the
 * second gets SHIFTEDGE_ERROR_BUSY.
 *
 * Fork: a model belongs to the process that opened it, because threads do not survive a fork. In
 * the child shiftedge_step answers SHIFTEDGE_ERROR_FORKED; open a model of its own there. States
 * may be taken along.
 *
 * Several models in one process: each library resolves to itself, however it was loaded. Its SONAME
 * and the version of its symbols are made from the model's content, so a program that is linked with
 * one model does not start with another; who wants to exchange models uses dlopen and dlsym. Close
 * every model before dlclose, or its threads lose their code.
 */
#ifndef SHIFTEDGE_H
#define SHIFTEDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHIFTEDGE_API __attribute__((visibility("default")))

/* Of this header. Raised when a call that was right becomes wrong; adding to the end of
 * shiftedge_options does not raise it. */
#define SHIFTEDGE_ABI_VERSION 1u

/* Bytes. A state block begins at a multiple of this: kernels load whole vectors of up to 64 bytes. */
#define SHIFTEDGE_STATE_ALIGNMENT 64

/* More threads than this are not started. */
#define SHIFTEDGE_THREADS_MOST 64

typedef enum shiftedge_status {
    SHIFTEDGE_OK = 0,
    SHIFTEDGE_ERROR_ARGUMENT = 1, /* a null pointer, a bad stride, alignment or option */
    SHIFTEDGE_ERROR_MEMORY = 2,   /* the workspace could not be allocated */
    SHIFTEDGE_ERROR_THREADS = 3,  /* the system gives no more threads */
    SHIFTEDGE_ERROR_STATE = 4,    /* the block is neither zeroed nor a state of this model */
    SHIFTEDGE_ERROR_BUSY = 5,     /* another thread is stepping this state */
    SHIFTEDGE_ERROR_FORKED = 6,   /* the model was opened by another process */
    SHIFTEDGE_ERROR_KERNEL = 7,   /* a kernel failed */
    SHIFTEDGE_ERROR_PROGRAM = 8,  /* the library itself is wrong: compile the model again */
    SHIFTEDGE_ERROR_CPU = 9,      /* this CPU lacks a feature that the library was compiled for */
    SHIFTEDGE_ERROR_NUMERICS = 10, /* logits that are not finite; from live.h alone */
    SHIFTEDGE_ERROR_DEVICE = 11,  /* there is no GPU that the library was compiled for, or no driver of
                                     it that is new enough, or it failed; after a failure in a step
                                     the model takes no more of them */
} shiftedge_status;

/* For shiftedge_options.flags: start as many threads as asked for, even on fewer cores. Results
 * are the same and steps are slower; for tests. */
#define SHIFTEDGE_FLAG_OVERSUBSCRIBE 1u

/* Zero what you do not set. The library reads the first `size` bytes; a longer struct of a newer
 * header is accepted as long as what this library does not know is zero. */
typedef struct shiftedge_options {
    uint32_t size;   /* bytes: sizeof(shiftedge_options) */
    int32_t threads; /* for one step, the calling one included; 0: the cores this process may use,
                        at most 4. More than those cores is lowered to them: threads that share a
                        core only wait for one another. */
    uint32_t flags;  /* SHIFTEDGE_FLAG_... */
    int32_t device;  /* of a library for GPUs: which one, as its driver counts them, 0 the first; of
                        others 0 */
} shiftedge_options;

typedef struct shiftedge_model shiftedge_model;

/* SHIFTEDGE_ABI_VERSION of the header that the library was built with. */
SHIFTEDGE_API uint32_t shiftedge_abi_version(void);

/* When logits become an event: probabilities in 0..1, times in seconds. */
typedef struct shiftedge_decoder_settings {
    double smoothing_s, enter, exit, min_duration_s, rearm_s;
} shiftedge_decoder_settings;

/* What a program needs to know of the model. Later versions may add to the end. */
typedef struct shiftedge_spec {
    const char *name;
    const char *precision; /* such as "int8" */
    int32_t height;        /* of a frame, pixels */
    int32_t width;
    int32_t resize_short_side; /* a camera frame's short side is scaled to this before the cut */
    int32_t classes;
    const char *const *labels;  /* one for each logit, UTF-8 */
    const unsigned char *silent; /* for each label: 1, it never becomes an event */
    double frame_rate_hz;       /* at which the model was trained, and is to be stepped */
    double max_gap_s;           /* a longer pause between frames is to empty the state */
    shiftedge_decoder_settings decoder;
} shiftedge_spec;

/* The model's spec. Lives as long as the library. */
SHIFTEDGE_API const shiftedge_spec *shiftedge_get_spec(void);

/* All of it, JSON in UTF-8, with what only compilers need (docs/formats.md). */
SHIFTEDGE_API const char *shiftedge_spec_json(void);

/* Bytes of a state block, a multiple of 64. A zeroed block is a fresh stream. */
SHIFTEDGE_API size_t shiftedge_state_size(void);

/* Open the model: start its threads, allocate its workspace, bring the weights into memory.
 *
 * Before all that it looks whether this CPU has what the library was compiled for, and answers
 * SHIFTEDGE_ERROR_CPU with a sentence that names what is missing: kernels for another CPU would end
 * the process (SIGILL). Only shiftedge_step runs such code; loading the library and every other
 * function are safe on any CPU of the architecture. A library for GPUs answers
 * SHIFTEDGE_ERROR_DEVICE where it finds no such GPU; with it the caller may open the bundle's library
 * for the processor instead, as shiftedge-run does. SHIFTEDGE_CPU_WITHOUT="avx512f avx512_vnni" in
 * the environment makes it look as on a CPU without these; SHIFTEDGE_ERROR_ARGUMENT: it names what
 * no CPU has.
 *
 * options: NULL is all defaults. model: receives the handle, NULL after an error; the caller
 * closes it. Returns a shiftedge_status. */
SHIFTEDGE_API int shiftedge_open(const shiftedge_options *options, shiftedge_model **model);

/* Feed one frame. Allocates nothing.
 *
 * state: shiftedge_state_size() bytes at a multiple of 64, zeroed or left there by earlier steps
 *     of this library. Recognised and refused: another alignment, a block that was never zeroed, a
 *     block of another model or of another size, a block that was copied while a step was writing
 *     it. Not recognisable in C: a zeroed block that is too short.
 * bgr: `height` rows of `width` pixels of the spec, 3 bytes each, blue first; no alignment.
 * stride_bytes: from one row to the next, at least 3 * width. Rows that are
 *     further apart are first copied together.
 * logits: receives one float for each label of the spec.
 *
 * Returns a shiftedge_status. After an error state and logits are as they were. */
SHIFTEDGE_API int shiftedge_step(shiftedge_model *model, void *state, const uint8_t *bgr,
                                 int32_t stride_bytes, float *logits);

/* Number of kernels in a step, and the name of each: "" past the last. */
SHIFTEDGE_API uint32_t shiftedge_kernel_count(void);
SHIFTEDGE_API const char *shiftedge_kernel_name(uint32_t kernel);

/* Where the time goes: steps of `model` from now on write the seconds that each kernel of the step
 * took, the threads' meeting behind it included, to seconds[0 .. shiftedge_kernel_count() - 1],
 * over what the step before wrote there. NULL ends it. Costs a look at the clock for each kernel.
 * Not while a step runs. Returns a shiftedge_status. */
SHIFTEDGE_API int shiftedge_profile(shiftedge_model *model, double *seconds);

/* What the last failed call of this thread said, a sentence; "" if none has failed. Valid until
 * the next failed call of this thread. A call that succeeds leaves it alone: look at the returned
 * status first. */
SHIFTEDGE_API const char *shiftedge_last_error(void);

/* End the model's threads and free what it holds; NULL is allowed. The caller sees to it that no
 * thread is in shiftedge_step with it, or enters later. States are the caller's and stay valid. */
SHIFTEDGE_API void shiftedge_close(shiftedge_model *model);

#ifdef __cplusplus
}
#endif

#endif
