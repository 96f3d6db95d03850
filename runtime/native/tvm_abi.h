/* From TVM's packed kernel ABI to the plain one of program.h, without TVM.
 *
 * TVM compiles a function NAME to `int __tvm_ffi_NAME(void *, const TVMFFIAny *, int32_t,
 * TVMFFIAny *)`. A kernel here takes a DLTensor for each buffer, in order, then two int32, begin
 * and end:
 *
 *     extern int32_t __tvm_ffi_conv_0(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);
 *     static const int64_t conv_0_shape_0[] = {224, 224, 3};
 *     static const shiftedge_tvm_tensor conv_0_tensors[] = {
 *         {.dtype = {kDLUInt, 8, 1}, .ndim = 3, .shape = conv_0_shape_0}, ...
 *     };
 *     SHIFTEDGE_TVM_KERNEL(conv_0, conv_0_tensors)     // defines the function conv_0
 *
 * Layouts are those of TVM FFI 0.1 (tvm/ffi/c_api.h) and DLPack 1 (dlpack.h), which both promise
 * to keep them; TVM's kernels check every argument and report a mismatch as a sentence.
 */
#ifndef SHIFTEDGE_TVM_ABI_H
#define SHIFTEDGE_TVM_ABI_H

#include <stdint.h>

#pragma GCC visibility push(hidden)

/* DLDataTypeCode */
enum { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4 };

typedef struct DLDataType {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} DLDataType;

typedef struct DLDevice {
    int32_t device_type;
    int32_t device_id;
} DLDevice;

typedef struct DLTensor {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;
    int64_t *strides; /* NULL: rows packed */
    uint64_t byte_offset;
} DLTensor;

typedef struct TVMFFIAny {
    int32_t type_index;
    uint32_t zero_padding;
    union {
        int64_t v_int64;
        double v_float64;
        void *v_ptr;
    };
} TVMFFIAny;

typedef int32_t (*shiftedge_tvm_function)(void *self, const TVMFFIAny *arguments, int32_t count,
                                          TVMFFIAny *result);

/* What a kernel expects of one buffer. */
typedef struct shiftedge_tvm_tensor {
    DLDataType dtype;
    int32_t ndim;
    const int64_t *shape;
} shiftedge_tvm_tensor;

/* Call a TVM function on `count` buffers (at most SHIFTEDGE_BUFFERS_MOST) and units begin .. end-1.
 * Returns what it returns; its sentence is then this thread's kernel text (error.h). */
int32_t shiftedge_tvm_call(shiftedge_tvm_function function, const shiftedge_tvm_tensor *tensors,
                           int32_t count, void *const *buffers, int32_t begin, int32_t end);

#define SHIFTEDGE_TVM_KERNEL(name, tensors)                                                     \
    static int32_t name(void *const *buffers, int32_t begin, int32_t end) {                     \
        return shiftedge_tvm_call(__tvm_ffi_##name, tensors,                                    \
                                  (int32_t)(sizeof(tensors) / sizeof(tensors)[0]), buffers, begin, \
                                  end);                                                         \
    }

#pragma GCC visibility pop

#endif
