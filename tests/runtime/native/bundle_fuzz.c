/* Damages the first library of a bundle in every place, for a sanitizer: bundle_fuzz FOLDER FILE MASK
 * STEP. Prints a line with a 1 for each byte whose bits of MASK are changed and with which it may
 * still be loaded, a 0 where not; then such a line for the file cut to multiples of STEP
 * bytes, longest first. Status 1: a refusal without a sentence. */
#define _GNU_SOURCE /* PATH_MAX */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bundle.h"

/* '1', '0', or 'x' for a refusal that says nothing. */
static char may_load(const char *folder) {
    char resolved[PATH_MAX];
    failure failure = {""};
    copy copy;
    if (bundle_open(resolved, folder, &failure) &&
        bundle_copy_library(resolved, &bundle_variants[0], &copy, &failure)) {
        copy_close(&copy, false);
        return '1';
    }
    size_t length = strlen(failure.text);
    bool sentence = length > 20 && failure.text[length - 1] == '.' &&
                    strchr(failure.text, '\n') == NULL;
    return sentence ? '0' : 'x';
}

static bool tell(char answer) {
    (void)putchar(answer);
    return answer != 'x';
}

/* In place: to write the file anew would take a hundred times as long. */
static bool damage(const char *folder, int file, const char *data, size_t bytes, char mask,
                   size_t step) {
    for (size_t i = 0; i < bytes; i++) {
        char changed = (char)(data[i] ^ mask);
        if (pwrite(file, &changed, 1, (off_t)i) != 1 || !tell(may_load(folder)) ||
            pwrite(file, data + i, 1, (off_t)i) != 1) {
            return false;
        }
    }
    (void)putchar('\n');
    size_t last = (bytes - 1) / step * step;
    for (size_t length = last; length <= last; length -= step) { /* until it wraps below 0 */
        if (ftruncate(file, (off_t)length) != 0 || !tell(may_load(folder))) {
            return false;
        }
    }
    (void)putchar('\n');
    return pwrite(file, data, bytes, 0) == (ssize_t)bytes;
}

int main(int count, char **words) {
    char path[4096];
    if (count != 5 ||
        snprintf(path, sizeof path, "%s/%s", words[1], words[2]) >= (int)sizeof path) {
        return 2;
    }
    static char data[1 << 20];
    int file = open(path, O_RDWR | O_CLOEXEC);
    ssize_t bytes = read(file, data, sizeof data);
    if (bytes < 1 || (size_t)bytes == sizeof data) {
        return 2;
    }
    bool good = damage(words[1], file, data, (size_t)bytes, (char)atoi(words[3]),
                       (size_t)atoi(words[4]));
    (void)close(file);
    return good ? 0 : 1;
}
