/* A kernel as TVM would compile it: packed arguments, checks that answer with a sentence in parts,
 * and calls through the three pointers that a loader must set. */
#include <stddef.h>

#include "fake_model.h"
#include "tvm_abi.h"

#pragma GCC visibility push(hidden)
typedef int (*parallel_lambda)(int, void *, void *);
int (*__TVMBackendParallelLaunch)(parallel_lambda, void *, int);
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);
int32_t __tvm_ffi_classify(void *self, const TVMFFIAny *arguments, int32_t count,
                           TVMFFIAny *answer);
#pragma GCC visibility pop

enum { W = FAKE_WIDTH, K = FAKE_CLASSES };

static int complain(const char *what) {
    const char *parts[] = {"Mismatched classify(column, trace, matrix, logits)", NULL, ":\n", what};
    TVMFFIErrorSetRaisedFromCStrParts("ValueError", parts, 4);
    return -1;
}

typedef struct range {
    const float *column, *trace, *matrix;
    float *logits;
    int64_t begin, end;
} range;

static int run(int task, void *environment, void *data) {
    (void)environment;
    const range *units = data;
    if (task != 0) {
        return complain("expected one task");
    }
    for (int64_t k = units->begin; k < units->end; k++) {
        float sum = 0.0f;
        for (int32_t x = 0; x < W; x++) {
            sum += units->matrix[k * W + x] * (units->column[x] + units->trace[x]);
        }
        units->logits[k] = sum;
    }
    return 0;
}

int32_t __tvm_ffi_classify(void *self, const TVMFFIAny *arguments, int32_t count,
                           TVMFFIAny *answer) {
    (void)self, (void)answer;
    int32_t mode = fake_tvm_mode;
    if (count != 6 || arguments[4].type_index != 1 || arguments[5].type_index != 1) {
        return complain("expected 4 tensors and 2 integers");
    }
    DLTensor *tensors[4];
    for (int32_t i = 0; i < 4; i++) {
        tensors[i] = arguments[i].v_ptr;
        if (arguments[i].type_index != 7 || tensors[i]->device.device_type != 1 ||
            tensors[i]->dtype.code != kDLFloat || tensors[i]->dtype.bits != 32 ||
            tensors[i]->byte_offset != 0 || tensors[i]->strides != NULL ||
            (uintptr_t)tensors[i]->data % 64 != 0) {
            return complain("expected aligned float32");
        }
    }
    if (tensors[2]->ndim != 2 || tensors[2]->shape[0] != K || mode == 2) {
        return complain("expected matrix.shape[0] to be 5");
    }
    if (mode == 1 && __TVMBackendAllocWorkspace(1, 0, 1024, 2, 32) == NULL) {
        return -1;
    }
    range units = {tensors[0]->data, tensors[1]->data, tensors[2]->data, tensors[3]->data,
                   arguments[4].v_int64, arguments[5].v_int64};
    return mode == 3 ? __TVMBackendParallelLaunch(run, &units, 0) : run(0, NULL, &units);
}
