#define _GNU_SOURCE /* memfd_create, F_ADD_SEALS */
#define _FILE_OFFSET_BITS 64
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_BYTES 32768

/* That this memory is for code: asked for where the kernel knows it (6.3). */
#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

typedef enum answer { GOOD, UNREADABLE, NOT_HERE } answer;

static bool write_all(int to, const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t count = write(to, data, bytes);
        if (count < 0 && errno != EINTR) {
            return false;
        }
        data += count > 0 ? count : 0;
        bytes -= count > 0 ? (size_t)count : 0;
    }
    return true;
}

/* All of a file into another; errno says why not. */
static answer fill(int from, int to) {
    char part[PART_BYTES];
    if (lseek(from, 0, SEEK_SET) != 0) {
        return UNREADABLE;
    }
    for (;;) {
        ssize_t count = read(from, part, sizeof part);
        if (count == 0) {
            return GOOD;
        }
        if (count < 0 && errno != EINTR) {
            return UNREADABLE;
        }
        if (count > 0 && !write_all(to, part, (size_t)count)) {
            return NOT_HERE;
        }
    }
}

/* Whether code may run from there: not where it is mounted noexec, or a policy forbids it. */
static bool executable(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
        return false;
    }
    if (status.st_size == 0) { /* dlopen has a word for that */
        return true;
    }
    void *mapped = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, descriptor, 0);
    return mapped != MAP_FAILED && munmap(mapped, 1) == 0;
}

static bool open_memory(copy *copy, const char *name) {
    const char *slash = strrchr(name, '/');
    const char *end = slash != NULL ? slash + 1 : name;
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    copy->descriptor = memfd_create(end, flags | MFD_EXEC);
    if (copy->descriptor < 0) { /* a kernel before 6.3, or one that takes the flag from nobody */
        copy->descriptor = memfd_create(end, flags);
    }
    if (copy->descriptor < 0) {
        return false;
    }
    (void)snprintf(copy->file, sizeof copy->file, "/proc/self/fd/%d", copy->descriptor);
    return access(copy->file, F_OK) == 0;
}

static bool open_file(copy *copy, const char *parent) {
    if (snprintf(copy->folder, sizeof copy->folder, "%s/shiftedge-run-XXXXXX", parent) >=
        (int)sizeof copy->folder - 16) {
        copy->folder[0] = '\0';
        errno = ENAMETOOLONG;
        return false;
    }
    if (mkdtemp(copy->folder) == NULL) {
        copy->folder[0] = '\0';
        return false;
    }
    /* "/libmodel.so" fits: see above. */
    size_t length = strlen(copy->folder);
    memcpy(copy->file, copy->folder, length);
    memcpy(copy->file + length, "/libmodel.so", sizeof "/libmodel.so");
    copy->descriptor = open(copy->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    return copy->descriptor >= 0;
}

/* parent: a folder; NULL: memory. */
static answer try_place(copy *copy, int from, const char *name, const char *parent) {
    *copy = (struct copy){.descriptor = -1};
    answer answer = NOT_HERE;
    if (parent == NULL ? open_memory(copy, name) : open_file(copy, parent)) {
        answer = fill(from, copy->descriptor);
        if (answer == GOOD && parent == NULL) {
            (void)fcntl(copy->descriptor, F_ADD_SEALS,
                        F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
        }
        if (answer == GOOD && !executable(copy->descriptor)) {
            answer = NOT_HERE;
        }
    }
    if (answer != GOOD) {
        int why = errno;
        copy_close(copy, false);
        errno = why;
    }
    return answer;
}

bool copy_open(copy *copy, int from, const char *name, failure *failure) {
    const char *chosen = getenv("TMPDIR");
    const char *places[] = {NULL, chosen != NULL && chosen[0] == '/' ? chosen : "/tmp", "/dev/shm",
                            "/var/tmp"};
    char hindrances[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        answer answer = try_place(copy, from, name, places[i]);
        if (answer == GOOD) {
            return true;
        }
        if (answer == UNREADABLE) {
            return fail(failure, "%s cannot be read (%s).", name, strerror(errno));
        }
        if (used < sizeof hindrances) {
            used += (size_t)snprintf(hindrances + used, sizeof hindrances - used, "%s%s (%s)",
                                     i == 0 ? "" : ", ", i == 0 ? "memory" : places[i],
                                     strerror(errno));
        }
    }
    return fail(failure,
                "%s cannot be loaded, since this system runs no code from %s; set TMPDIR to a "
                "folder that can be written to and is not mounted noexec.",
                name, hindrances);
}

void copy_close(copy *copy, bool loaded) {
    bool memory = copy->folder[0] == '\0';
    if (copy->descriptor >= 0 && !(loaded && memory)) {
        (void)close(copy->descriptor);
    }
    if (!memory) {
        (void)unlink(copy->file);
        (void)rmdir(copy->folder);
    }
    copy->descriptor = -1;
}
