/* A camera's raw frames in, a line for each gesture out: the loop of live.h.
 *
 *     ffmpeg -i clip.mp4 -f rawvideo -pix_fmt bgr24 - | ./events 640 480 30
 *
 * Built with a bundle that `shiftedge compile` wrote: see CMakeLists.txt, or
 *
 *     export PKG_CONFIG_PATH=my-bundle/lib/<variant>/pkgconfig
 *     cc events.c $(pkg-config --cflags --libs shiftedge-model) \
 *         -Wl,-rpath,"$(pkg-config --variable=libdir shiftedge-model)" -o events
 */
#include <shiftedge/live.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *why) {
    fprintf(stderr, "events: %s\n", why);
    return EXIT_FAILURE;
}

static int stream(shiftedge_live *live, double rate_hz) {
    size_t bytes = shiftedge_live_frame_bytes(live);
    uint8_t *frame = malloc(bytes);
    if (frame == NULL) {
        return fail("There is no memory left for a frame.");
    }
    int status = EXIT_SUCCESS;
    for (long i = 0; fread(frame, 1, bytes, stdin) == bytes; i++) {
        const shiftedge_live_result *result;
        /* A live camera's time is that of clock_gettime(CLOCK_MONOTONIC). */
        if (shiftedge_live_feed(live, frame, (double)i / rate_hz, &result) != SHIFTEDGE_OK) {
            status = fail(shiftedge_last_error());
            break;
        }
        if (result->event != NULL) {
            printf("%.3f %s %.3f\n", result->event->time_s, result->event->label,
                   result->event->confidence);
            fflush(stdout);
        }
    }
    free(frame);
    return status;
}

int main(int count, char **words) {
    if (count != 4) {
        return fail("expected WIDTH HEIGHT FRAMES_PER_SECOND, and bgr24 frames on standard input.");
    }
    shiftedge_model *model = NULL;
    shiftedge_live *live = NULL;
    shiftedge_live_options options = {
        .size = sizeof options,
        .format = SHIFTEDGE_BGR24,
        .width = atoi(words[1]),
        .height = atoi(words[2]),
    };
    int status = EXIT_FAILURE;
    if (shiftedge_open(NULL, &model) != SHIFTEDGE_OK ||
        shiftedge_live_open(model, &options, &live) != SHIFTEDGE_OK) {
        status = fail(shiftedge_last_error());
    } else {
        status = stream(live, atof(words[3]));
    }
    shiftedge_live_close(live);
    shiftedge_close(model);
    return status;
}
