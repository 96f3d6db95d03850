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

#include "json.h"
#include "sha256.h"

/* The manifest's limit in docs/formats.md. */
#define MANIFEST_BYTES_MOST ((size_t)4 << 20)
#define MANIFEST_SCHEMA 2
#define HEX_BYTES (2 * SHA256_DIGEST_BYTES + 1)
#define READ_BYTES 32768
#define AGAIN "copy or compile the bundle again"

/* What the manifest says of a file. */
typedef struct entry {
    double bytes;
    char sha256[HEX_BYTES];
} entry;

/* Open an ordinary file that lies in the folder, with every link resolved, for reading: a pipe in
 * its place would be waited for, a device never end. -1: not so, the failure says why. */
static int open_inside(const bundle *bundle, const char *name, struct stat *status,
                       failure *failure) {
    char path[PATH_MAX], real[PATH_MAX];
    size_t length = strlen(bundle->folder);
    if (snprintf(path, sizeof path, "%s/%s", bundle->folder, name) >= (int)sizeof path) {
        (void)fail(failure, "The path of the bundle is too long; move it.");
        return -1;
    }
    if (realpath(path, real) == NULL) {
        (void)fail(failure, "%s cannot be read (%s): " AGAIN ".", path, strerror(errno));
        return -1;
    }
    /* length 1: the folder is the root, of one slash. */
    if (strncmp(real, bundle->folder, length) != 0 || (length > 1 && real[length] != '/')) {
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

static bool read_manifest(bundle *bundle, failure *failure) {
    struct stat status;
    int descriptor = open_inside(bundle, BUNDLE_MANIFEST, &status, failure);
    if (descriptor < 0) {
        return false;
    }
    ssize_t count = 0;
    bool fits = status.st_size <= (off_t)MANIFEST_BYTES_MOST;
    /* What is added while it is read is left out, and the text then no JSON. */
    size_t room = fits ? (size_t)status.st_size : 0;
    bundle->manifest = fits ? malloc(room + 1) : NULL;
    while (bundle->manifest != NULL && bundle->manifest_bytes < room &&
           (count = read_some(descriptor, bundle->manifest + bundle->manifest_bytes,
                              room - bundle->manifest_bytes)) > 0) {
        bundle->manifest_bytes += (size_t)count;
    }
    int error = errno;
    (void)close(descriptor);
    if (!fits) {
        return fail(failure, "%s/" BUNDLE_MANIFEST " has more than %zu bytes, so it is no "
                    "manifest: " AGAIN ".", bundle->folder, MANIFEST_BYTES_MOST);
    }
    if (bundle->manifest == NULL) {
        return fail(failure, "There is no memory left for the bundle's manifest.");
    }
    return count >= 0 || fail(failure, "%s/" BUNDLE_MANIFEST " cannot be read (%s): " AGAIN ".",
                              bundle->folder, strerror(error));
}

/* To the value of a key of the manifest, which must stand there once. */
static bool enter_key(const bundle *bundle, json_reader *json, const char *wanted) {
    char key[32];
    json_reader found = {0};
    int count = 0;
    json_open(json, bundle->manifest, bundle->manifest_bytes);
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, wanted) == 0) {
            found = *json;
            count++;
        }
        (void)json_skip(json);
    }
    if (!json_close(json) || count != 1) {
        return false;
    }
    *json = found;
    return true;
}

static bool damaged(const bundle *bundle, const char *what, failure *failure) {
    return fail(failure, "%s/" BUNDLE_MANIFEST " is damaged (%s): " AGAIN ".", bundle->folder,
                what);
}

static bool check_schema(const bundle *bundle, failure *failure) {
    json_reader json;
    double schema = 0;
    bool whole = false;
    if (!enter_key(bundle, &json, "schema")) {
        return damaged(bundle, json.error != NULL ? "it is no JSON" : "expected one schema",
                       failure);
    }
    if (!json_number(&json, &schema, &whole) || !whole || schema < 1) {
        return damaged(bundle, "its schema is no number from 1", failure);
    }
    return schema <= MANIFEST_SCHEMA ||
           fail(failure,
                "%s/" BUNDLE_MANIFEST " has schema %.0f, and this runner reads up to %d: use the "
                "runner that was made with the bundle.",
                bundle->folder, schema, MANIFEST_SCHEMA);
}

/* Whether a path stays in the bundle's folder: names of harmless characters, none of them "..". */
static bool stays_inside(const char *path) {
    const char *allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-/";
    if (path[0] == '\0' || path[0] == '/' || path[strspn(path, allowed)] != '\0') {
        return false;
    }
    for (const char *name = path; name != NULL; name = strchr(name, '/')) {
        name += *name == '/';
        if (strncmp(name, "..", 2) == 0 && (name[2] == '/' || name[2] == '\0')) {
            return false;
        }
    }
    return true;
}

static bool read_variant(json_reader *json, bundle_variant *variant) {
    char key[32];
    int libraries = 0, architectures = 0;
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "library") == 0) {
            libraries += json_string(json, variant->library, sizeof variant->library);
        } else if (strcmp(key, "architecture") == 0) {
            architectures += json_string(json, variant->architecture,
                                         sizeof variant->architecture);
        } else {
            (void)json_skip(json);
        }
    }
    return libraries == 1 && architectures == 1 && stays_inside(variant->library);
}

static bool read_variants(bundle *bundle, failure *failure) {
    json_reader json;
    bool good = enter_key(bundle, &json, "variants") && json_enter(&json, '[');
    while (good && json_item(&json)) {
        good = bundle->variant_count < BUNDLE_VARIANTS_MOST &&
               read_variant(&json, &bundle->variants[bundle->variant_count]);
        bundle->variant_count += good;
    }
    return (good && json.error == NULL && bundle->variant_count > 0) ||
           damaged(bundle, "expected variants, each with a library in this folder and an "
                   "architecture", failure);
}

bool bundle_has_manifest(const char *folder) {
    char path[PATH_MAX];
    struct stat status;
    /* lstat: a link that leads nowhere is one too, and a damaged one. */
    return snprintf(path, sizeof path, "%s/" BUNDLE_MANIFEST, folder) < (int)sizeof path &&
           lstat(path, &status) == 0;
}

bool bundle_open(bundle *bundle, const char *folder, failure *failure) {
    *bundle = (struct bundle){0};
    if (realpath(folder, bundle->folder) == NULL) {
        return fail(failure, "Cannot open the bundle %s: %s; check the path.", folder,
                    strerror(errno));
    }
    if (!bundle_has_manifest(bundle->folder)) {
        return fail(failure,
                    "%s holds no " BUNDLE_MANIFEST ", so it is no whole bundle and nothing in it can be "
                    "checked: copy all of the bundle, or name another with --model.",
                    bundle->folder);
    }
    bundle->variants = calloc(BUNDLE_VARIANTS_MOST, sizeof *bundle->variants);
    if (bundle->variants == NULL) {
        (void)fail(failure, "There is no memory left for the bundle's manifest.");
    } else if (read_manifest(bundle, failure) && check_schema(bundle, failure) &&
               read_variants(bundle, failure)) {
        return true;
    }
    bundle_close(bundle);
    return false;
}

/* Whether the object that comes is a whole entry. */
static bool read_entry(json_reader *json, entry *entry) {
    char key[32];
    int sizes = 0, sums = 0;
    bool whole = false;
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "bytes") == 0) {
            sizes += json_number(json, &entry->bytes, &whole) && whole;
        } else if (strcmp(key, "sha256") == 0) {
            sums += json_string(json, entry->sha256, sizeof entry->sha256);
        } else {
            (void)json_skip(json);
        }
    }
    return json->error == NULL && sizes == 1 && sums == 1;
}

static bool find_entry(const bundle *bundle, const char *name, entry *entry, failure *failure) {
    char key[BUNDLE_NAME_BYTES];
    json_reader json;
    int found = 0;
    bool good = enter_key(bundle, &json, "files") && json_enter(&json, '{');
    while (good && json_key(&json, key, sizeof key)) {
        if (strcmp(key, name) == 0) {
            good = read_entry(&json, entry);
            found++;
        } else {
            (void)json_skip(&json);
        }
    }
    if (!good || json.error != NULL || found > 1) {
        return damaged(bundle, "expected files, each once, with sha256 and bytes", failure);
    }
    return found == 1 ||
           fail(failure, "%s lists no file %s, so it cannot be checked: " AGAIN ".",
                bundle->folder, name);
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

/* Whether a copy is what the manifest says, byte for byte. */
static bool check_copy(const bundle *bundle, const char *name, const entry *entry, const copy *copy,
                       failure *failure) {
    char hex[HEX_BYTES];
    if (lseek(copy->descriptor, 0, SEEK_SET) != 0 || !digest_of(copy->descriptor, hex)) {
        return fail(failure, "%s/%s cannot be read (%s): " AGAIN ".", bundle->folder, name,
                    strerror(errno));
    }
    return strcmp(hex, entry->sha256) == 0 ||
           fail(failure,
                "%s/%s has the SHA-256 %s; the manifest says another, so it was changed or "
                "damaged: " AGAIN ".",
                bundle->folder, name, hex);
}

bool bundle_copy_file(const bundle *bundle, const char *name, copy *copy, failure *failure) {
    entry entry;
    struct stat status;
    if (!find_entry(bundle, name, &entry, failure)) {
        return false;
    }
    int descriptor = open_inside(bundle, name, &status, failure);
    if (descriptor < 0) {
        return false;
    }
    bool good = false;
    /* The size first: a file that has grown without end need not be read. */
    if ((double)status.st_size != entry.bytes) {
        (void)fail(failure,
                   "%s/%s has %lld bytes; the manifest says %.0f, so it was changed or cut short: "
                   AGAIN ".",
                   bundle->folder, name, (long long)status.st_size, entry.bytes);
    } else if (copy_open(copy, descriptor, name, failure)) {
        good = check_copy(bundle, name, &entry, copy, failure);
        if (!good) {
            copy_close(copy, false);
        }
    }
    (void)close(descriptor);
    return good;
}

void bundle_close(bundle *bundle) {
    free(bundle->manifest);
    free(bundle->variants);
    bundle->manifest = NULL;
    bundle->variants = NULL;
}
