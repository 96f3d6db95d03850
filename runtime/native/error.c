#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shiftedge.h"

/* Thread-local memory of a library that was opened late is allocated at a thread's first touch, so
 * a step touches it only when it fails. */
static _Thread_local char last_error[512];
static _Thread_local char kernel_text[SHIFTEDGE_KERNEL_TEXT_BYTES];

const char *shiftedge_last_error(void) { return last_error; }

int shiftedge_fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

static size_t append(size_t used, const char *text) {
    size_t room = sizeof kernel_text - 1 - used;
    size_t length = strlen(text);
    length = length < room ? length : room;
    for (size_t i = 0; i < length; i++) {
        kernel_text[used + i] = text[i] == '\n' ? ' ' : text[i]; /* one sentence, one line */
    }
    kernel_text[used + length] = '\0';
    return used + length;
}

void shiftedge_kernel_text_set(const char *kind, const char *const *parts, int count) {
    size_t used = 0;
    if (kind != NULL && kind[0] != '\0') {
        used = append(used, kind);
        used = append(used, ": ");
    }
    for (int i = 0; i < count; i++) {
        if (parts[i] != NULL) {
            used = append(used, parts[i]);
        }
    }
}

void shiftedge_kernel_text_take(char text[SHIFTEDGE_KERNEL_TEXT_BYTES]) {
    memcpy(text, kernel_text, sizeof kernel_text);
    kernel_text[0] = '\0';
}
