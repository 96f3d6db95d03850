/* What is used of NVIDIA's driver, libcuda.so.1, in declarations of our own: no file of theirs is
 * needed to build this. Names, parameters and numbers are those of the CUDA Driver API; the driver has
 * kept them since the version in which it brought each.
 *
 * A name that ends in _v2 is what the function of that name without it is in every header since: the
 * plain one is an older function that the driver still has.
 */
#ifndef SHIFTEDGE_CUDA_H
#define SHIFTEDGE_CUDA_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t cuda_address; /* CUdeviceptr */
typedef struct cuda_context cuda_context;
typedef struct cuda_module cuda_module;
typedef struct cuda_function cuda_function;
typedef struct cuda_stream cuda_stream;
typedef struct cuda_event cuda_event;
typedef struct cuda_graph cuda_graph;
typedef struct cuda_graph_exec cuda_graph_exec;

enum {
    CUDA_OK = 0,
    CUDA_OUT_OF_MEMORY = 2,
    /* CUdevice_attribute */
    CUDA_CAPABILITY_MAJOR = 75,
    CUDA_CAPABILITY_MINOR = 76,
    /* CUjit_option */
    CUDA_JIT_ERROR_LOG = 5,
    CUDA_JIT_ERROR_LOG_BYTES = 6,
    /* CUstream_flags, CUstreamCaptureMode, CUevent_flags */
    CUDA_STREAM_NON_BLOCKING = 1,
    CUDA_CAPTURE_OF_THIS_THREAD = 1,
    CUDA_EVENT_DEFAULT = 0,
};

/* F(our name, the driver's, parameters): every driver has them. */
#define CUDA_NEEDED(F)                                                                             \
    F(init, "cuInit", (unsigned flags))                                                            \
    F(driver_version, "cuDriverGetVersion", (int *version))                                        \
    F(device_count, "cuDeviceGetCount", (int *count))                                              \
    F(device_get, "cuDeviceGet", (int *device, int number))                                        \
    F(device_name, "cuDeviceGetName", (char *name, int bytes, int device))                         \
    F(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))           \
    F(context_retain, "cuDevicePrimaryCtxRetain", (cuda_context * *context, int device))           \
    F(context_release, "cuDevicePrimaryCtxRelease", (int device))                                  \
    F(context_push, "cuCtxPushCurrent_v2", (cuda_context * context))                               \
    F(context_pop, "cuCtxPopCurrent_v2", (cuda_context * *context))                                \
    F(allocate, "cuMemAlloc_v2", (cuda_address * address, size_t bytes))                           \
    F(free, "cuMemFree_v2", (cuda_address address))                                                \
    F(host_allocate, "cuMemAllocHost_v2", (void **memory, size_t bytes))                           \
    F(host_free, "cuMemFreeHost", (void *memory))                                                  \
    F(fill, "cuMemsetD8Async",                                                                     \
      (cuda_address address, unsigned char value, size_t bytes, cuda_stream *stream))              \
    F(up, "cuMemcpyHtoDAsync_v2",                                                                  \
      (cuda_address address, const void *memory, size_t bytes, cuda_stream *stream))               \
    F(down, "cuMemcpyDtoHAsync_v2",                                                                \
      (void *memory, cuda_address address, size_t bytes, cuda_stream *stream))                     \
    F(module_load, "cuModuleLoadDataEx",                                                           \
      (cuda_module * *module, const void *image, unsigned options, int *names, void **values))     \
    F(module_unload, "cuModuleUnload", (cuda_module * module))                                     \
    F(module_function, "cuModuleGetFunction",                                                      \
      (cuda_function * *function, cuda_module * module, const char *name))                         \
    F(stream_create, "cuStreamCreate", (cuda_stream * *stream, unsigned flags))                    \
    F(stream_destroy, "cuStreamDestroy_v2", (cuda_stream * stream))                                \
    F(stream_wait, "cuStreamSynchronize", (cuda_stream * stream))                                  \
    F(launch, "cuLaunchKernel",                                                                    \
      (cuda_function * function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z,          \
       unsigned threads_x, unsigned threads_y, unsigned threads_z, unsigned shared_bytes,          \
       cuda_stream *stream, void **parameters, void **extra))                                      \
    F(event_create, "cuEventCreate", (cuda_event * *event, unsigned flags))                        \
    F(event_destroy, "cuEventDestroy_v2", (cuda_event * event))                                    \
    F(event_record, "cuEventRecord", (cuda_event * event, cuda_stream * stream))                   \
    F(event_ms, "cuEventElapsedTime", (float *ms, cuda_event *from, cuda_event *to))               \
    F(error_name, "cuGetErrorName", (int error, const char **text))                                \
    F(error_text, "cuGetErrorString", (int error, const char **text))

/* The same of what drivers before CUDA 10.0 have not; NULL there. Of beginning a capture and of making
 * a graph one is enough, the first being of 10.1 and of 11.4. */
#define CUDA_GRAPHS(F)                                                                             \
    F(capture_begin, "cuStreamBeginCapture_v2", (cuda_stream * stream, int mode))                  \
    F(capture_begin_10_0, "cuStreamBeginCapture", (cuda_stream * stream))                          \
    F(capture_end, "cuStreamEndCapture", (cuda_stream * stream, cuda_graph * *graph))              \
    F(graph_make, "cuGraphInstantiateWithFlags",                                                   \
      (cuda_graph_exec * *made, cuda_graph * graph, unsigned long long flags))                     \
    F(graph_make_10_0, "cuGraphInstantiate",                                                       \
      (cuda_graph_exec * *made, cuda_graph * graph, void **node, char *log, size_t bytes))         \
    F(graph_launch, "cuGraphLaunch", (cuda_graph_exec * graph, cuda_stream * stream))              \
    F(graph_exec_destroy, "cuGraphExecDestroy", (cuda_graph_exec * graph))                         \
    F(graph_destroy, "cuGraphDestroy", (cuda_graph * graph))

/* Each returns a CUresult. */
#define CUDA_MEMBER(name, symbol, parameters) int(*name) parameters;
typedef struct cuda_driver {
    CUDA_NEEDED(CUDA_MEMBER)
    CUDA_GRAPHS(CUDA_MEMBER)
} cuda_driver;
#undef CUDA_MEMBER

/* Find the driver, and start it. It is never unloaded: it has threads of its own. Returns a
 * shiftedge_status. */
int cuda_load(const cuda_driver **driver);

/* Sets a sentence with the driver's own words for a CUresult: "The GPU WHAT: an illegal memory access
 * was encountered (CUDA_ERROR_ILLEGAL_ADDRESS, 700)" and `then`. Returns
 * SHIFTEDGE_ERROR_DEVICE. */
int cuda_fail(const cuda_driver *driver, int error, const char *what, const char *then);

#endif
