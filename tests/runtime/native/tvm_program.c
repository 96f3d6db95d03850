/* A model of one kernel that TVM compiled (see test_native_tvm.py): logits = frame * weights. Prints
 * what each of two steps says, and whether the numbers are right. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "shiftedge.h"
#include "tvm_abi.h"

#ifndef ROWS
#define ROWS 24 /* another number is a mismatch that TVM's code must find */
#endif

enum { H = 24, BYTES = 96, COUNT = H * BYTES };

extern int32_t __tvm_ffi_scale(void *self, const TVMFFIAny *arguments, int32_t count,
                               TVMFFIAny *result);
static const int64_t frame_shape[] = {H, BYTES};
static const int64_t weight_shape[] = {BYTES};
static const int64_t logits_shape[] = {ROWS, BYTES};
static const shiftedge_tvm_tensor tensors[] = {
    {.dtype = {kDLUInt, 8, 1}, .ndim = 2, .shape = frame_shape},
    {.dtype = {kDLFloat, 32, 1}, .ndim = 1, .shape = weight_shape},
    {.dtype = {kDLFloat, 32, 1}, .ndim = 2, .shape = logits_shape},
};
SHIFTEDGE_TVM_KERNEL(scale, tensors)

static const _Alignas(64) float weights[BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const shiftedge_buffer buffers[] = {
    {SHIFTEDGE_FRAME, 0, 0}, {SHIFTEDGE_WEIGHTS, 0, 0}, {SHIFTEDGE_LOGITS, 0, 0}};
static const shiftedge_kernel kernels[] = {{"scale", scale, buffers, 3, H, 1}};

const shiftedge_program shiftedge_program_table = {
    .abi = SHIFTEDGE_PROGRAM_ABI,
    .kernel_count = 1,
    .kernels = kernels,
    .spec_json = "{}",
    .frame_height = H,
    .frame_width = BYTES / 3,
    .classes = COUNT,
    .frame_alignment = 1,
    .fingerprint = 1,
    .weights = weights,
    .weights_bytes = sizeof weights,
};

int main(void) {
    static uint8_t frame[COUNT + 1];
    static float logits[COUNT];
    for (int i = 0; i <= COUNT; i++) {
        frame[i] = (uint8_t)(i * 7);
    }
    shiftedge_options options = {
        .size = sizeof options, .threads = 3, .flags = SHIFTEDGE_FLAG_OVERSUBSCRIBE};
    shiftedge_model *model = NULL;
    void *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
    if (state == NULL || shiftedge_open(&options, &model) != SHIFTEDGE_OK) {
        printf("%s\n", shiftedge_last_error());
        return 1;
    }
    memset(state, 0, shiftedge_state_size());
    for (int at = 0; at < 2; at++) { /* a frame may begin at any address */
        if (shiftedge_step(model, state, frame + at, BYTES, logits) != SHIFTEDGE_OK) {
            printf("%s\n", shiftedge_last_error());
            continue;
        }
        int wrong = 0;
        for (int i = 0; i < COUNT; i++) {
            wrong += logits[i] != (float)frame[at + i] * weights[i % BYTES];
        }
        printf("wrong: %d\n", wrong);
    }
    free(state);
    shiftedge_close(model);
    return 0;
}
