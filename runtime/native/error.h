/* Error sentences, one per thread. */
#ifndef SHIFTEDGE_ERROR_H
#define SHIFTEDGE_ERROR_H

/* Keep a sentence for shiftedge_last_error() of this thread; returns `status`. */
int shiftedge_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For what the compiler got wrong, in some words; returns SHIFTEDGE_ERROR_PROGRAM. */
int shiftedge_fail_program(const char *wrong);

#endif
