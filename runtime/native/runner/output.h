/* JSON lines, as `shiftedge run` prints them, each written at once and whole; and the figures of
 * the summary. */
#ifndef RUNNER_OUTPUT_H
#define RUNNER_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "live.h"

/* A label of 512 bytes (see library.c), each of which may become \u00XX, and the rest. */
#define OUTPUT_LINE_BYTES 4096

typedef enum output_answer {
    OUTPUT_WRITTEN,
    OUTPUT_CLOSED,  /* the reader went away */
    OUTPUT_STOPPED, /* by a signal, before the line was begun; see stop.h */
    OUTPUT_FAILED,
} output_answer;

/* The text of a line with its line feed: {"time_s": 4.25, "label": "Left", "confidence": 0.93},
 * times and confidences to four digits; `step` marks a line for a model step. line:
 * OUTPUT_LINE_BYTES. Returns its length. */
size_t output_text(char *line, double time_s, const char *label, double confidence, bool step);

/* A text with its quotes, as shiftedge.runtime.words writes JSON: a control code that a terminal
 * would obey is an escape, all else is itself; not terminated. out:
 * 6 bytes for each of the text's, and 2. Returns how many were written. */
size_t output_quote(char *out, const char *text);

/* Whether there is a standard output to write to: one that is closed is told before the work, and
 * not with the first event, hours later. */
bool output_open(failure *failure);

/* After the last line: some file systems tell only now that it did not fit. */
bool output_close(failure *failure);

/* Always false: what errno says of a write to standard output. */
bool output_failed(failure *failure);

/* Write such a line to standard output. */
output_answer output_line(double time_s, const char *label, double confidence, bool step,
                          failure *failure);

/* The share of the best label, its index in `best`: what a step's line says. */
double output_share(const float *logits, int count, int *best);

/* Times of steps in bins of 1% from 1 us on, so that a stream of days takes no more memory than
 * one of seconds. */
#define OUTPUT_BINS 2048

typedef struct output_summary {
    int64_t frames, steps, events;
    int64_t resets[SHIFTEDGE_RESET_CUT + 1];
    int64_t timed; /* frames in the bins */
    int64_t bins[OUTPUT_BINS];
} output_summary;

void output_count_step(output_summary *summary, double seconds);

/* To standard error. */
void output_print_summary(const output_summary *summary);

/* "the scene was cut" */
const char *output_reset_reason(int32_t reset);

/* A sentence to standard error, behind the program's name, control codes as "?": it names what
 * others have named. */
void output_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
