#define _GNU_SOURCE /* strdup, readlink, PATH_MAX */
#include "library.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"

#define MANIFEST_SCHEMA 1
#define VARIANTS_MOST 64
#define VARIANT_PATH_BYTES 256
/* A library that asks for a larger state is damaged. */
#define STATE_BYTES_MOST ((size_t)1 << 31)

typedef struct variants {
    int count;
    char paths[VARIANTS_MOST][VARIANT_PATH_BYTES];
} variants;

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

static bool open_library(library *library, const char *path, int threads, int *status,
                         failure *failure) {
    *library = (struct library){0};
    *status = SHIFTEDGE_ERROR_ARGUMENT;
    char real[PATH_MAX];
    /* Resolved, since dlopen would look for a name without a slash in the system's folders. */
    if (realpath(path, real) == NULL) {
        return fail(failure, "Cannot open the model %s: %s.", path, strerror(errno));
    }
    library->handle = dlopen(real, RTLD_NOW | RTLD_LOCAL);
    if (library->handle == NULL) {
        return fail(failure, "Cannot load the model: %s.", dlerror());
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

char *library_read_file(const char *path, size_t most, size_t *length) {
    FILE *file = fopen(path, "rbe");
    char *text = file != NULL ? malloc(most + 1) : NULL;
    bool good = false;
    if (text != NULL) {
        *length = fread(text, 1, most + 1, file);
        good = ferror(file) == 0 && *length <= most;
        errno = *length > most ? EFBIG : errno;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (!good) {
        free(text);
        return NULL;
    }
    text[*length] = '\0';
    return text;
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

static void read_variant(json_reader *json, variants *variants) {
    char key[32], ignored[VARIANT_PATH_BYTES];
    bool full = variants->count == VARIANTS_MOST;
    char *path = full ? ignored : variants->paths[variants->count];
    bool found = false;
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "library") == 0) {
            found = json_string(json, path, VARIANT_PATH_BYTES) && stays_inside(path);
        } else {
            (void)json_skip(json);
        }
    }
    variants->count += found && !full;
}

static bool read_manifest(const char *text, size_t length, variants *variants) {
    json_reader json;
    char key[32];
    double schema = 0;
    bool whole = false;
    json_open(&json, text, length);
    (void)json_enter(&json, '{');
    while (json_key(&json, key, sizeof key)) {
        if (strcmp(key, "schema") == 0) {
            (void)json_number(&json, &schema, &whole);
        } else if (strcmp(key, "variants") == 0) {
            variants->count = 0;
            (void)json_enter(&json, '[');
            while (json_item(&json)) {
                read_variant(&json, variants);
            }
        } else {
            (void)json_skip(&json);
        }
    }
    return json_close(&json) && whole && schema == MANIFEST_SCHEMA && variants->count > 0;
}

/* The first variant of the manifest that opens. Of failures, one that a library found out (a CPU
 * without a feature) says more than that of a library for another architecture. */
static bool open_bundle(library *library, const char *folder, int threads, failure *failure) {
    char path[PATH_MAX];
    size_t length = 0;
    if (snprintf(path, sizeof path, "%s/manifest.json", folder) >= (int)sizeof path) {
        return fail(failure, "The path of the model is too long.");
    }
    char *text = library_read_file(path, LIBRARY_MANIFEST_BYTES_MOST, &length);
    if (text == NULL) {
        return fail(failure, "Cannot read %s: %s; name the folder of a bundle or a libmodel.so.",
                    path, strerror(errno));
    }
    variants *variants = calloc(1, sizeof *variants);
    bool good = variants != NULL && read_manifest(text, length, variants);
    free(text);
    if (!good) {
        free(variants);
        return fail(failure,
                    "%s is damaged or from a newer version; copy or compile the bundle again.",
                    path);
    }
    bool opened = false, told = false;
    for (int i = 0; i < variants->count && !opened; i++) {
        struct failure why = {""};
        int status = 0;
        if (snprintf(path, sizeof path, "%s/%s", folder, variants->paths[i]) >=
            (int)sizeof path) {
            continue;
        }
        opened = open_library(library, path, threads, &status, &why);
        if (!opened && (!told || status == SHIFTEDGE_ERROR_CPU)) {
            *failure = why;
            told = true;
        }
    }
    free(variants);
    if (!opened && !told) {
        (void)fail(failure, "The path of the model is too long.");
    }
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

static bool beside_program(char *path, size_t room, failure *failure) {
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0) {
        return fail(failure, "Cannot find out where this program lies (%s); use --model.",
                    strerror(errno));
    }
    program[length] = '\0';
    const char *name = cut_name(program), *variant = cut_name(program), *bin = cut_name(program);
    if (name == NULL || variant == NULL || bin == NULL ||
        snprintf(path, room, "%s/lib/%s/libmodel.so", program, variant) >= (int)room) {
        return fail(failure, "This program does not lie in a bundle; use --model.");
    }
    if (access(path, F_OK) != 0) {
        return fail(failure, "There is no model %s; use --model.", path);
    }
    return true;
}

bool library_open(library *library, const char *path, int threads, failure *failure) {
    char beside[PATH_MAX];
    struct stat status;
    int ignored = 0;
    if (path == NULL) {
        return beside_program(beside, sizeof beside, failure) &&
               open_library(library, beside, threads, &ignored, failure);
    }
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        return open_bundle(library, path, threads, failure);
    }
    return open_library(library, path, threads, &ignored, failure);
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
