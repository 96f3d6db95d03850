#define _GNU_SOURCE /* PATH_MAX */
#include "recorded.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bundle.h"
#include "clip.h"
#include "json.h"

typedef struct reading {
    json_reader json;
    recorded *recorded;
    int classes;
    const char *precision; /* whose self-test is wanted */
    char clip[64];
    bool found; /* the manifest has a self-test */
    bool wrong; /* whose values cannot be */
} reading;

/* One frame's logits, behind those of the frames before. */
static void read_row(reading *reading) {
    recorded *recorded = reading->recorded;
    bool room = recorded->frames < RECORDED_FRAMES_MOST;
    double *row = recorded->logits + (room ? recorded->frames : 0) * reading->classes;
    int count = 0;
    (void)json_enter(&reading->json, '[');
    while (json_item(&reading->json)) {
        double value = 0;
        bool whole = false;
        if (!json_number(&reading->json, &value, &whole)) {
            return;
        }
        if (count < reading->classes) {
            row[count] = value;
            reading->wrong |= !isfinite(value);
        }
        count += count <= reading->classes;
    }
    reading->wrong |= !room || count != reading->classes;
    recorded->frames += room;
}

static void read_selftest(reading *reading) {
    json_reader *json = &reading->json;
    char key[32];
    bool whole = false;
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "clip") == 0) {
            (void)json_string(json, reading->clip, sizeof reading->clip);
        } else if (strcmp(key, "tolerance") == 0) {
            (void)json_number(json, &reading->recorded->tolerance, &whole);
        } else if (strcmp(key, "logits") == 0) {
            reading->recorded->frames = 0;
            (void)json_enter(json, '[');
            while (json_item(json)) {
                read_row(reading);
            }
        } else {
            (void)json_skip(json);
        }
    }
}

/* What the spec that comes says of its precision; keeps the default where it says nothing. */
static void read_precision(json_reader *json, char precision[SPEC_PRECISION_BYTES]) {
    char key[32];
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "precision") == 0) {
            (void)json_string(json, precision, SPEC_PRECISION_BYTES);
        } else {
            (void)json_skip(json);
        }
    }
}

static void read_others(reading *reading);

/* A build: the manifest itself, or an entry of its `others`, which has none itself. The self-test is
 * read if it is of the wanted precision; after that the reader stands behind the build. */
static void read_build(reading *reading, bool outer) {
    json_reader *json = &reading->json;
    json_reader selftest = {0};
    char key[32], precision[SPEC_PRECISION_BYTES] = SPEC_PRECISION;
    int count = 0;
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "spec") == 0) {
            read_precision(json, precision);
        } else if (outer && strcmp(key, "others") == 0) {
            read_others(reading);
        } else {
            if (strcmp(key, "selftest") == 0) {
                selftest = *json;
                count++;
            }
            (void)json_skip(json);
        }
    }
    if (json->error == NULL && count > 0 && strcmp(precision, reading->precision) == 0) {
        json_reader behind = *json;
        reading->wrong |= count > 1 || reading->found;
        reading->found = true;
        *json = selftest;
        read_selftest(reading);
        behind.error = json->error;
        *json = behind;
    }
}

static void read_others(reading *reading) {
    char key[32];
    (void)json_enter(&reading->json, '{');
    while (json_key(&reading->json, key, sizeof key)) {
        read_build(reading, false);
    }
}

static bool parse(reading *reading, const char *path, failure *failure) {
    json_reader *json = &reading->json;
    read_build(reading, true);
    bool good = json_close(json);
    if (good && !reading->found) {
        return fail(failure,
                    "%s has no recorded self-test; compile the model again, with its verification.",
                    path);
    }
    if (good && reading->clip[0] != '\0' && strcmp(reading->clip, CLIP_NAME) != 0) {
        return fail(failure,
                    "%s has a self-test of the clip \"%s\", and this runner makes \"%s\": use the "
                    "runner that was made with the model.",
                    path, reading->clip, CLIP_NAME);
    }
    double tolerance = reading->recorded->tolerance;
    good = good && reading->clip[0] != '\0' && reading->recorded->frames > 0 && !reading->wrong &&
           tolerance > 0 && tolerance <= 1;
    return good || fail(failure,
                        "%s is damaged or from a newer version; copy or compile the bundle again.",
                        path);
}

bool recorded_read(recorded *recorded, const char *folder, const spec *spec, failure *failure) {
    bundle bundle;
    char path[PATH_MAX];
    *recorded = (struct recorded){0};
    if (!bundle_open(&bundle, folder, failure)) {
        return false;
    }
    (void)snprintf(path, sizeof path, "%s/" BUNDLE_MANIFEST, folder);
    reading reading = {
        .recorded = recorded, .classes = spec->classes, .precision = spec->precision};
    recorded->logits =
        calloc(RECORDED_FRAMES_MOST * (size_t)spec->classes, sizeof *recorded->logits);
    json_open(&reading.json, bundle.manifest, bundle.manifest_bytes);
    bool good = recorded->logits != NULL ? parse(&reading, path, failure)
                                         : fail(failure, "There is no memory left for logits.");
    bundle_close(&bundle);
    if (!good) {
        recorded_close(recorded);
    }
    return good;
}

void recorded_close(recorded *recorded) {
    free(recorded->logits);
    *recorded = (struct recorded){0};
}
