/* A program table for GPUs by hand: what a compiler would write looks the same. Three launches, two
 * states, small enough that tests repeat it in numpy to the last bit.
 *
 *     mix    value[i] = frame[i] * weight[i % 8]                       i < 2304, the frame's bytes
 *     keep   first = first / 2 + value[0 .. 23]; second = second + value[24 .. 31]
 *     tail   logits[k] = value[2048 + k] + first[k] + second[k]        as the frame before left them
 */
#include "cuda/launches.h"
#include "program.h"

enum { H = 24, W = 32, K = 4, SECOND_AT = 128, STATE_BYTES = SECOND_AT + 8 * 4 };

__asm__(".pushsection .rodata\n"
        "fake_ptx: .incbin \"cuda_model.ptx\"\n"
        ".byte 0\n"
        ".popsection\n");
extern const char fake_ptx[];

static const float weights[8] = {0.5f, -1.25f, 2.0f, 0.75f, -0.5f, 1.0f, 3.0f, -2.5f};
static const shiftedge_buffer mix[] = {
    {SHIFTEDGE_FRAME, 0, 0}, {SHIFTEDGE_WEIGHTS, 0, 0}, {SHIFTEDGE_WORKSPACE, 0, 0}};
static const shiftedge_buffer keep[] = {
    {SHIFTEDGE_STATE, 0, 0},      {SHIFTEDGE_STATE, 0, SECOND_AT},     {SHIFTEDGE_WORKSPACE, 0, 0},
    {SHIFTEDGE_NEXT_STATE, 0, 0}, {SHIFTEDGE_NEXT_STATE, 0, SECOND_AT}};
static const shiftedge_buffer tail[] = {
    {SHIFTEDGE_WORKSPACE, 0, 0}, {SHIFTEDGE_STATE, 0, 0},
    {SHIFTEDGE_STATE, 0, SECOND_AT}, {SHIFTEDGE_LOGITS, 0, 0}};

#ifndef WRONG
#define WRONG 0
#endif
/* Not as it should be, one thing at a time. */
static const shiftedge_cuda_launch launches[] = {
    {WRONG == 1 ? "nothing" : "mix", H * W * 3 / 32, 32, mix, 3},
    {"keep", 1, WRONG == 2 ? 2000 : 32, keep, 5},
    {"tail", WRONG == 3 ? 0 : 1, 4, tail, WRONG == 4 ? 0 : 4},
};
static const shiftedge_cuda_plan plan = {
    .launches = launches,
    .text = WRONG == 5 ? 0 : fake_ptx,
    .workspace_bytes = WRONG == 6 ? (uint64_t)1 << 40 : H * W * 3 * 4,
    .weights_bytes = sizeof weights,
    .weights = weights,
    .capability = 53,
    .driver = 10000,
};

static const char *const names[] = {"mix", "keep", "tail"};
static const char *const labels[] = {"none", "left", "right", "stop"};
static const unsigned char silent[] = {1, 0, 0, 0};
static const shiftedge_spec spec = {
    .name = "by hand", .precision = "fp32", .height = H, .width = W, .resize_short_side = 28,
    .classes = K, .frame_rate_hz = 12, .max_gap_s = 1, .labels = labels, .silent = silent,
    .decoder = {.smoothing_s = 0.15, .enter = 0.6, .exit = 0.3, .min_duration_s = 0.08, .rearm_s = 0.5},
};
const shiftedge_program shiftedge_program_table = {
    .spec = &spec, .spec_json = "{}", .fingerprint = 77, .state_bytes = STATE_BYTES,
    .kernel_count = 3, .kernel_names = names, .executor = &shiftedge_cuda_executor, .plan = &plan,
};
