#define _GNU_SOURCE /* realpath, readlink, PATH_MAX */
#define _FILE_OFFSET_BITS 64 /* of stat: file systems have inode numbers beyond 32 bits too */
#include "library.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bundle.h"
#include "copy.h"

/* A library that asks for a larger state is damaged. */
#define STATE_BYTES_MOST ((size_t)1 << 31)

/* As a manifest calls the machine that this program is for; empty: it is not known. */
#if defined(__x86_64__)
#define ARCHITECTURE "x86_64"
#elif defined(__aarch64__)
#define ARCHITECTURE "aarch64"
#elif defined(__arm__)
#define ARCHITECTURE "armv7l"
#else
#define ARCHITECTURE ""
#endif

/* A function pointer from dlsym, which C cannot cast. */
static bool find(void *handle, const char *name, void *function) {
    void *symbol = dlsym(handle, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool open_model(library *library, const char *path, int threads, int *status,
                       failure *failure) {
    uint32_t (*abi_version)(void) = NULL;
    const char *(*spec_json)(void) = NULL;
    size_t (*state_size)(void) = NULL;
    int (*open)(const shiftedge_options *, shiftedge_model **) = NULL;
    void *handle = library->handle;
    if (!find(handle, "shiftedge_abi_version", &abi_version) ||
        !find(handle, "shiftedge_spec_json", &spec_json) ||
        !find(handle, "shiftedge_state_size", &state_size) ||
        !find(handle, "shiftedge_open", &open) ||
        !find(handle, "shiftedge_step", &library->step) ||
        !find(handle, "shiftedge_last_error", &library->last_error) ||
        !find(handle, "shiftedge_close", &library->close)) {
        return fail(failure, "%s is no model that shiftedge compiled.", path);
    }
    if (abi_version() != SHIFTEDGE_ABI_VERSION) {
        return fail(failure,
                    "%s has version %u of the C interface, and this runner needs %u: use the "
                    "runner that was made with the model.",
                    path, abi_version(), SHIFTEDGE_ABI_VERSION);
    }
    library->spec_json = spec_json();
    library->state_size = state_size();
    if (library->spec_json == NULL || library->state_size == 0 ||
        library->state_size > STATE_BYTES_MOST ||
        library->state_size % SHIFTEDGE_STATE_ALIGNMENT != 0) {
        return fail(failure, "%s is damaged; compile the model again.", path);
    }
    shiftedge_options options = {.size = sizeof options, .threads = threads};
    *status = open(&options, &library->model);
    return *status == SHIFTEDGE_OK || fail(failure, "%s", library->last_error());
}

/* file: what dlopen takes; path: what the user knows it by. */
static bool open_library(library *library, const char *file, const char *path, int threads,
                         int *status, failure *failure) {
    *library = (struct library){0};
    *status = SHIFTEDGE_ERROR_ARGUMENT;
    library->handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library->handle == NULL) {
        const char *why = dlerror();
        size_t length = strlen(file);
        bool named = strncmp(why, file, length) == 0 && strncmp(why + length, ": ", 2) == 0;
        return fail(failure, "Cannot load the model %s: %s.", path, named ? why + length + 2 : why);
    }
    if (open_model(library, path, threads, status, failure)) {
        library->state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, library->state_size);
        if (library->state != NULL) {
            library_reset(library);
            return true;
        }
        (void)fail(failure, "There is no memory left for the model's states.");
    }
    library_close(library);
    return false;
}

/* A copy of a library, which is closed. */
static bool open_copy(library *library, copy *copy, const char *path, int threads, int *status,
                      failure *failure) {
    bool opened = open_library(library, copy->file, path, threads, status, failure);
    /* Whether or not it opened as a model, glibc may have loaded it. */
    copy_close(copy, true);
    return opened;
}

/* Where an open library is from. */
static void remember(library *library, const bundle *bundle, const char *name) {
    (void)snprintf(library->folder, sizeof library->folder, "%s", bundle->folder);
    (void)snprintf(library->name, sizeof library->name, "%s", name);
}

/* The first variant of the manifest that opens. Only what this CPU or system cannot run leads to
 * the next: once a file is damaged, nothing of the bundle is loaded. Of failures, one that a library
 * found out (a CPU without a feature) says more than that of the system's loader. */
static bool open_variant(library *library, const bundle *bundle, int threads, failure *failure) {
    bool told = false;
    for (int i = 0; i < bundle->variant_count; i++) {
        const bundle_variant *variant = &bundle->variants[i];
        struct failure why = {""};
        int status = 0;
        if (ARCHITECTURE[0] != '\0' && strcmp(variant->architecture, ARCHITECTURE) != 0) {
            continue;
        }
        copy copy;
        if (!bundle_copy_file(bundle, variant->library, &copy, failure)) {
            return false;
        }
        if (open_copy(library, &copy, variant->library, threads, &status, &why)) {
            remember(library, bundle, variant->library);
            return true;
        }
        if (!told || status == SHIFTEDGE_ERROR_CPU) {
            *failure = why;
            told = true;
        }
    }
    if (!told) {
        (void)fail(failure,
                   "%s is for %s, and this runner is for " ARCHITECTURE ": compile the model for "
                   "this machine.",
                   bundle->folder, bundle->variants[0].architecture);
    }
    return false;
}

/* name: of the library in the bundle; NULL: of its variants, the first that opens. */
static bool open_bundle(library *library, const char *folder, const char *name, int threads,
                        failure *failure) {
    bundle bundle;
    bool opened = false;
    int ignored = 0;
    if (!bundle_open(&bundle, folder, failure)) {
        return false;
    }
    if (name == NULL) {
        opened = open_variant(library, &bundle, threads, failure);
    } else {
        copy copy;
        opened = bundle_copy_file(&bundle, name, &copy, failure) &&
                 open_copy(library, &copy, name, threads, &ignored, failure);
        if (opened) {
            remember(library, &bundle, name);
        }
    }
    bundle_close(&bundle);
    return opened;
}

/* What stands between the last slash of `path` and its end; the slash goes. */
static char *cut_name(char *path) {
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return NULL;
    }
    *slash = '\0';
    return slash + 1;
}

static bool open_beside_program(library *library, int threads, failure *failure) {
    char program[PATH_MAX], path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0) {
        return fail(failure, "Cannot find out where this program lies (%s); use --model.",
                    strerror(errno));
    }
    program[length] = '\0';
    const char *name = cut_name(program), *variant = cut_name(program), *bin = cut_name(program);
    if (name == NULL || variant == NULL || bin == NULL ||
        snprintf(path, sizeof path, "%s/lib/%s/libmodel.so", program, variant) >=
            (int)sizeof path) {
        return fail(failure, "This program does not lie in a bundle; use --model.");
    }
    if (access(path, F_OK) != 0) {
        return fail(failure, "There is no model %s; use --model.", path);
    }
    return open_bundle(library, program, path + strlen(program) + 1, threads, failure);
}

/* A library by its own path; if that is lib/<variant>/ of a bundle, as a file of the bundle. */
static bool open_file(library *library, const char *path, int threads, failure *failure) {
    char real[PATH_MAX], folder[PATH_MAX];
    struct stat status;
    int ignored = 0;
    if (realpath(path, real) == NULL || stat(real, &status) != 0) {
        return fail(failure, "Cannot open the model %s: %s.", path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) { /* a pipe would be waited for */
        return fail(failure, "The model %s is no ordinary file; name a libmodel.so or a bundle's "
                    "folder.", path);
    }
    memcpy(folder, real, sizeof folder);
    const char *name = cut_name(folder), *variant = cut_name(folder), *lib = cut_name(folder);
    if (name != NULL && variant != NULL && lib != NULL && strcmp(lib, "lib") == 0 &&
        bundle_has_manifest(folder)) {
        return open_bundle(library, folder, real + strlen(folder) + 1, threads, failure);
    }
    int descriptor = open(real, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return fail(failure, "Cannot open the model %s: %s.", path, strerror(errno));
    }
    copy copy;
    bool opened = copy_open(&copy, descriptor, path, failure) &&
                  open_copy(library, &copy, path, threads, &ignored, failure);
    (void)close(descriptor);
    return opened;
}

bool library_open(library *library, const char *path, int threads, failure *failure) {
    struct stat status;
    *library = (struct library){0};
    if (path == NULL) {
        return open_beside_program(library, threads, failure);
    }
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        return open_bundle(library, path, NULL, threads, failure);
    }
    return open_file(library, path, threads, failure);
}

bool library_step(library *library, const uint8_t *frame, int32_t stride_bytes, float *logits,
                  failure *failure) {
    return library->step(library->model, library->state, frame, stride_bytes, logits) ==
               SHIFTEDGE_OK ||
           fail(failure, "%s", library->last_error());
}

void library_reset(library *library) { memset(library->state, 0, library->state_size); }

void library_close(library *library) {
    free(library->state);
    if (library->model != NULL) {
        library->close(library->model);
    }
    if (library->handle != NULL) {
        (void)dlclose(library->handle);
    }
    *library = (struct library){0};
}
