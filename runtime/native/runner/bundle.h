/* A compiled bundle: which libraries its manifest names, and whether a file is the one it lists.
 *
 * The manifest is not believed: of any bytes, a path cannot leave the folder. A file is as long, and
 * has the SHA-256, that the manifest says, or there is no copy of it to load. That finds damage and
 * half of an update; it is no signature. What each key means is in docs/formats.md; what the runner
 * does not use, it does not look at. */
#ifndef RUNNER_BUNDLE_H
#define RUNNER_BUNDLE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "copy.h"
#include "failure.h"

#define BUNDLE_MANIFEST "manifest.json"
#define BUNDLE_VARIANTS_MOST 64
#define BUNDLE_NAME_BYTES 513 /* of a file in it, with the NUL */

typedef struct bundle_variant {
    char library[BUNDLE_NAME_BYTES];
    char architecture[65];
} bundle_variant;

typedef struct bundle {
    char folder[PATH_MAX]; /* resolved */
    char *manifest;
    size_t manifest_bytes;
    int variant_count;
    bundle_variant *variants; /* in order of preference */
} bundle;

/* Whether a folder is meant as a bundle. */
bool bundle_has_manifest(const char *folder);

/* Read the manifest. On failure there is nothing to close. */
bool bundle_open(bundle *bundle, const char *folder, failure *failure);

/* Copy a file to where its code may run, and check the copy against the manifest.
 *
 * name: the file's path in the bundle.
 *
 * The copy is the caller's to close; on failure there is nothing to close. */
bool bundle_copy_file(const bundle *bundle, const char *name, copy *copy, failure *failure);

void bundle_close(bundle *bundle);

#endif
