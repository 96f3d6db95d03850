/* The compiled bundle that this program was made with: which libraries belong to it, what each must
 * be to the byte, and what it is to compute.
 *
 * The compiler writes bundle_variants into a C file, which it builds into the runner; no manifest is
 * read. A file is as long as it was then, and has the SHA-256, or there is no copy of it to load. That
 * finds damage, half of an update, and a library of another bundle; it is no signature. */
#ifndef RUNNER_BUNDLE_H
#define RUNNER_BUNDLE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "copy.h"
#include "failure.h"

#define BUNDLE_MANIFEST "manifest.json"

/* The logits of the model's reference for the clip of clip.h. */
typedef struct bundle_selftest {
    double tolerance; /* of a difference, relative to the largest magnitude of all logits */
    int frames;
    const double *logits; /* frames x classes */
} bundle_selftest;

typedef struct bundle_variant {
    const char *name;
    const char *device;  /* "cpu", or "cuda": one for GPUs */
    const char *library; /* its path in the bundle: lib/<name>/libmodel.so */
    long long bytes;
    const char *sha256;              /* hexadecimal */
    const bundle_selftest *selftest; /* of its precision; NULL: none was recorded */
} bundle_variant;

/* In order of preference. */
extern const bundle_variant bundle_variants[];
extern const int bundle_variant_count;

/* Whether a folder is meant as a bundle. */
bool bundle_has_manifest(const char *folder);

/* Resolve a bundle's folder. */
bool bundle_open(char folder[PATH_MAX], const char *path, failure *failure);

/* The variant whose library has this path in the bundle. */
const bundle_variant *bundle_find(const char *folder, const char *library, failure *failure);

/* Copy a variant's library to where its code may run, and check the copy.
 *
 * The copy is the caller's to close; on failure there is nothing to close. */
bool bundle_copy_library(const char *folder, const bundle_variant *variant, copy *copy,
                         failure *failure);

#endif
