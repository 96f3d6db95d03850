#define _GNU_SOURCE /* readlink, PATH_MAX */
#include "recorded.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clip.h"
#include "json.h"
#include "library.h"

typedef struct reading {
    json_reader json;
    recorded *recorded;
    int classes;
    char clip[64];
    bool found; /* the manifest has a self-test */
    bool wrong; /* whose values cannot be */
} reading;

static bool manifest_beside_program(char *path, size_t room, failure *failure) {
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0) {
        return fail(failure, "Cannot find out where this program lies (%s); use --model.",
                    strerror(errno));
    }
    program[length] = '\0';
    for (int i = 0; i < 3; i++) { /* its name, the variant, bin */
        char *slash = strrchr(program, '/');
        if (slash == NULL) {
            return fail(failure, "This program does not lie in a bundle; use --model.");
        }
        *slash = '\0';
    }
    return snprintf(path, room, "%s/manifest.json", program) < (int)room ||
           fail(failure, "The path of the model is too long.");
}

static bool manifest_of(const char *model, char *path, size_t room, failure *failure) {
    struct stat status;
    if (model == NULL) {
        return manifest_beside_program(path, room, failure);
    }
    if (stat(model, &status) == 0 && !S_ISDIR(status.st_mode)) {
        return fail(failure,
                    "%s is no folder; --self-test takes the folder of a bundle as --model, since "
                    "its manifest says what is right.",
                    model);
    }
    return snprintf(path, room, "%s/manifest.json", model) < (int)room ||
           fail(failure, "The path of the model is too long.");
}

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

static bool parse(reading *reading, const char *path, failure *failure) {
    json_reader *json = &reading->json;
    char key[32];
    (void)json_enter(json, '{');
    while (json_key(json, key, sizeof key)) {
        if (strcmp(key, "selftest") == 0) {
            reading->found = true;
            read_selftest(reading);
        } else {
            (void)json_skip(json);
        }
    }
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

bool recorded_read(recorded *recorded, const char *model, int classes, failure *failure) {
    char path[PATH_MAX];
    size_t length = 0;
    *recorded = (struct recorded){0};
    if (!manifest_of(model, path, sizeof path, failure)) {
        return false;
    }
    char *text = library_read_file(path, LIBRARY_MANIFEST_BYTES_MOST, &length);
    if (text == NULL) {
        return fail(failure, "Cannot read %s: %s; --self-test needs a whole bundle.", path,
                    strerror(errno));
    }
    reading reading = {.recorded = recorded, .classes = classes};
    recorded->logits = calloc(RECORDED_FRAMES_MOST * (size_t)classes, sizeof *recorded->logits);
    json_open(&reading.json, text, length);
    bool good = recorded->logits != NULL ? parse(&reading, path, failure)
                                         : fail(failure, "There is no memory left for logits.");
    free(text);
    if (!good) {
        recorded_close(recorded);
    }
    return good;
}

void recorded_close(recorded *recorded) {
    free(recorded->logits);
    *recorded = (struct recorded){0};
}
