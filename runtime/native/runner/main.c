/* shiftedge-run: raw video in, the JSON lines of `shiftedge run` out, with nothing but libc. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64 /* of --logits */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fitting.h"
#include "input.h"
#include "library.h"
#include "options.h"
#include "output.h"
#include "selftest.h"
#include "stop.h"

#ifndef SHIFTEDGE_VERSION
#define SHIFTEDGE_VERSION "development"
#endif

enum { DONE = 0, FAILED = 1, USAGE = 2 };

typedef struct session {
    options options;
    library library;
    shiftedge_live *live;
    input input;
    FILE *logits; /* or NULL */
    double start_s;
    output_summary summary;
} session;

static double now_s(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* When the frame that has just been read was taken. */
static double frame_time_s(session *session) {
    int64_t index = session->summary.frames;
    if (session->options.rate_hz > 0) {
        return (double)index / session->options.rate_hz;
    }
    double time_s = now_s();
    session->start_s = index == 0 ? time_s : session->start_s;
    return time_s - session->start_s;
}

static void count(output_summary *summary, const shiftedge_live_result *result, double time_s) {
    summary->frames++;
    summary->steps += result->steps;
    summary->events += result->event != NULL;
    if (result->steps > 0) {
        output_count_step(summary, result->step_s / (double)result->steps);
    }
    if (result->reset != SHIFTEDGE_RESET_NONE) {
        summary->resets[result->reset]++;
        output_note("states emptied at %.2f s: %s", time_s, output_reset_reason(result->reset));
    }
}

/* The lines of one frame. */
static output_answer print(session *session, const shiftedge_live_result *result, double time_s,
                           failure *failure) {
    const shiftedge_spec *spec = session->library.spec;
    const shiftedge_event *event = result->event;
    output_answer answer = OUTPUT_WRITTEN;
    if (session->options.steps && result->steps > 0) {
        int best = 0;
        double share = output_share(result->logits, spec->classes, &best);
        answer = output_line(time_s, spec->labels[best], share, true, failure);
    }
    if (answer == OUTPUT_WRITTEN && event != NULL) {
        answer = output_line(event->time_s, event->label, event->confidence, false, failure);
    }
    return answer;
}

static bool write_logits(session *session, const float *logits, failure *failure) {
    size_t classes = (size_t)session->library.spec->classes;
    return fwrite(logits, sizeof(float), classes, session->logits) == classes ||
           fail(failure, "Cannot write %s: %s.", session->options.logits, strerror(errno));
}

/* One frame; false when the stream is over, with the exit status. */
static bool take_frame(session *session, int *status, failure *failure) {
    const library *library = &session->library;
    const shiftedge_live_result *result = NULL;
    double time_s = frame_time_s(session);
    *status = FAILED;
    if (!library_did(library,
                     library->live_feed(session->live, session->input.frame, time_s, &result),
                     failure)) {
        return false;
    }
    count(&session->summary, result, time_s);
    if (session->logits != NULL && result->steps > 0 &&
        !write_logits(session, result->logits, failure)) {
        return false;
    }
    output_answer answer = print(session, result, time_s, failure);
    /* A reader that went away (`| head`) is no mistake; a signal is looked at by the caller. */
    *status = answer == OUTPUT_FAILED ? FAILED : DONE;
    return answer == OUTPUT_WRITTEN;
}

/* What is left when the input has ended. */
static int at_end(const session *session, failure *failure) {
    const input *input = &session->input;
    char fits[FITTING_TEXT_BYTES];
    /* Ctrl-C ends the program before us in the pipe too, amid a frame. */
    if (!stop_or_readable(input->descriptor) || (input->got == 0 && input->total > 0)) {
        return DONE;
    }
    if (input->total == 0) {
        (void)fail(failure, "The input ended without a frame.");
    } else {
        fitting_text(fits, &session->options.video, input->total);
        (void)fail(failure, "The input ended inside a frame: %s", fits);
    }
    return FAILED;
}

static int stream(session *session, failure *failure) {
    int status = DONE;
    for (;;) {
        switch (input_next(&session->input, failure)) {
        case INPUT_FRAME:
            if (!take_frame(session, &status, failure)) {
                return status;
            }
            break;
        case INPUT_END:
            return at_end(session, failure);
        case INPUT_STOPPED:
            return DONE;
        case INPUT_FAILED:
            return FAILED;
        }
    }
}

static bool open_logits(session *session, failure *failure) {
    const char *path = session->options.logits;
    if (path != NULL) {
        session->logits = fopen(path, "wbe");
    }
    return path == NULL || session->logits != NULL ||
           fail(failure, "Cannot write %s: %s.", path, strerror(errno));
}

static int close_logits(session *session, int status, failure *failure) {
    if (session->logits != NULL && fclose(session->logits) != 0 && status == DONE) {
        (void)fail(failure, "Cannot write %s: %s.", session->options.logits, strerror(errno));
        return FAILED;
    }
    return status;
}

/* Frames that are all further apart than the model's limit: no gesture can be seen, and the reason
 * is an --fps that is not the film's. */
static void check_rate(const session *session) {
    double rate_hz = session->options.rate_hz, most_s = session->library.spec->max_gap_s;
    if (rate_hz > 0 && 1 / rate_hz > most_s + 1e-6) {
        output_note("With --fps %g frames lie %g s apart, and after %g s without one the states "
                    "are emptied, so that no gesture can be seen: frames per second are expected.",
                    rate_hz, 1 / rate_hz, most_s);
    }
}

static bool open_live(session *session, failure *failure) {
    const options *options = &session->options;
    const video *video = &options->video;
    library *library = &session->library;
    shiftedge_live_options wanted = {
        .size = sizeof wanted,
        .format = (uint32_t)video->format,
        .width = video->width,
        .height = video->height,
        .stride_bytes = video->stride,
        .flags = video->full_range ? SHIFTEDGE_LIVE_FULL_RANGE : 0,
    };
    if (!library_open(library, options->model, options->device, options->threads, failure)) {
        return false;
    }
    int status = library->live_open(library->model, &wanted, &session->live);
    if (!library_did(library, status, failure)) {
        library_close(library);
        return false;
    }
    return true;
}

static int run(session *session, failure *failure) {
    const options *options = &session->options;
    int status = FAILED;
    if (open_live(session, failure)) {
        check_rate(session);
        if (input_open(&session->input, options->input, video_frame_bytes(&options->video),
                       failure)) {
            if (open_logits(session, failure)) {
                status = stream(session, failure);
                if (stop_signal() == SIGINT) {
                    output_note("interrupted");
                }
                output_print_summary(&session->summary);
                status = close_logits(session, status, failure);
                if (status == DONE && !output_close(failure)) {
                    status = FAILED;
                }
            }
            input_close(&session->input);
        } else if (stop_signal() != 0) {
            status = DONE; /* while it waited for the other end of a named pipe */
        }
        session->library.live_close(session->live);
        library_close(&session->library);
    }
    if (status == FAILED) {
        output_note("%s", failure->text);
    } else if (stop_signal() == SIGTERM || stop_signal() == SIGHUP) {
        status = 128 + stop_signal();
    }
    return status;
}

/* A file opened later must not become standard output because that was closed. What takes its place
 * cannot be written to, so that nothing is lost in it unsaid; nor can what takes standard input's be
 * read from. What is for people may be lost. */
static void open_standard(void) {
    const int modes[] = {[STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY,
                         [STDERR_FILENO] = O_WRONLY};
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++) {
        if (fcntl(descriptor, F_GETFD) < 0) {
            (void)open("/dev/null", modes[descriptor]); /* takes the lowest number that is free */
        }
    }
}

static int print_text(const char *text) {
    failure failure;
    if (fputs(text, stdout) >= 0 && fflush(stdout) == 0) {
        return DONE;
    }
    (void)output_failed(&failure);
    output_note("%s", failure.text);
    return FAILED;
}

int main(int argc, char *argv[]) {
    static session session; /* with the summary's bins, too large for the stack of a small board */
    failure failure = {""};
    open_standard();
    /* Their answers come from write: a pipe without a reader, a file at its limit (ulimit -f). */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (!options_read(&session.options, argc, argv, &failure)) {
        output_note("%s\n`shiftedge-run --help` shows the options.", failure.text);
        return USAGE;
    }
    if (session.options.help || session.options.version) {
        const char *text = session.options.help ? options_help
                                                : "shiftedge-run " SHIFTEDGE_VERSION "\n";
        return print_text(text);
    }
    if (session.options.self_test) {
        const options *options = &session.options;
        if (selftest_run(options->model, options->device, options->threads, options->self_test_steps,
                         &failure)) {
            return DONE;
        }
        output_note("%s", failure.text);
        return FAILED;
    }
    if ((session.options.input == NULL || strcmp(session.options.input, "-") == 0) &&
        isatty(STDIN_FILENO)) {
        output_note("Standard input is a terminal; pipe raw video into it, or use --input.");
        return USAGE;
    }
    if (!output_open(&failure)) {
        output_note("%s", failure.text);
        return FAILED;
    }
    stop_prepare();
    return run(&session, &failure);
}
