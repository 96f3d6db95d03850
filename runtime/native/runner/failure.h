/* One sentence for the user, filled in where something went wrong and printed once, in main. */
#ifndef RUNNER_FAILURE_H
#define RUNNER_FAILURE_H

#include <stdbool.h>

typedef struct failure {
    char text[1024];
} failure;

/* Always false, so that a function can end with `return fail(...)`. What does not fit is cut. */
bool fail(failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
