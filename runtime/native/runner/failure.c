#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

bool fail(failure *failure, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    return false;
}
