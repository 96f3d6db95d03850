#include "buffers.h"
#include "program.h"

static uint64_t region_bytes(const shiftedge_program *program, const shiftedge_buffer_sizes *sizes,
                             uint32_t kind) {
    switch (kind) {
    case SHIFTEDGE_FRAME:
        return shiftedge_frame_bytes(program);
    case SHIFTEDGE_WEIGHTS:
        return sizes->weights;
    case SHIFTEDGE_STATE:
    case SHIFTEDGE_NEXT_STATE:
        return program->state_bytes;
    case SHIFTEDGE_WORKSPACE:
        return sizes->workspace;
    case SHIFTEDGE_LOGITS:
        return (uint64_t)program->spec->classes * sizeof(float);
    case SHIFTEDGE_SCRATCH:
        return sizes->scratch;
    default:
        return 0;
    }
}

const char *shiftedge_check_buffers(const shiftedge_program *program,
                                    const shiftedge_buffer_sizes *sizes,
                                    const shiftedge_buffer *buffers, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (buffers[i].offset >= region_bytes(program, sizes, buffers[i].kind)) {
            return "a kernel's argument lies outside its memory";
        }
    }
    return NULL;
}
