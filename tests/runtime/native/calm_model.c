/* A model of one kernel whose logits have a real model's size: each label follows the brightness
 * of a quarter of the picture, with a memory of some frames, so that gestures come and go. */
#include <stddef.h>
#include <stdint.h>

#include "cpu/kernels.h"
#include "program.h"

enum { H = 24, W = 32, K = 4 };

static int32_t quarters(void *const *buffers, int32_t begin, int32_t end) {
    const uint8_t(*frame)[W][3] = buffers[0];
    const float *before = buffers[1];
    float *after = buffers[2], *logits = buffers[3];
    float mean = 0.0f;
    (void)begin, (void)end; /* one unit */
    for (int k = 0; k < K; k++) {
        int32_t sum = 0;
        for (int y = 0; y < H; y++) {
            for (int x = k * W / K; x < (k + 1) * W / K; x++) {
                sum += frame[y][x][0] + 2 * frame[y][x][1] + 3 * frame[y][x][2];
            }
        }
        after[k] = 0.5f * before[k] + 0.5f * (float)sum / (float)(6 * H * W / K);
        mean += after[k] / (float)K;
    }
    for (int k = 0; k < K; k++) {
        logits[k] = 0.2f * (after[k] - mean);
    }
    return 0;
}

static const shiftedge_buffer arguments[] = {
    {SHIFTEDGE_FRAME, 0, 0},
    {SHIFTEDGE_STATE, 0, 0},
    {SHIFTEDGE_NEXT_STATE, 0, 0},
    {SHIFTEDGE_LOGITS, 0, 0},
};
static const shiftedge_kernel kernels[] = {{quarters, arguments, 4, 1, 0}};
static const char *const kernel_names[] = {"quarters"};
static const shiftedge_cpu_plan plan = {.kernels = kernels, .frame_alignment = 1};

static const char *const labels[] = {"No gesture", "Left", "Right", "Stop"};
static const unsigned char silent[K] = {1};
static const shiftedge_spec spec = {
    .name = "calm",
    .precision = "fp32",
    .height = H,
    .width = W,
    .resize_short_side = 24,
    .classes = K,
    .labels = labels,
    .silent = silent,
    .frame_rate_hz = 12.0,
    .max_gap_s = 1.0,
    .decoder = {0.15, 0.6, 0.3, 0.08, 0.5},
};

const shiftedge_program shiftedge_program_table = {
    .spec = &spec,
    .spec_json = "{\"name\": \"calm\", \"labels\": [\"No gesture\", \"Left\", \"Right\", \"Stop\"], "
                 "\"height\": 24, \"width\": 32, \"resize_short_side\": 24, "
                 "\"states\": [{\"name\": \"means\", \"shape\": [1, 4]}], "
                 "\"silent_labels\": [\"No gesture\"], \"receptive_field\": 100, \"schema\": 1}",
    .fingerprint = 0x5ca1ab1e,
    .state_bytes = K * sizeof(float),
    .kernel_count = 1,
    .kernel_names = kernel_names,
    .executor = &shiftedge_cpu_executor,
    .plan = &plan,
};
