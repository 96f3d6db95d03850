#define _GNU_SOURCE /* realpath, PATH_MAX */
#define _FILE_OFFSET_BITS 64
#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sha256.h"

#define HEX_BYTES (2 * SHA256_DIGEST_BYTES + 1)
#define READ_BYTES 32768
#define AGAIN "copy or compile the bundle again"

bool bundle_has_manifest(const char *folder) {
    char path[PATH_MAX];
    struct stat status;
    /* lstat: a link that leads nowhere is one too, and a damaged one. */
    return snprintf(path, sizeof path, "%s/" BUNDLE_MANIFEST, folder) < (int)sizeof path &&
           lstat(path, &status) == 0;
}

bool bundle_open(char folder[PATH_MAX], const char *path, failure *failure) {
    if (realpath(path, folder) == NULL) {
        return fail(failure, "Cannot open the bundle %s: %s; check the path.", path,
                    strerror(errno));
    }
    return bundle_has_manifest(folder) ||
           fail(failure,
                "%s holds no " BUNDLE_MANIFEST ", so it is no whole bundle: copy all of the bundle, "
                "or name another with --model.",
                folder);
}

const bundle_variant *bundle_find(const char *folder, const char *library, failure *failure) {
    for (int i = 0; i < bundle_variant_count; i++) {
        if (strcmp(bundle_variants[i].library, library) == 0) {
            return &bundle_variants[i];
        }
    }
    (void)fail(failure,
               "%s/%s is not of the bundle that this runner was made with, so it cannot be checked: "
               "use the runner that was made with the bundle.",
               folder, library);
    return NULL;
}

/* Open an ordinary file that lies in the folder, with every link resolved, for reading: a pipe in
 * its place would be waited for, a device never end. -1: not so, the failure says why. */
static int open_inside(const char *folder, const char *name, struct stat *status,
                       failure *failure) {
    char path[PATH_MAX], real[PATH_MAX];
    size_t length = strlen(folder);
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        (void)fail(failure, "The path of the bundle is too long; move it.");
        return -1;
    }
    if (realpath(path, real) == NULL) {
        (void)fail(failure, "%s cannot be read (%s): " AGAIN ".", path, strerror(errno));
        return -1;
    }
    /* length 1: the folder is the root, of one slash. */
    if (strncmp(real, folder, length) != 0 || (length > 1 && real[length] != '/')) {
        (void)fail(failure,
                   "%s is a link that leads out of the bundle, to %s; a bundle holds its files "
                   "itself: " AGAIN ".",
                   path, real);
        return -1;
    }
    int descriptor = open(real, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, status) != 0) {
        (void)fail(failure, "%s cannot be read (%s): " AGAIN ".", path, strerror(errno));
    } else if (!S_ISREG(status->st_mode)) {
        (void)fail(failure, "%s cannot be read (it is no ordinary file): " AGAIN ".", path);
    } else {
        return descriptor;
    }
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return -1;
}

/* read, whatever signals come. */
static ssize_t read_some(int descriptor, void *data, size_t bytes) {
    ssize_t count = 0;
    do {
        count = read(descriptor, data, bytes);
    } while (count < 0 && errno == EINTR);
    return count;
}

/* The SHA-256 of the rest of a file in hexadecimal; false: errno says why. */
static bool digest_of(int descriptor, char hex[HEX_BYTES]) {
    uint8_t data[READ_BYTES], digest[SHA256_DIGEST_BYTES];
    ssize_t count = 0;
    sha256 sum;
    sha256_open(&sum, NULL);
    while ((count = read_some(descriptor, data, sizeof data)) > 0) {
        sha256_update(&sum, data, (size_t)count);
    }
    sha256_close(&sum, digest);
    for (size_t i = 0; i < SHA256_DIGEST_BYTES; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    return count == 0;
}

/* Whether a copy is what was compiled, byte for byte. */
static bool check_copy(const char *folder, const bundle_variant *variant, const copy *copy,
                       failure *failure) {
    char hex[HEX_BYTES];
    if (lseek(copy->descriptor, 0, SEEK_SET) != 0 || !digest_of(copy->descriptor, hex)) {
        return fail(failure, "%s/%s cannot be read (%s): " AGAIN ".", folder, variant->library,
                    strerror(errno));
    }
    return strcmp(hex, variant->sha256) == 0 ||
           fail(failure,
                "%s/%s has the SHA-256 %s; this runner was made with another, so it was changed or "
                "damaged, or is of another bundle: " AGAIN ", or use its own runner.",
                folder, variant->library, hex);
}

bool bundle_copy_library(const char *folder, const bundle_variant *variant, copy *copy,
                         failure *failure) {
    struct stat status;
    int descriptor = open_inside(folder, variant->library, &status, failure);
    if (descriptor < 0) {
        return false;
    }
    bool good = false;
    /* The size first: a file that has grown without end need not be read. */
    if ((long long)status.st_size != variant->bytes) {
        (void)fail(failure,
                   "%s/%s has %lld bytes; this runner was made with one of %lld, so it was changed "
                   "or cut short, or is of another bundle: " AGAIN ", or use its own runner.",
                   folder, variant->library, (long long)status.st_size, variant->bytes);
    } else if (copy_open(copy, descriptor, variant->library, failure)) {
        good = check_copy(folder, variant, copy, failure);
        if (!good) {
            copy_close(copy, false);
        }
    }
    (void)close(descriptor);
    return good;
}
