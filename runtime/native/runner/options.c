#define _GNU_SOURCE /* getopt_long */
#include "options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

const char options_help[] =
    "usage: shiftedge-run --size WIDTHxHEIGHT [options] < frames\n"
    "       shiftedge-run --self-test [--model FOLDER] [--device NAME] [--threads N]\n"
    "                     [--frames N]\n"
    "\n"
    "Stream raw video through a compiled model: one JSON line for each gesture.\n"
    "\n"
    "  --size WIDTHxHEIGHT  of the frames, in pixels\n"
    "  --format FORMAT      bgr24 (default), rgb24, bgrx, rgbx, gray, yuv420p or nv12\n"
    "  --range RANGE        of yuv420p and nv12: limited (default) or full, as from JPEG\n"
    "  --stride BYTES       from one row to the next, where rows are padded (of yuv420p and\n"
    "                       nv12 those of Y)\n"
    "  --fps F              times are frame number / F, for a recording; left out: the times\n"
    "                       at which frames arrive, for a camera\n"
    "  --input FILE         read frames from FILE; - or left out: standard input\n"
    "  --model PATH         the folder of this program's bundle, or a libmodel.so; left out:\n"
    "                       the model beside this program, ../../lib/<its folder's\n"
    "                       name>/libmodel.so\n"
    "  --device NAME        of a bundle: cpu; cuda, an NVIDIA GPU (cuda:1 the second); or auto,\n"
    "                       the GPU where there is code and a driver for it (default)\n"
    "  --threads N          threads for one step (default: the cores, at most 4)\n"
    "  --steps              print a line for every model step too, marked \"step\": true\n"
    "  --logits FILE        write each stepped frame's logits, 32-bit floats, to FILE\n"
    "  --self-test          no video: step a clip that is made here, compare with what was\n"
    "                       recorded when the bundle was compiled, time more steps, print\n"
    "                       one JSON line\n"
    "  --frames N           timed steps of --self-test (default: 200, fewer after 20 s)\n"
    "  --help, --version\n"
    "\n"
    "example:\n"
    "  rpicam-vid -n -t 0 --codec yuv420 --width 640 --height 480 --framerate 30 -o - |\n"
    "      shiftedge-run --size 640x480 --format yuv420p\n"
    "\n"
    "exit status: 0 done or ended with Ctrl-C, 1 the work failed (a sentence says why),\n"
    "2 wrong usage, 143 and 129 ended by SIGTERM and SIGHUP\n";

/* One to `most` digits at *text, which moves behind them; -1: none, or more. */
static long digits(const char **text, int most) {
    long value = 0;
    int count = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++, count++) {
        if (count == most) {
            return -1;
        }
        value = 10 * value + (**text - '0');
    }
    return count > 0 ? value : -1;
}

static bool read_size(const char *text, video *video, failure *failure) {
    const char *at = text;
    long width = digits(&at, 5);
    bool good = width > 0 && *at == 'x';
    at += good;
    long height = good ? digits(&at, 5) : -1;
    if (height <= 0 || *at != '\0' || width > VIDEO_SIDE_MOST || height > VIDEO_SIDE_MOST) {
        return fail(failure, "--size %s: expected a size such as 640x480.", text);
    }
    video->width = (int)width;
    video->height = (int)height;
    return true;
}

/* As shiftedge/runtime/capture/options.py reads a rate: 30, 29.97 or 30000/1001. */
static bool read_rate(const char *text, double *rate_hz, failure *failure) {
    const char *at = text;
    bool good = digits(&at, 7) >= 0;
    if (good && *at == '.') {
        at++;
        good = digits(&at, 9) >= 0;
    }
    double value = good ? strtod(text, NULL) : 0;
    if (good && (*at == '/' || *at == ':')) {
        at++;
        long divisor = digits(&at, 7);
        good = divisor > 0;
        value /= good ? (double)divisor : 1;
    }
    if (!good || *at != '\0' || !(value > 0 && value <= 1000)) {
        return fail(failure, "--fps %s: expected frames per second such as 30 or 30000/1001.",
                    text);
    }
    *rate_hz = value;
    return true;
}

static bool check_self_test(const options *options, failure *failure) {
    bool others = options->video.width != 0 || options->video.format != SHIFTEDGE_BGR24 ||
                  options->range_given || options->stride_given ||
                  options->rate_hz > 0 || options->input != NULL || options->logits != NULL ||
                  options->steps;
    return !others ||
           fail(failure, "--self-test makes its own frames: only --model, --device, "
                         "--threads and --frames go with it.");
}

static bool check(const options *options, failure *failure) {
    const video *video = &options->video;
    if (options->help || options->version) {
        return true;
    }
    if (options->self_test) {
        return check_self_test(options, failure);
    }
    if (options->self_test_steps > 0) {
        return fail(failure, "--frames goes with --self-test; video is read to its end.");
    }
    if (video->width == 0) {
        return fail(failure, "--size is needed: the frames' size, such as --size 640x480.");
    }
    bool subsampled = video_subsampled(video->format);
    if (subsampled && (video->width % 2 != 0 || video->height % 2 != 0)) {
        return fail(failure, "--size %dx%d is odd; %s needs even width and height.", video->width,
                    video->height, video_format_name(video->format));
    }
    if (options->range_given && !subsampled) {
        return fail(failure, "--range goes with yuv420p and nv12, not with %s.",
                    video_format_name(video->format));
    }
    size_t row = video_row_bytes(video);
    if (options->stride_given &&
        ((size_t)video->stride < row || video->stride > VIDEO_STRIDE_MOST)) {
        return fail(failure, "--stride %d: expected bytes from %zu, which the pixels take, to %d.",
                    video->stride, row, VIDEO_STRIDE_MOST);
    }
    if (subsampled && video->stride % 2 != 0) {
        return fail(failure, "--stride %d is odd; %s needs an even one.", video->stride,
                    video_format_name(video->format));
    }
    return true;
}

static bool read_range(options *options, const char *text, failure *failure) {
    options->range_given = true;
    options->video.full_range = strcmp(text, "full") == 0;
    return options->video.full_range || strcmp(text, "limited") == 0 ||
           fail(failure, "--range %s: expected full or limited.", text);
}

static bool read_device(const char *text, device *device, failure *failure) {
    const size_t prefix = strlen("cuda:");
    long number = 0;
    bool good = true;
    if (strncmp(text, "cuda:", prefix) == 0) {
        const char *at = text + prefix;
        number = digits(&at, 4);
        good = number >= 0 && *at == '\0';
        device->kind = DEVICE_CUDA;
    } else if (strcmp(text, "cuda") == 0) {
        device->kind = DEVICE_CUDA;
    } else if (strcmp(text, "cpu") == 0) {
        device->kind = DEVICE_CPU;
    } else {
        good = strcmp(text, "auto") == 0;
        device->kind = DEVICE_AUTO;
    }
    device->gpu = (int)number;
    return good || fail(failure, "--device %s: expected cpu, cuda, cuda:1 and so on, or auto.", text);
}

static bool read_option(options *options, int name, const char *value, failure *failure) {
    const char *at = value;
    switch (name) {
    case 's':
        return read_size(value, &options->video, failure);
    case 'f':
        return video_format_named(value, &options->video.format) ||
               fail(failure,
                    "--format %s: expected bgr24, rgb24, bgrx, rgbx, gray, yuv420p or nv12.",
                    value);
    case 'R':
        return read_range(options, value, failure);
    case 'd':
        options->stride_given = true;
        options->video.stride = (int)digits(&at, 6);
        return (options->video.stride > 0 && *at == '\0') ||
               fail(failure, "--stride %s: expected a whole number of bytes.", value);
    case 'r':
        return read_rate(value, &options->rate_hz, failure);
    case 't':
        options->threads = (int)digits(&at, 9); /* more than the cores are lowered to them */
        return (options->threads > 0 && *at == '\0') ||
               fail(failure, "--threads %s: expected a whole number from 1 to 999999999.", value);
    case 'D':
        return read_device(value, &options->device, failure);
    case 'n':
        options->self_test_steps = (int)digits(&at, 6);
        return (options->self_test_steps > 0 && *at == '\0') ||
               fail(failure, "--frames %s: expected a whole number from 1 to 999999.", value);
    case 'm':
        options->model = value;
        return true;
    case 'i':
        options->input = value;
        return true;
    case 'l':
        options->logits = value;
        return true;
    case 'S':
        options->steps = true;
        return true;
    case 'T':
        options->self_test = true;
        return true;
    case 'h':
        options->help = true;
        return true;
    default:
        options->version = true;
        return true;
    }
}

bool options_read(options *options, int argc, char *const argv[], failure *failure) {
    static const struct option known[] = {
        {"size", required_argument, NULL, 's'},   {"format", required_argument, NULL, 'f'},
        {"range", required_argument, NULL, 'R'},  {"stride", required_argument, NULL, 'd'},
        {"fps", required_argument, NULL, 'r'},    {"input", required_argument, NULL, 'i'},
        {"model", required_argument, NULL, 'm'},  {"threads", required_argument, NULL, 't'},
        {"device", required_argument, NULL, 'D'},
        {"steps", no_argument, NULL, 'S'},        {"logits", required_argument, NULL, 'l'},
        {"self-test", no_argument, NULL, 'T'},    {"frames", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},         {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    *options = (struct options){.video = {.format = SHIFTEDGE_BGR24}};
    int name = 0;
    opterr = 0; /* the messages are ours */
    while ((name = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
        if (name == ':') {
            return fail(failure, "%s needs a value.", argv[optind - 1]);
        }
        if (name == '?') {
            return fail(failure, "%s is no option of this program, or not its whole name.",
                        argv[optind - 1]);
        }
        if (!read_option(options, name, optarg, failure)) {
            return false;
        }
    }
    if (optind < argc) {
        return fail(failure, "\"%s\" is one word too many.", argv[optind]);
    }
    return check(options, failure);
}
