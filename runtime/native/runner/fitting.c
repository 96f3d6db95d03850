#include "fitting.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAMED_MOST 3
#define NAME_BYTES 96

static const int sizes[][2] = {
    {640, 480},   {1280, 720},  {1920, 1080}, {320, 240},   {640, 360},   {848, 480},
    {800, 600},   {960, 540},   {1024, 768},  {1280, 960},  {1296, 972},  {1640, 1232},
    {3840, 2160}, {1280, 800},  {424, 240},   {480, 270},   {320, 180},   {800, 448},
    {1024, 576},  {1536, 864},  {1600, 1200}, {2304, 1296}, {2592, 1944}, {352, 288},
    {176, 144},   {160, 120},
};

typedef struct search {
    uint64_t total;
    int found;
    char names[NAMED_MOST][NAME_BYTES];
} search;

static void name_of(char *name, const video *video) {
    size_t used = (size_t)snprintf(name, NAME_BYTES, "%dx%d %s", video->width, video->height,
                                   video_format_name(video->format));
    if (video->stride > 0) {
        (void)snprintf(name + used, NAME_BYTES - used, " with rows of %d bytes", video->stride);
    }
}

static void look_at(search *search, const video *video) {
    uint64_t frame = video_frame_bytes(video), count = search->total / frame;
    bool odd = video_subsampled(video->format) && (video->width % 2 != 0 || video->height % 2 != 0);
    if (odd || count == 0 || search->total % frame != 0 || search->found == NAMED_MOST) {
        return;
    }
    char name[NAME_BYTES], *text = search->names[search->found];
    name_of(name, video);
    (void)snprintf(text, NAME_BYTES, "%" PRIu64 " frame%s of %.60s", count, count == 1 ? "" : "s",
                   name);
    for (int i = 0; i < search->found; i++) {
        if (strcmp(search->names[i], text) == 0) {
            return;
        }
    }
    search->found++;
}

static int aligned(int value, int alignment) {
    return (value + alignment - 1) / alignment * alignment;
}

/* What it may be instead, the likeliest first. */
static void look_at_others(search *search, const video *said) {
    video plain = *said;
    plain.stride = 0;
    if (said->stride > 0) {
        look_at(search, &plain);
    }
    int row = (int)video_row_bytes(&plain);
    for (int alignment = 4; alignment <= 256; alignment *= 2) {
        video other = *said;
        other.stride = aligned(row, alignment);
        if (other.stride != row && other.stride != said->stride) {
            look_at(search, &other);
        }
    }
    for (int alignment = 8; alignment <= 16; alignment *= 2) {
        video other = *said;
        other.height = aligned(said->height, alignment);
        look_at(search, &other);
    }
    for (int form = 0; form < VIDEO_FORMATS; form++) {
        video other = plain;
        other.format = (shiftedge_format)form;
        if (other.format != said->format) {
            look_at(search, &other);
        }
    }
    for (int turned = 0; turned < 2; turned++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            video other = plain;
            other.width = sizes[i][turned];
            other.height = sizes[i][1 - turned];
            look_at(search, &other);
        }
    }
}

void fitting_text(char *text, const video *video, uint64_t total) {
    search search = {.total = total};
    look_at_others(&search, video);
    char name[NAME_BYTES];
    name_of(name, video);
    size_t used = (size_t)snprintf(text, FITTING_TEXT_BYTES,
                                   "%" PRIu64 " bytes in all are no whole number of frames of "
                                   "%.60s (%zu bytes each): check size, format and padding of "
                                   "rows. ",
                                   total, name, video_frame_bytes(video));
    for (int i = 0; i < search.found; i++) {
        used += (size_t)snprintf(text + used, FITTING_TEXT_BYTES - used, "%s%s",
                                 i > 0 ? " or " : "", search.names[i]);
    }
    (void)snprintf(text + used, FITTING_TEXT_BYTES - used, "%s",
                   search.found > 0 ? " would fit." : "Nothing that is usual fits.");
}
