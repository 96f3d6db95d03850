/* Error sentences, one per thread. */
#ifndef SHIFTEDGE_ERROR_H
#define SHIFTEDGE_ERROR_H

#pragma GCC visibility push(hidden)

#define SHIFTEDGE_KERNEL_TEXT_BYTES 256

/* Keep a sentence for shiftedge_last_error() of this thread; returns `status`. */
int shiftedge_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a failing kernel has to say, on the thread that runs it; step.c carries it to the caller's
 * thread. `parts` are joined and cut to SHIFTEDGE_KERNEL_TEXT_BYTES. */
void shiftedge_kernel_text_set(const char *kind, const char *const *parts, int count);

/* Move this thread's kernel text into `text` ("" if there is none), and forget it. */
void shiftedge_kernel_text_take(char text[SHIFTEDGE_KERNEL_TEXT_BYTES]);

#pragma GCC visibility pop

#endif
