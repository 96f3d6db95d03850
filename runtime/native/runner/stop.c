#define _GNU_SOURCE /* ppoll */
#define _FILE_OFFSET_BITS 64 /* recordings are long */
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>

/* SIGHUP: of a dropped ssh, a closed terminal */
static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
static volatile sig_atomic_t came;
static sigset_t waiting_mask; /* what is held back while waiting: as the program was started */

static void note(int number) { came = number; }

void stop_prepare(void) {
    struct sigaction take = {.sa_handler = note}, before;
    sigset_t held;
    (void)sigemptyset(&held);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        /* A shell starts its background jobs with SIGINT ignored, nohup with SIGHUP: meant so. */
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN) {
            continue;
        }
        (void)sigaction(numbers[i], &take, NULL);
        (void)sigaddset(&held, numbers[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &held, &waiting_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        (void)sigdelset(&waiting_mask, numbers[i]);
    }
}

int stop_signal(void) { return came; }

/* A signal that is held back. ppoll does not let it in while the descriptor is ready, as one of a
 * file always is. */
static void look(void) {
    sigset_t pending;
    if (sigpending(&pending) == 0) {
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            came = sigismember(&pending, numbers[i]) == 1 ? numbers[i] : came;
        }
    }
}

static bool wait_for(int descriptor, short events) {
    struct pollfd waited = {.fd = descriptor, .events = events};
    look();
    while (came == 0 && ppoll(&waited, 1, NULL, &waiting_mask) < 0) {
        /* EINTR: of a signal that is ours or not */
    }
    return came == 0;
}

bool stop_or_readable(int descriptor) { return wait_for(descriptor, POLLIN); }

bool stop_or_writable(int descriptor) { return wait_for(descriptor, POLLOUT); }

void stop_wait_writable(int descriptor) {
    struct pollfd waited = {.fd = descriptor, .events = POLLOUT};
    (void)poll(&waited, 1, -1);
}

int stop_or_open(const char *path) {
    sigset_t held;
    (void)sigprocmask(SIG_SETMASK, &waiting_mask, &held);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    int why = errno;
    (void)sigprocmask(SIG_SETMASK, &held, NULL);
    errno = why;
    return descriptor;
}
