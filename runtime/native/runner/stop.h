/* SIGINT, SIGTERM and SIGHUP: held back but while the runner waits for its input or output, so that
 * no line is cut and none is waited for in vain. */
#ifndef RUNNER_STOP_H
#define RUNNER_STOP_H

#include <stdbool.h>

/* Before any thread is started, so that all of them inherit what is held back. */
void stop_prepare(void);

/* The signal that came, or 0. */
int stop_signal(void);

/* Wait until a descriptor can be read from (or written to, at least PIPE_BUF bytes) or a signal
 * comes; false: one has come. A descriptor that is broken counts as ready. */
bool stop_or_readable(int descriptor);
bool stop_or_writable(int descriptor);

/* Wait until it can be written to, whatever signal has come. */
void stop_wait_writable(int descriptor);

/* open(path, O_RDONLY), which waits for the other end of a named pipe: -1 with EINTR for a signal. */
int stop_or_open(const char *path);

#endif
