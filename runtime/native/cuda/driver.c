#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "cuda.h"
#include "error.h"
#include "shiftedge.h"

#define LIBRARY "libcuda.so.1"
#define OTHERWISE "run the model on the processor (device cpu)"

/* A function pointer from dlsym, which C cannot cast. */
static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static int fill(cuda_driver *driver, void *library) {
#define NEED(name, symbol, parameters)                                                             \
    if (!find(library, symbol, &driver->name)) {                                                   \
        return shiftedge_fail(SHIFTEDGE_ERROR_DEVICE,                                              \
                              LIBRARY " of this system has no %s, so it is older than every driver " \
                              "that this library supports: update it, or " OTHERWISE ".", symbol); \
    }
#define TRY(name, symbol, parameters) (void)find(library, symbol, &driver->name);
    CUDA_NEEDED(NEED)
    CUDA_GRAPHS(TRY)
    return SHIFTEDGE_OK;
}

int cuda_load(const cuda_driver **driver) {
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    static cuda_driver found;
    static bool ready;
    int status = SHIFTEDGE_OK;
    pthread_mutex_lock(&turn);
    if (!ready) {
        void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            const char *why = dlerror();
            status = shiftedge_fail(SHIFTEDGE_ERROR_DEVICE,
                                    "There is no NVIDIA driver on this system (%s): install it, or "
                                    OTHERWISE ".", why);
        } else {
            status = fill(&found, library);
            ready = status == SHIFTEDGE_OK;
        }
    }
    pthread_mutex_unlock(&turn);
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    *driver = &found;
    int error = found.init(0); /* may be called again and again */
    return error == CUDA_OK ? SHIFTEDGE_OK
                            : cuda_fail(&found, error, "does not start",
                                        "; look at nvidia-smi (on a Jetson: at its JetPack), or "
                                        OTHERWISE ".");
}

int cuda_fail(const cuda_driver *driver, int error, const char *what, const char *then) {
    const char *name = NULL, *text = NULL;
    (void)driver->error_name(error, &name);
    (void)driver->error_text(error, &text);
    return shiftedge_fail(SHIFTEDGE_ERROR_DEVICE, "The GPU %s: %s (%s, %d)%s", what,
                          text != NULL ? text : "an error that its driver has no words for",
                          name != NULL ? name : "CUresult", error, then);
}
