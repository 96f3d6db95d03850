/* A compiled model, found and opened at run time.
 *
 * dlopen and not a link: one runner serves every variant of a bundle, what is loaded is a copy that
 * was checked, and the runner can be tried with any library by itself. */
#ifndef RUNNER_LIBRARY_H
#define RUNNER_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bundle.h"
#include "failure.h"
#include "live.h"

/* What a bundle's model is to run on. */
typedef struct device {
    enum { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA } kind; /* AUTO: a GPU where there is one */
    int gpu;                                            /* which one, from 0 */
} device;

typedef struct library {
    void *handle; /* of dlopen */
    const bundle_variant *variant; /* which it is of the bundle; NULL: a library by itself */
    shiftedge_model *model;
    const shiftedge_spec *spec;
    size_t (*state_size)(void);
    int (*step)(shiftedge_model *, void *, const uint8_t *, int32_t, float *);
    const char *(*last_error)(void);
    void (*close)(shiftedge_model *);
    int (*live_open)(shiftedge_model *, const shiftedge_live_options *, shiftedge_live **);
    int (*live_feed)(shiftedge_live *, const uint8_t *, double, const shiftedge_live_result **);
    void (*live_close)(shiftedge_live *);
} library;

/* Open a model.
 *
 * path: a libmodel.so; the folder of the bundle that this program was made with, of whose variants the
 *     first one that loads and that this machine can run is taken, those for GPUs before those for
 *     processors; or NULL: ../../lib/<variant>/libmodel.so as seen from this program, which stands in
 *     bin/<variant>/ of that bundle. Where that is one for a GPU, or a device is asked for, it is the
 *     bundle that is opened.
 * device: of a bundle, which of its variants may be taken. Where a GPU cannot be used and AUTO asked
 *     for it, a note says why.
 * threads: for one step; 0: the library's default.
 *
 * A library that lies in a bundle is loaded only if it is one that this program was made with, byte
 * for byte; beside one that lies anywhere else there is nothing to compare it with. On failure there
 * is nothing to close. */
bool library_open(library *library, const char *path, device device, int threads,
                  failure *failure);

/* Whether a call of the library succeeded; on failure the sentence is the library's. */
bool library_did(const library *library, int status, failure *failure);

void library_close(library *library);

#endif
