/* Whether this CPU has what the kernels' instructions need. */
#ifndef SHIFTEDGE_CPU_FEATURES_H
#define SHIFTEDGE_CPU_FEATURES_H

#include <stdbool.h>

/* Whether this CPU, under this kernel, has a feature that the environment's SHIFTEDGE_CPU_WITHOUT
 * does not take away. `name` is one of those of
 * shiftedge_program.cpu_features; *known tells whether this file knows it at all. */
bool shiftedge_cpu_has(const char *name, bool *known);

/* Check all of a space-separated list; NULL or "" needs nothing. Returns a shiftedge_status and
 * keeps a sentence: SHIFTEDGE_ERROR_CPU with the first that is missing, SHIFTEDGE_ERROR_PROGRAM for
 * a name that is not known on this architecture, SHIFTEDGE_ERROR_ARGUMENT for one in the
 * environment. */
int shiftedge_check_cpu(const char *features);

#endif
