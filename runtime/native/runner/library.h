/* A compiled model, found and opened at run time.
 *
 * dlopen and not a link: one runner serves every model and every variant of a bundle, a model is
 * changed by changing a file, and the runner can be built and tested before there is a model. */
#ifndef RUNNER_LIBRARY_H
#define RUNNER_LIBRARY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bundle.h"
#include "failure.h"
#include "shiftedge.h"

typedef struct library {
    void *handle; /* of dlopen */
    char folder[PATH_MAX];        /* of the bundle that it is from, resolved; "": of none */
    char name[BUNDLE_NAME_BYTES]; /* its path in there */
    shiftedge_model *model;
    const char *spec_json;
    void *state; /* one stream's, state_size bytes */
    size_t state_size;
    int (*step)(shiftedge_model *, void *, const uint8_t *, int32_t, float *);
    const char *(*last_error)(void);
    void (*close)(shiftedge_model *);
} library;

/* Open a model and a stream.
 *
 * path: a libmodel.so; the folder of a bundle, of whose variants the first one in its manifest that
 *     loads and that this CPU can run is taken; or NULL: ../../lib/<variant>/libmodel.so as seen
 *     from this program, which stands in bin/<variant>/ of a bundle.
 * threads: for one step; 0: the library's default.
 *
 * A library that lies in a bundle is loaded only if it is as the bundle's manifest says, byte for
 * byte; beside one that lies anywhere else there is nothing to compare it with. On failure there is
 * nothing to close. */
bool library_open(library *library, const char *path, int threads, failure *failure);

/* One step; on failure the sentence is the library's. logits: one for each label. */
bool library_step(library *library, const uint8_t *frame, int32_t stride_bytes, float *logits,
                  failure *failure);

/* Empty the stream's states. */
void library_reset(library *library);

void library_close(library *library);

#endif
