/* A library's code as this process's own copy, which nobody can change while it runs.
 *
 * Code that is mapped from a file changes with the file: cp, scp and rsync --inplace write into it,
 * and a program that runs it dies. A copy in memory of its own, sealed against writing, is as it was
 * when it was checked, whatever becomes of the file, and it runs where the file's folder is mounted
 * noexec. Where the system has no such memory (before Linux 3.17) or no /proc, the copy is a file in
 * a private temporary folder, which goes as soon as it is loaded. */
#ifndef RUNNER_COPY_H
#define RUNNER_COPY_H

#include <limits.h>
#include <stdbool.h>

#include "failure.h"

typedef struct copy {
    int descriptor;          /* to read it by */
    char file[PATH_MAX];     /* what dlopen takes */
    char folder[PATH_MAX];   /* that holds it, "": it is memory */
} copy;

/* Copy what an open file holds from its start on, so that code may run from there.
 *
 * from: a descriptor.
 * name: by which the user knows the file.
 *
 * On failure there is nothing to close. */
bool copy_open(copy *copy, int from, const char *name, failure *failure);

/* Once it is loaded, or not to be.
 *
 * The descriptor of memory that was loaded stays open: glibc knows a library by the name that it was
 * loaded under, /proc/self/fd/N, and would give one that stays loaded (-z nodelete) for the next
 * that gets the number. */
void copy_close(copy *copy, bool loaded);

#endif
