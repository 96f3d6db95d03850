/* The only symbols that a TVM object needs: one function, and three pointers to be set. */
#include "tvm_abi.h"

#include <stddef.h>

#include "error.h"
#include "program.h"

/* TVMFFITypeIndex */
enum { TYPE_INT = 1, TYPE_TENSOR = 7 };
/* DLDeviceType */
enum { DEVICE_CPU = 1 };

typedef struct TVMParallelGroupEnv {
    void *sync_handle;
    int32_t num_task;
} TVMParallelGroupEnv;

typedef int (*parallel_lambda)(int task, TVMParallelGroupEnv *environment, void *data);

#pragma GCC visibility push(hidden)

/* Each TVM object defines those of the three that it uses. Weak: a model whose kernels use none is
 * linked all the same. */
extern int (*__TVMBackendParallelLaunch)(parallel_lambda, void *, int) __attribute__((weak));
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) __attribute__((weak));
extern int (*__TVMBackendFreeWorkspace)(int, int, void *) __attribute__((weak));

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

#pragma GCC visibility pop

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    shiftedge_kernel_text_set(kind, (const char *const *)parts, count);
}

/* A parallel loop inside a kernel: run here as one task. Right, though not faster: work is shared
 * by a kernel's units. */
static int launch_parallel(parallel_lambda lambda, void *data, int tasks) {
    (void)tasks; /* a wish: 0 means any number */
    TVMParallelGroupEnv environment = {NULL, 1};
    return lambda(0, &environment, data);
}

/* Scratch belongs to the memory plan, where its size is known at compile time; a step that
 * allocates could fail after hours. TVM's code takes NULL as the failure that it is. */
static void *refuse_workspace(int device_type, int device_id, uint64_t bytes, int code, int bits) {
    (void)device_type, (void)device_id, (void)bytes, (void)code, (void)bits;
    const char *const parts[] = {"a kernel asked for memory during a step, which the compiler "
                                 "should have planned"};
    shiftedge_kernel_text_set("MemoryError", parts, 1);
    return NULL;
}

static int free_workspace(int device_type, int device_id, void *pointer) {
    (void)device_type, (void)device_id, (void)pointer;
    return 0;
}

/* When the library is loaded: before any thread can call a kernel. */
__attribute__((constructor)) static void set_backend(void) {
    if (&__TVMBackendParallelLaunch != NULL) {
        __TVMBackendParallelLaunch = launch_parallel;
    }
    if (&__TVMBackendAllocWorkspace != NULL) {
        __TVMBackendAllocWorkspace = refuse_workspace;
    }
    if (&__TVMBackendFreeWorkspace != NULL) {
        __TVMBackendFreeWorkspace = free_workspace;
    }
}

int32_t shiftedge_tvm_call(shiftedge_tvm_function function, const shiftedge_tvm_tensor *tensors,
                           int32_t count, void *const *buffers, int32_t begin, int32_t end) {
    DLTensor values[SHIFTEDGE_BUFFERS_MOST];
    TVMFFIAny arguments[SHIFTEDGE_BUFFERS_MOST + 2];
    for (int32_t i = 0; i < count; i++) {
        values[i] = (DLTensor){
            .data = buffers[i],
            .device = {DEVICE_CPU, 0},
            .ndim = tensors[i].ndim,
            .dtype = tensors[i].dtype,
            .shape = (int64_t *)(uintptr_t)tensors[i].shape, /* kernels only compare it */
        };
        arguments[i] = (TVMFFIAny){.type_index = TYPE_TENSOR, .v_ptr = &values[i]};
    }
    arguments[count] = (TVMFFIAny){.type_index = TYPE_INT, .v_int64 = begin};
    arguments[count + 1] = (TVMFFIAny){.type_index = TYPE_INT, .v_int64 = end};
    TVMFFIAny result = {0};
    return function(NULL, arguments, count + 2, &result);
}
