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

#include "input.h"
#include "live.h"
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
    live live;
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

static void count(output_summary *summary, const live_result *result, double time_s) {
    summary->frames++;
    summary->steps += result->steps;
    summary->events += result->has_event;
    if (result->steps > 0) {
        output_count_step(summary, result->step_s / (double)result->steps);
    }
    if (result->reset != RESET_NONE) {
        summary->resets[result->reset]++;
        output_note("states emptied at %.2f s: %s", time_s, output_reset_words(result->reset));
    }
}

/* The lines of one frame. */
static output_answer print(session *session, const live_result *result, double time_s,
                           failure *failure) {
    const live *live = &session->live;
    output_answer answer = OUTPUT_WRITTEN;
    if (session->options.steps && result->steps > 0) {
        int best = 0;
        double share = output_share(live->logits, live->spec.classes, &best);
        answer = output_line(time_s, live->spec.labels[best], share, true, failure);
    }
    if (answer == OUTPUT_WRITTEN && result->has_event) {
        const gesture_event *event = &result->event;
        answer = output_line(event->time_s, live->spec.labels[event->index], event->confidence,
                             false, failure);
    }
    return answer;
}

static bool write_logits(session *session, failure *failure) {
    size_t classes = (size_t)session->live.spec.classes;
    return fwrite(session->live.logits, sizeof(float), classes, session->logits) == classes ||
           fail(failure, "Cannot write %s: %s.", session->options.logits, strerror(errno));
}

/* One frame; false when the stream is over, with the exit status. */
static bool take_frame(session *session, int *status, failure *failure) {
    live_result result;
    double time_s = frame_time_s(session);
    *status = FAILED;
    if (!live_feed(&session->live, session->input.frame, time_s, &result, failure)) {
        return false;
    }
    count(&session->summary, &result, time_s);
    if (session->logits != NULL && result.steps > 0 && !write_logits(session, failure)) {
        return false;
    }
    output_answer answer = print(session, &result, time_s, failure);
    /* A reader that went away (`| head`) is no mistake; a signal is looked at by the caller. */
    *status = answer == OUTPUT_FAILED ? FAILED : DONE;
    return answer == OUTPUT_WRITTEN;
}

/* What is left when the input has ended. */
static int at_end(const session *session, failure *failure) {
    const input *input = &session->input;
    const video *video = &session->options.video;
    if (input->got > 0 && session->summary.frames > 0) {
        output_note("The last frame was cut short (%zu of %zu bytes) and is dropped.", input->got,
                    input->frame_bytes);
        return DONE;
    }
    if (session->summary.frames > 0) {
        return DONE;
    }
    if (input->got == 0) {
        (void)fail(failure, "The input ended without a frame.");
    } else {
        (void)fail(failure,
                   "The input has %zu bytes, less than one frame of %dx%d %s (%zu bytes); check "
                   "--size and --format.",
                   input->got, video->width, video->height, video_format_name(video->format),
                   input->frame_bytes);
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

static int run(session *session, failure *failure) {
    const options *options = &session->options;
    int status = FAILED;
    if (live_open(&session->live, options->model, options->threads, &options->video, failure)) {
        if (input_open(&session->input, options->input, video_frame_bytes(&options->video),
                       failure)) {
            if (open_logits(session, failure)) {
                status = stream(session, failure);
                if (stop_signal() == SIGINT) {
                    output_note("interrupted");
                }
                output_print_summary(&session->summary);
                status = close_logits(session, status, failure);
            }
            input_close(&session->input);
        } else if (stop_signal() != 0) {
            status = DONE; /* while it waited for the other end of a named pipe */
        }
        live_close(&session->live);
    }
    if (status == FAILED) {
        output_note("%s", failure->text);
    } else if (stop_signal() == SIGTERM || stop_signal() == SIGHUP) {
        status = 128 + stop_signal();
    }
    return status;
}

/* A file opened later must not become standard output because that was closed. */
static void open_standard(void) {
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++) {
        if (fcntl(descriptor, F_GETFD) < 0) {
            (void)open("/dev/null", O_RDWR); /* takes the lowest number that is free */
        }
    }
}

int main(int argc, char *argv[]) {
    static session session; /* with the summary's bins, too large for the stack of a small board */
    failure failure = {""};
    open_standard();
    if (!options_read(&session.options, argc, argv, &failure)) {
        output_note("%s\n`shiftedge-run --help` shows the options.", failure.text);
        return USAGE;
    }
    if (session.options.help || session.options.version) {
        const char *text = session.options.help ? options_help
                                                : "shiftedge-run " SHIFTEDGE_VERSION "\n";
        return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? FAILED : DONE;
    }
    if (session.options.self_test) {
        const options *options = &session.options;
        if (selftest_run(options->model, options->threads, options->self_test_steps, &failure)) {
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
    stop_prepare();
    return run(&session, &failure);
}
