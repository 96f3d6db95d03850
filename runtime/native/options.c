#include "options.h"

#include <stdint.h>
#include <string.h>

#include "error.h"
#include "shiftedge.h"

/* No real options struct is longer: what is, was never set. */
#define OPTIONS_BYTES_MOST 4096

int shiftedge_read_options(void *options, size_t bytes, const void *given, size_t least,
                           const char *name) {
    uint32_t size;
    memset(options, 0, bytes);
    memcpy(&size, given, sizeof size);
    if (size < least || size > OPTIONS_BYTES_MOST) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "options.size is %u; set it to sizeof(%s), %zu.", (unsigned)size, name,
                              bytes);
    }
    for (size_t i = bytes; i < size; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                                  "The options ask for something that this libmodel.so does not "
                                  "know: compile the model with a newer shiftedge.");
        }
    }
    memcpy(options, given, size < bytes ? size : bytes);
    return SHIFTEDGE_OK;
}
