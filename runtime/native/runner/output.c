#define _POSIX_C_SOURCE 200809L
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stop.h"

#define BIN_RATIO 1.01
#define BIN_LEAST_S 1e-6
#define NOTE_BYTES 1152 /* a failure's text and some words */

/* A number as Python's json writes round(value, 4): no zeros at the end, but one digit at least
 * behind the point. */
static size_t number(char *out, size_t room, double value) {
    int length = snprintf(out, room, "%.4f", value);
    size_t used = length > 0 && (size_t)length < room ? (size_t)length : 0;
    while (used > 1 && out[used - 1] == '0' && out[used - 2] != '.') {
        used--;
    }
    return used;
}

/* Bytes of the control code that `text` begins with, 0 if it is none; `code` is its number. The
 * codes are those of shiftedge.runtime.words: C0, C1, and Unicode's separators and marks of
 * direction. */
static size_t control(const char *text, unsigned *code) {
    const unsigned char *byte = (const unsigned char *)text;
    if (byte[0] < 0x20 || byte[0] == 0x7f) {
        *code = byte[0];
        return byte[0] == 0 ? 0 : 1;
    }
    if (byte[0] == 0xc2 || byte[0] == 0xd8) { /* of two bytes */
        *code = (byte[0] & 0x1fu) << 6 | (byte[1] & 0x3fu);
        return (*code >= 0x80 && *code <= 0x9f) || *code == 0x61c ? 2 : 0;
    }
    if (byte[0] == 0xe2 && (byte[1] == 0x80 || byte[1] == 0x81)) { /* of three */
        *code = 0x2000u | (byte[1] & 0x3fu) << 6 | (byte[2] & 0x3fu);
        bool is = *code == 0x200e || *code == 0x200f || (*code >= 0x2028 && *code <= 0x202e) ||
                  (*code >= 0x2066 && *code <= 0x2069);
        return is && byte[2] >= 0x80 ? 3 : 0;
    }
    return 0;
}

size_t output_quote(char *out, const char *text) {
    static const char meanings[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    size_t used = 0;
    out[used++] = '"';
    while (*text != '\0') {
        const char *place = strchr(meanings, *text);
        unsigned code;
        size_t bytes = control(text, &code);
        if (place != NULL) {
            out[used++] = '\\';
            out[used++] = names[place - meanings];
        } else if (bytes > 0) {
            used += (size_t)sprintf(out + used, "\\u%04x", code);
        } else {
            out[used++] = *text;
        }
        text += bytes > 0 ? bytes : 1;
    }
    out[used++] = '"';
    return used;
}

static size_t put(char *out, const char *text) {
    size_t length = strlen(text);
    memcpy(out, text, length);
    return length;
}

size_t output_text(char *line, double time_s, const char *label, double confidence, bool step) {
    enum { NUMBER_BYTES = 340 }; /* the largest double has 309 digits before the point */
    size_t used = put(line, "{\"time_s\": ");
    used += number(line + used, NUMBER_BYTES, time_s);
    used += put(line + used, ", \"label\": ");
    used += output_quote(line + used, label);
    used += put(line + used, ", \"confidence\": ");
    used += number(line + used, NUMBER_BYTES, confidence);
    used += put(line + used, step ? ", \"step\": true}\n" : "}\n");
    return used;
}

bool output_failed(failure *failure) {
    return fail(failure, "Cannot write to standard output: %s.", strerror(errno));
}

bool output_open(failure *failure) {
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    return (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY) ||
           fail(failure,
                "Standard output is closed, so every event would be lost; send it somewhere, such "
                "as > /dev/null if it is not wanted.");
}

bool output_close(failure *failure) {
    return close(STDOUT_FILENO) == 0 || output_failed(failure);
}

output_answer output_line(double time_s, const char *label, double confidence, bool step,
                          failure *failure) {
    char line[OUTPUT_LINE_BYTES];
    size_t length = output_text(line, time_s, label, confidence, step);
    for (size_t done = 0; done < length;) {
        /* Begun lines are ended, whatever signal came meanwhile. */
        if (!stop_or_writable(STDOUT_FILENO) && done == 0) {
            return OUTPUT_STOPPED;
        }
        ssize_t count = write(STDOUT_FILENO, line + done, length - done);
        if (count >= 0) {
            done += (size_t)count;
        } else if (errno == EPIPE) {
            return OUTPUT_CLOSED;
        } else if (errno == EAGAIN) {
            stop_wait_writable(STDOUT_FILENO);
        } else if (errno != EINTR) {
            (void)output_failed(failure);
            return OUTPUT_FAILED;
        }
    }
    return OUTPUT_WRITTEN;
}

double output_share(const float *logits, int count, int *best) {
    double sum = 0;
    *best = 0;
    for (int i = 1; i < count; i++) {
        *best = logits[i] > logits[*best] ? i : *best;
    }
    for (int i = 0; i < count; i++) {
        sum += exp((double)logits[i] - (double)logits[*best]);
    }
    return 1.0 / sum;
}

void output_count_step(output_summary *summary, double seconds) {
    double bin = seconds > BIN_LEAST_S ? log(seconds / BIN_LEAST_S) / log(BIN_RATIO) : 0;
    summary->bins[bin < OUTPUT_BINS - 1 ? (int)bin : OUTPUT_BINS - 1]++;
    summary->timed++;
}

/* Milliseconds that `share` of the steps did not pass. */
static double percentile_ms(const output_summary *summary, double share) {
    int64_t rank = (int64_t)(share * (double)(summary->timed - 1)), below = 0;
    int bin = 0;
    while (bin < OUTPUT_BINS - 1 && (below += summary->bins[bin]) <= rank) {
        bin++;
    }
    return 1e3 * BIN_LEAST_S * pow(BIN_RATIO, bin + 0.5);
}

static const struct {
    const char *name, *reason;
} resets[] = {
    [SHIFTEDGE_RESET_NONE] = {"", ""},
    [SHIFTEDGE_RESET_GAP] = {"gap", "no frame for longer than the model's limit"},
    [SHIFTEDGE_RESET_CLOCK] = {"clock", "the frames' time went back"},
    [SHIFTEDGE_RESET_CUT] = {"cut", "the scene was cut"},
};

const char *output_reset_reason(int32_t reset) { return resets[reset].reason; }

void output_print_summary(const output_summary *summary) {
    char times[80] = "no step taken", emptied[160] = "";
    size_t used = 0;
    if (summary->timed > 0) {
        (void)snprintf(times, sizeof times, "step p50 %.2f ms, p99 %.2f ms",
                       percentile_ms(summary, 0.5), percentile_ms(summary, 0.99));
    }
    for (int i = SHIFTEDGE_RESET_GAP; i <= SHIFTEDGE_RESET_CUT; i++) {
        if (summary->resets[i] > 0) {
            used += (size_t)snprintf(emptied + used, sizeof emptied - used, "%s%lld by %s",
                                     used == 0 ? ", states emptied: " : ", ",
                                     (long long)summary->resets[i], resets[i].name);
        }
    }
    output_note("%lld frames, %lld steps, %lld events, %s%s", (long long)summary->frames,
                (long long)summary->steps, (long long)summary->events, times, emptied);
}

void output_note(const char *format, ...) {
    char text[NOTE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t used = 0;
    for (const char *from = text; *from != '\0';) {
        unsigned code;
        size_t bytes = *from == '\n' ? 0 : control(from, &code);
        text[used++] = bytes > 0 ? '?' : *from;
        from += bytes > 0 ? bytes : 1;
    }
    text[used] = '\0';
    (void)fprintf(stderr, "shiftedge-run: %s\n", text);
}
