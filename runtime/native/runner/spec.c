#define _POSIX_C_SOURCE 200809L /* strdup */
#include "spec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define SCHEMA 2

typedef struct names {
    char **items;
    int count;
} names;

static void names_free(names *names) {
    for (int i = 0; i < names->count; i++) {
        free(names->items[i]);
    }
    free(names->items);
    *names = (struct names){NULL, 0};
}

/* Each field twice: its value, and a bit that it has come. */
enum field {
    SCHEMA_FIELD = 1,
    NAME = 2,
    LABELS = 4,
    HEIGHT = 8,
    WIDTH = 16,
    SHORT_SIDE = 32,
    RATE = 64,
    GAP = 128,
    SILENT = 256,
    DECODER = 512,
    PRECISION = 1024,
    REQUIRED = SCHEMA_FIELD | NAME | LABELS | HEIGHT | WIDTH | SHORT_SIDE,
};

typedef struct reading {
    json_reader json;
    spec *spec;
    names labels, silent;
    unsigned seen;
    failure *failure;
    bool failed; /* the failure is written already, and is not one of the JSON text's */
} reading;

static bool refuse(reading *reading) {
    reading->failed = true;
    return false;
}

static bool memory(reading *reading) {
    (void)fail(reading->failure, "There is no memory left for the model's spec.");
    return refuse(reading);
}

/* A number from low to high; where `whole` is asked for, without a fraction. */
static bool number(reading *reading, const char *what, double low, double high, bool whole,
                   double *value) {
    bool is_whole = false;
    if (!json_number(&reading->json, value, &is_whole)) {
        return false;
    }
    if (!(*value >= low && *value <= high) || (whole && !is_whole)) {
        (void)fail(reading->failure,
                   "The model's spec has %s = %.9g; expected a %snumber from %g to %g.", what,
                   *value, whole ? "whole " : "", low, high);
        return refuse(reading);
    }
    return true;
}

static bool side(reading *reading, const char *what, int *value) {
    double pixels = 0;
    if (!number(reading, what, 1, 8192, true, &pixels)) {
        return false;
    }
    *value = (int)pixels;
    return true;
}

static bool schema(reading *reading) {
    double value = 0;
    if (!number(reading, "schema", 1, 1e9, true, &value)) {
        return false;
    }
    if (value > SCHEMA) {
        (void)fail(reading->failure,
                   "The model's spec has schema %.0f, and this runner reads up to %d: use the "
                   "runner that was made with the model.",
                   value, SCHEMA);
        return refuse(reading);
    }
    return true;
}

static char *text(reading *reading) {
    char buffer[SPEC_TEXT_BYTES_MOST + 1];
    if (!json_string(&reading->json, buffer, sizeof buffer)) {
        return NULL;
    }
    if (buffer[0] == '\0') {
        (void)fail(reading->failure, "The model's spec has an empty name or label.");
        (void)refuse(reading);
        return NULL;
    }
    char *copy = strdup(buffer);
    if (copy == NULL) {
        (void)memory(reading);
    }
    return copy;
}

static bool list(reading *reading, names *names) {
    if (!json_enter(&reading->json, '[')) {
        return false;
    }
    while (json_item(&reading->json)) {
        if (names->count == SPEC_LABELS_MOST) {
            (void)fail(reading->failure, "The model's spec has more than %d labels.",
                       SPEC_LABELS_MOST);
            return refuse(reading);
        }
        if ((names->count & (names->count - 1)) == 0) { /* full at every power of two */
            size_t room = names->count == 0 ? 1 : 2 * (size_t)names->count;
            char **more = realloc(names->items, room * sizeof *more);
            if (more == NULL) {
                return memory(reading);
            }
            names->items = more;
        }
        char *name = text(reading);
        if (name == NULL) {
            return false;
        }
        names->items[names->count++] = name;
    }
    return reading->json.error == NULL;
}

static bool decoder(reading *reading) {
    decoder_settings *settings = &reading->spec->decoder;
    const struct {
        const char *key, *what;
        double *value, high;
    } fields[] = {
        {"smoothing_s", "decoder.smoothing_s", &settings->smoothing_s, 3600},
        {"enter", "decoder.enter", &settings->enter, 1},
        {"exit", "decoder.exit", &settings->exit, 1},
        {"min_duration_s", "decoder.min_duration_s", &settings->min_duration_s, 3600},
        {"rearm_s", "decoder.rearm_s", &settings->rearm_s, 3600},
    };
    char key[32];
    if (!json_enter(&reading->json, '{')) {
        return false;
    }
    while (json_key(&reading->json, key, sizeof key)) {
        size_t i = 0;
        size_t count = sizeof fields / sizeof *fields;
        while (i < count && strcmp(key, fields[i].key) != 0) {
            i++;
        }
        bool good = i == count ? json_skip(&reading->json)
                               : number(reading, fields[i].what, 0, fields[i].high, false,
                                        fields[i].value);
        if (!good) {
            return false;
        }
    }
    return reading->json.error == NULL;
}

/* What the model multiplies in; by it the manifest's self-tests are told apart. */
static bool precision(reading *reading) {
    spec *spec = reading->spec;
    if (!json_string(&reading->json, spec->precision, sizeof spec->precision)) {
        return false;
    }
    static const char *const known[] = {"fp32", "bf16", "int8"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(spec->precision, known[i]) == 0) {
            return true;
        }
    }
    (void)fail(reading->failure,
               "The model's spec has precision = \"%s\"; expected fp32, bf16 or int8.",
               spec->precision);
    return refuse(reading);
}

static bool value_of(reading *reading, const char *key) {
    static const struct {
        const char *key;
        enum field field;
    } fields[] = {
        {"schema", SCHEMA_FIELD}, {"name", NAME},
        {"labels", LABELS},       {"height", HEIGHT},
        {"width", WIDTH},         {"resize_short_side", SHORT_SIDE},
        {"frame_rate_hz", RATE},  {"max_gap_s", GAP},
        {"silent_labels", SILENT}, {"decoder", DECODER},
        {"precision", PRECISION},
    };
    spec *spec = reading->spec;
    unsigned field = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        field = strcmp(key, fields[i].key) == 0 ? (unsigned)fields[i].field : field;
    }
    if ((reading->seen & field) != 0) {
        (void)fail(reading->failure, "The model's spec has %s twice.", key);
        return refuse(reading);
    }
    reading->seen |= field;
    switch (field) {
    case SCHEMA_FIELD:
        return schema(reading);
    case NAME:
        return (spec->name = text(reading)) != NULL;
    case LABELS:
        return list(reading, &reading->labels);
    case HEIGHT:
        return side(reading, "height", &spec->height);
    case WIDTH:
        return side(reading, "width", &spec->width);
    case SHORT_SIDE:
        return side(reading, "resize_short_side", &spec->short_side);
    case RATE:
        return number(reading, "frame_rate_hz", 0.01, 1000, false, &spec->frame_rate_hz);
    case GAP:
        return number(reading, "max_gap_s", 0, 1e6, false, &spec->max_gap_s);
    case SILENT:
        return list(reading, &reading->silent);
    case DECODER:
        return decoder(reading);
    case PRECISION:
        return precision(reading);
    default:
        return json_skip(&reading->json);
    }
}

static bool parse(reading *reading) {
    char key[32];
    if (json_enter(&reading->json, '{')) {
        while (json_key(&reading->json, key, sizeof key) && value_of(reading, key)) {
        }
    }
    if (reading->failed) {
        return false;
    }
    if (!json_close(&reading->json)) {
        return fail(reading->failure,
                    "The model's spec is not valid: expected %s at byte %zu; compile the model "
                    "again.",
                    reading->json.error, (size_t)(reading->json.at - reading->json.start));
    }
    if ((reading->seen & REQUIRED) != REQUIRED) {
        return fail(reading->failure, "The model's spec is incomplete; compile the model again.");
    }
    return true;
}

static int find(const names *names, const char *name) {
    int i = 0;
    while (i < names->count && strcmp(names->items[i], name) != 0) {
        i++;
    }
    return i;
}

/* What holds between fields. */
static bool check(reading *reading) {
    const spec *spec = reading->spec;
    const decoder_settings *decoder = &spec->decoder;
    if (reading->labels.count == 0) {
        return fail(reading->failure, "The model's spec has no labels.");
    }
    for (int i = 0; i < reading->labels.count; i++) {
        if (find(&reading->labels, reading->labels.items[i]) != i) {
            return fail(reading->failure, "The model's spec has the label \"%s\" twice.",
                        reading->labels.items[i]);
        }
    }
    if (spec->max_gap_s * spec->frame_rate_hz < 1.0) {
        return fail(reading->failure,
                    "The model's spec has max_gap_s = %g; expected at least one frame's time.",
                    spec->max_gap_s);
    }
    if (!(decoder->exit > 0) || decoder->exit > decoder->enter) {
        return fail(reading->failure,
                    "The model's spec has decoder.exit = %g; expected more than 0 and at most "
                    "decoder.enter = %g.",
                    decoder->exit, decoder->enter);
    }
    return true;
}

static bool silence(reading *reading) {
    spec *spec = reading->spec;
    spec->silent = calloc((size_t)reading->labels.count, sizeof *spec->silent);
    if (spec->silent == NULL) {
        return memory(reading);
    }
    for (int i = 0; i < reading->silent.count; i++) {
        int label = find(&reading->labels, reading->silent.items[i]);
        if (label == reading->labels.count) {
            return fail(reading->failure,
                        "The model's spec has the silent label \"%s\", which is no label.",
                        reading->silent.items[i]);
        }
        spec->silent[label] = true;
    }
    return true;
}

bool spec_read(spec *spec, const char *text, size_t length, failure *failure) {
    /* Defaults are those of ModelSpec and DecoderSettings. */
    *spec = (struct spec){
        .frame_rate_hz = 12.0,
        .max_gap_s = 1.0,
        .precision = SPEC_PRECISION,
        .decoder = {0.15, 0.6, 0.3, 0.08, 0.5},
    };
    reading reading = {.spec = spec, .failure = failure};
    json_open(&reading.json, text, length);
    bool good = parse(&reading) && check(&reading) && silence(&reading);
    spec->labels = reading.labels.items;
    spec->classes = reading.labels.count;
    names_free(&reading.silent);
    if (!good) {
        spec_close(spec);
    }
    return good;
}

void spec_close(spec *spec) {
    names labels = {spec->labels, spec->classes};
    names_free(&labels);
    free(spec->silent);
    free(spec->name);
    *spec = (struct spec){0};
}
