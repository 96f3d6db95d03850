/* A program table by hand: a streaming model of four kernels and two states, small enough that
 * tests repeat it in numpy to the last bit. What a compiler would write looks the same.
 *
 *     normalise   feature[y][x][c] = (frame[y][x][2 - c] - mean[c]) * scale[c]
 *     shift       shifted = feature with channel 0 from the state; the state takes channel 0
 *     columns     column[x] = sum of (c + 1) * shifted[y][x][c]; trace = trace / 2 + column
 *     classify    logits[k] = sum of matrix[k][x] * (column[x] + trace[x] of before)
 *
 * `normalise` and `shift` are cut by rows, `columns` by columns: without a barrier in between,
 * results would be wrong.
 */
#include "fake_model.h"

#include <sched.h>
#include <stdalign.h>
#include <stddef.h>

#include "cpu/kernels.h"
#include "program.h"

/* What the table promises its first kernel. */
#ifndef FAKE_FRAME_ALIGNMENT
#define FAKE_FRAME_ALIGNMENT 1
#endif

FAKE_API _Atomic int32_t fake_fail_kernel = -1;
FAKE_API _Atomic int32_t fake_fail_unit = 0;
FAKE_API _Atomic int32_t fake_gate = 0;
FAKE_API _Atomic int32_t fake_waiting = 0;

enum { H = FAKE_HEIGHT, W = FAKE_WIDTH, C = 3, K = FAKE_CLASSES };

#define VALUE(k, x) (float)(((k) * 37 + (x) * 11) % 23 - 11) / 8.0f
#define FOUR(k, x) VALUE(k, x), VALUE(k, (x) + 1), VALUE(k, (x) + 2), VALUE(k, (x) + 3)
#define ROW(k)                                                                                   \
    { FOUR(k, 0), FOUR(k, 4), FOUR(k, 8), FOUR(k, 12), FOUR(k, 16), FOUR(k, 20), FOUR(k, 24),    \
      FOUR(k, 28) }

typedef struct weights {
    alignas(64) float mean[C];
    float scale[C];
    alignas(64) float matrix[K][W];
} weights;

static const weights constants = {
    .mean = {101.0f, 107.0f, 113.0f},
    .scale = {0.017f, 0.019f, 0.023f},
    .matrix = {ROW(0), ROW(1), ROW(2), ROW(3)},
};

/* Where things lie, bytes. Between the states 64 bytes belong to nobody. */
enum {
    FIRST_AT = 0,
    TRACE_AT = H * W * 4 + 64,
    STATE_BYTES = TRACE_AT + W * 4,
    FEATURE_AT = 0,
    SHIFTED_AT = FEATURE_AT + H * W * C * 4,
    COLUMN_AT = SHIFTED_AT + H * W * C * 4,
    WORKSPACE_BYTES = COLUMN_AT + W * 4,
    SCRATCH_BYTES = 16 + W * 4, /* `columns` uses what follows the first 16 bytes */
};

static int32_t result(int32_t kernel, int32_t unit) {
    return fake_fail_kernel == kernel && fake_fail_unit == unit ? 40 + kernel : 0;
}

static int32_t normalise(void *const *buffers, int32_t begin, int32_t end) {
    const uint8_t(*frame)[W][C] = buffers[0];
    if ((uintptr_t)frame % FAKE_FRAME_ALIGNMENT != 0) {
        return 39;
    }
    const weights *constant = buffers[1];
    float(*feature)[W][C] = buffers[2];
    for (int32_t y = begin; y < end; y++) {
        for (int32_t x = 0; x < W; x++) {
            for (int32_t c = 0; c < C; c++) {
                feature[y][x][c] = ((float)frame[y][x][2 - c] - constant->mean[c]) *
                                   constant->scale[c];
            }
        }
        if (result(0, y) != 0) {
            return result(0, y);
        }
    }
    return 0;
}

static int32_t shift(void *const *buffers, int32_t begin, int32_t end) {
    const float(*feature)[W][C] = buffers[0];
    const float(*before)[W] = buffers[1];
    float(*after)[W] = buffers[2];
    float(*shifted)[W][C] = buffers[3];
    fake_waiting++;
    while (fake_gate != 0) {
        sched_yield();
    }
    fake_waiting--;
    for (int32_t y = begin; y < end; y++) {
        for (int32_t x = 0; x < W; x++) {
            shifted[y][x][0] = before[y][x];
            shifted[y][x][1] = feature[y][x][1];
            shifted[y][x][2] = feature[y][x][2];
            after[y][x] = feature[y][x][0];
        }
        if (result(1, y) != 0) {
            return result(1, y);
        }
    }
    return 0;
}

static int32_t columns(void *const *buffers, int32_t begin, int32_t end) {
    const float(*shifted)[W][C] = buffers[0];
    const float *before = buffers[1];
    float *after = buffers[2];
    float *column = buffers[3];
    float *sums = buffers[4]; /* two threads that shared it would spoil each other's sums */
    for (int32_t x = begin; x < end; x++) {
        sums[x - begin] = 0.0f;
    }
    for (int32_t y = 0; y < H; y++) {
        for (int32_t x = begin; x < end; x++) {
            for (int32_t c = 0; c < C; c++) {
                sums[x - begin] += (float)(c + 1) * shifted[y][x][c];
            }
        }
    }
    for (int32_t x = begin; x < end; x++) {
        column[x] = sums[x - begin];
        after[x] = 0.5f * before[x] + column[x];
        if (result(2, x) != 0) {
            return result(2, x);
        }
    }
    return 0;
}

static int32_t classify(void *const *buffers, int32_t begin, int32_t end) {
    const float *column = buffers[0], *trace = buffers[1];
    const float(*matrix)[W] = buffers[2];
    float *logits = buffers[3];
    for (int32_t k = begin; k < end; k++) {
        float sum = 0.0f;
        for (int32_t x = 0; x < W; x++) {
            sum += matrix[k][x] * (column[x] + trace[x]);
        }
        logits[k] = sum;
#ifdef FAKE_NOT_FINITE
        logits[k] = 1.0f / 0.0f;
#endif
        if (result(3, k) != 0) {
            return result(3, k);
        }
    }
    return 0;
}

static const shiftedge_buffer normalise_buffers[] = {
    {SHIFTEDGE_FRAME, 0, 0},
    {SHIFTEDGE_WEIGHTS, 0, 0},
    {SHIFTEDGE_WORKSPACE, 0, FEATURE_AT},
};
static const shiftedge_buffer shift_buffers[] = {
    {SHIFTEDGE_WORKSPACE, 0, FEATURE_AT},
    {SHIFTEDGE_STATE, 0, FIRST_AT},
    {SHIFTEDGE_NEXT_STATE, 0, FIRST_AT},
    {SHIFTEDGE_WORKSPACE, 0, SHIFTED_AT},
};
static const shiftedge_buffer columns_buffers[] = {
    {SHIFTEDGE_WORKSPACE, 0, SHIFTED_AT},
    {SHIFTEDGE_STATE, 0, TRACE_AT},
    {SHIFTEDGE_NEXT_STATE, 0, TRACE_AT},
    {SHIFTEDGE_WORKSPACE, 0, COLUMN_AT},
    {SHIFTEDGE_SCRATCH, 0, 16},
};
static const shiftedge_buffer classify_buffers[] = {
    {SHIFTEDGE_WORKSPACE, 0, COLUMN_AT},
    {SHIFTEDGE_STATE, 0, TRACE_AT},
    {SHIFTEDGE_WEIGHTS, 0, offsetof(weights, matrix)},
    {SHIFTEDGE_LOGITS, 0, 0},
};

/* -DFAKE_BROKEN=... makes tables that shiftedge_open must refuse. */
#ifndef FAKE_BROKEN
#define FAKE_BROKEN 0
#endif
#ifndef FAKE_FINGERPRINT
#define FAKE_FINGERPRINT 0x1122334455667788
#endif

/* -DFAKE_CPU_FEATURES="..." is what the kernels would need. */

static const shiftedge_kernel kernels[] = {
    {normalise, normalise_buffers, 3, H, 1},
    {shift, shift_buffers, 4, FAKE_BROKEN == 1 ? 0 : H, 2},
    {FAKE_BROKEN == 2 ? NULL : columns, columns_buffers, 5, W, 0},
    {classify, classify_buffers, FAKE_BROKEN == 3 ? SHIFTEDGE_BUFFERS_MOST + 1 : 4, K, 2},
};
static const char *const kernel_names[] = {"normalise", FAKE_BROKEN == 4 ? NULL : "shift",
                                           "columns", "classify"};

static const shiftedge_cpu_plan plan = {
    .kernels = kernels,
    .workspace_bytes = WORKSPACE_BYTES,
    .scratch_bytes = FAKE_BROKEN == 9 ? 16 : SCRATCH_BYTES,
    .weights_bytes = sizeof constants,
    .weights = FAKE_BROKEN == 7 ? (const char *)&constants + 4 : (const char *)&constants,
    .frame_alignment = FAKE_BROKEN == 8 ? 3 : FAKE_FRAME_ALIGNMENT,
#ifdef FAKE_CPU_FEATURES
    .cpu_features = FAKE_CPU_FEATURES,
#endif
};

/* -DFAKE_INT8 is a model that says of itself that it multiplies integers. */
#ifdef FAKE_INT8
#define FAKE_PRECISION "int8"
#define FAKE_DTYPE ", \"dtype\": \"uint8\", \"scale\": 0.5, \"zero_point\": 3"
#else
#define FAKE_PRECISION "fp32"
#define FAKE_DTYPE ""
#endif

static const char *const labels[] = {"No gesture", "Left", "Right", "Stop"};
static const unsigned char silent[K] = {0};
static const shiftedge_spec spec = {
    .name = "fake",
    .precision = FAKE_PRECISION,
    .height = H,
    .width = FAKE_BROKEN == 5 ? 0 : W,
    .resize_short_side = 24,
    .classes = K,
    .labels = labels,
    .silent = silent,
    .frame_rate_hz = 12.0,
    .max_gap_s = 1.0,
    .decoder = {0.15, 0.6, 0.3, 0.08, 0.5},
};
static const char spec_json[] =
    "{\"name\": \"fake\", \"labels\": [\"No gesture\", \"Left\", \"Right\", \"Stop\"], "
    "\"height\": 24, \"width\": 32, \"resize_short_side\": 24, \"states\": ["
    "{\"name\": \"first\", \"shape\": [1, 1, 24, 32]" FAKE_DTYPE "}, "
    "{\"name\": \"trace\", \"shape\": [1, 32]}], "
    "\"receptive_field\": 100, \"schema\": 1, \"precision\": \"" FAKE_PRECISION "\"}";

const shiftedge_program shiftedge_program_table = {
    .spec = &spec,
    .spec_json = FAKE_BROKEN == 10 ? NULL : spec_json,
    .fingerprint = FAKE_FINGERPRINT,
    .state_bytes = FAKE_BROKEN == 6 ? TRACE_AT : STATE_BYTES,
    .kernel_count = 4,
    .kernel_names = kernel_names,
    .executor = &shiftedge_cpu_executor,
    .plan = &plan,
};
