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
#include "output.h"

/* Bytes of a label or name: far above any model's, so that a line of output has a bound. */
#define LABEL_BYTES_MOST 512

/* A function pointer from dlsym, which C cannot cast. */
static bool find(void *handle, const char *name, void *function) {
    void *symbol = dlsym(handle, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool find_functions(library *library, uint32_t (**abi_version)(void),
                           int (**open)(const shiftedge_options *, shiftedge_model **)) {
    void *handle = library->handle;
    const shiftedge_spec *(*get_spec)(void) = NULL;
    bool found = find(handle, "shiftedge_abi_version", abi_version) &&
                 find(handle, "shiftedge_get_spec", &get_spec) &&
                 find(handle, "shiftedge_state_size", &library->state_size) &&
                 find(handle, "shiftedge_open", open) &&
                 find(handle, "shiftedge_step", &library->step) &&
                 find(handle, "shiftedge_last_error", &library->last_error) &&
                 find(handle, "shiftedge_close", &library->close) &&
                 find(handle, "shiftedge_live_open", &library->live_open) &&
                 find(handle, "shiftedge_live_feed", &library->live_feed) &&
                 find(handle, "shiftedge_live_close", &library->live_close);
    library->spec = found ? get_spec() : NULL;
    return found;
}

static bool check_labels(const shiftedge_spec *spec, failure *failure) {
    for (int i = 0; i < spec->classes; i++) {
        if (strlen(spec->labels[i]) > LABEL_BYTES_MOST) {
            return fail(failure,
                        "The model's label %.60s... has more than %d bytes; name it shorter and "
                        "compile the model again.",
                        spec->labels[i], LABEL_BYTES_MOST);
        }
    }
    return true;
}

static bool open_model(library *library, const char *path, int gpu, int threads, int *status,
                       failure *failure) {
    uint32_t (*abi_version)(void) = NULL;
    int (*open)(const shiftedge_options *, shiftedge_model **) = NULL;
    if (!find_functions(library, &abi_version, &open)) {
        return fail(failure, "%s is no model that shiftedge compiled.", path);
    }
    if (abi_version() != SHIFTEDGE_ABI_VERSION) {
        return fail(failure,
                    "%s has version %u of the C interface, and this runner needs %u: use the "
                    "runner that was made with the model.",
                    path, abi_version(), SHIFTEDGE_ABI_VERSION);
    }
    shiftedge_options options = {.size = sizeof options, .threads = threads, .device = gpu};
    *status = open(&options, &library->model);
    return library_did(library, *status, failure) && check_labels(library->spec, failure);
}

bool library_did(const library *library, int status, failure *failure) {
    return status == SHIFTEDGE_OK || fail(failure, "%s", library->last_error());
}

/* file: what dlopen takes; path: what the user knows it by. */
static bool open_library(library *library, const char *file, const char *path, int gpu,
                         int threads, int *status, failure *failure) {
    *library = (struct library){0};
    *status = SHIFTEDGE_ERROR_ARGUMENT;
    library->handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library->handle == NULL) {
        const char *why = dlerror();
        size_t length = strlen(file);
        bool named = strncmp(why, file, length) == 0 && strncmp(why + length, ": ", 2) == 0;
        return fail(failure, "Cannot load the model %s: %s.", path, named ? why + length + 2 : why);
    }
    if (open_model(library, path, gpu, threads, status, failure)) {
        return true;
    }
    library_close(library);
    return false;
}

/* A copy of a library, which is closed. */
static bool open_copy(library *library, copy *copy, const char *path, int gpu, int threads,
                      int *status, failure *failure) {
    bool opened = open_library(library, copy->file, path, gpu, threads, status, failure);
    /* Whether or not it opened as a model, glibc may have loaded it. */
    copy_close(copy, true);
    return opened;
}

static bool for_gpus(const bundle_variant *variant) { return strcmp(variant->device, "cuda") == 0; }

/* A library of the bundle. whole: receives false where its file is not as it must be. */
static bool open_variant(library *library, const char *folder, const bundle_variant *variant,
                         device device, int threads, int *status, bool *whole, failure *failure) {
    copy copy;
    int gpu = for_gpus(variant) ? device.gpu : 0;
    *whole = bundle_copy_library(folder, variant, &copy, failure);
    if (!*whole || !open_copy(library, &copy, variant->library, gpu, threads, status, failure)) {
        return false;
    }
    library->variant = variant;
    return true;
}

/* The first variant that opens, of those for GPUs or of those for processors. Only what this machine
 * or system cannot run leads to the next: once a file is damaged, nothing of the bundle is loaded. Of
 * failures, one that a library found out (a CPU without a feature) says more than that of the system's
 * loader. only: the library in the bundle that alone is meant, or NULL. whole: receives whether a next
 * one may be tried. */
static bool open_first(library *library, const char *folder, bool gpus, const char *only,
                       device device, int threads, bool *whole, failure *failure) {
    bool told = false;
    *whole = true;
    for (int i = 0; i < bundle_variant_count && *whole; i++) {
        struct failure why = {""};
        int status = 0;
        const bundle_variant *variant = &bundle_variants[i];
        if (for_gpus(variant) != gpus || (only != NULL && strcmp(variant->library, only) != 0)) {
            continue;
        }
        if (open_variant(library, folder, variant, device, threads, &status, whole, &why)) {
            return true;
        }
        if (!told || !*whole || status == SHIFTEDGE_ERROR_CPU || status == SHIFTEDGE_ERROR_DEVICE) {
            *failure = why;
            told = true;
        }
    }
    return false;
}

/* gpu: the one of its libraries for GPUs that is meant, or NULL. */
static bool open_bundle(library *library, const char *path, const char *gpu, device device,
                        int threads, failure *failure) {
    char folder[PATH_MAX];
    struct failure why = {""};
    bool whole = true;
    if (!bundle_open(folder, path, failure)) {
        return false;
    }
    if (bundle_variant_count == 0) {
        return fail(failure, "This runner was made without a bundle; name a libmodel.so.");
    }
    if (device.kind != DEVICE_CPU) {
        if (open_first(library, folder, true, gpu, device, threads, &whole, &why)) {
            return true;
        }
        if (device.kind == DEVICE_CUDA && *why.text == '\0') {
            return fail(failure, "%s has no code for a GPU: compile the model for one, or use "
                        "--device cpu.", folder);
        }
        if (device.kind == DEVICE_CUDA || !whole) {
            *failure = why;
            return false;
        }
    }
    if (!open_first(library, folder, false, NULL, device, threads, &whole, failure)) {
        if (*failure->text == '\0') {
            (void)fail(failure, "%s has no code for a processor: use --device cuda.", folder);
        }
        return false;
    }
    if (*why.text != '\0') {
        output_note("on the processor, as %s: %s", library->variant->name, why.text);
    }
    return true;
}

/* name: of the library in the bundle. */
static bool open_named(library *library, const char *path, const char *name, device device,
                       int threads, failure *failure) {
    char folder[PATH_MAX];
    int status = 0;
    bool whole = true;
    const bundle_variant *variant =
        bundle_open(folder, path, failure) ? bundle_find(folder, name, failure) : NULL;
    return variant != NULL &&
           open_variant(library, folder, variant, device, threads, &status, &whole, failure);
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

static bool open_beside_program(library *library, device device, int threads,
                                failure *failure) {
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
    const char *own = path + strlen(program) + 1, *gpu = NULL;
    for (int i = 0; i < bundle_variant_count; i++) {
        const bundle_variant *each = &bundle_variants[i];
        gpu = for_gpus(each) && strcmp(each->library, own) == 0 ? own : gpu;
    }
    if (gpu != NULL || (device.kind != DEVICE_AUTO && bundle_variant_count > 0)) {
        return open_bundle(library, program, gpu, device, threads, failure);
    }
    return open_named(library, program, own, device, threads, failure);
}

/* A library by its own path; if that is lib/<variant>/ of a bundle, as a file of the bundle. */
static bool open_file(library *library, const char *path, device device, int threads,
                      failure *failure) {
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
        return open_named(library, folder, real + strlen(folder) + 1, device, threads, failure);
    }
    int descriptor = open(real, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return fail(failure, "Cannot open the model %s: %s.", path, strerror(errno));
    }
    copy copy;
    bool opened = copy_open(&copy, descriptor, path, failure) &&
                  open_copy(library, &copy, path, device.gpu, threads, &ignored, failure);
    (void)close(descriptor);
    return opened;
}

bool library_open(library *library, const char *path, device device, int threads,
                  failure *failure) {
    struct stat status;
    *library = (struct library){0};
    if (path == NULL) {
        return open_beside_program(library, device, threads, failure);
    }
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        return open_bundle(library, path, NULL, device, threads, failure);
    }
    return open_file(library, path, device, threads, failure);
}

void library_close(library *library) {
    if (library->model != NULL) {
        library->close(library->model);
    }
    if (library->handle != NULL) {
        (void)dlclose(library->handle);
    }
    *library = (struct library){0};
}
