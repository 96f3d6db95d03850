#include "error.h"

#include <stdarg.h>
#include <stdio.h>

#include "shiftedge.h"

/* Thread-local memory of a library that was opened late is allocated at a thread's first touch, so
 * a step touches it only when it fails. */
static _Thread_local char last_error[512];

const char *shiftedge_last_error(void) { return last_error; }

int shiftedge_fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

int shiftedge_fail_program(const char *wrong) {
    return shiftedge_fail(SHIFTEDGE_ERROR_PROGRAM,
                          "This libmodel.so is not right (%s): compile the model again.", wrong);
}
