/* Preloaded into the runner: memfd_create as before Linux 3.17, and with NO_CODE in the environment
 * also no code from any file that it asks for itself, as where every folder is mounted noexec. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64 /* as the runner: its mmap may be called mmap64 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SEEN __attribute__((visibility("default")))

SEEN int memfd_create(const char *name, unsigned flags) {
    (void)name, (void)flags;
    errno = ENOSYS;
    return -1;
}

SEEN void *mmap(void *place, size_t bytes, int rights, int flags, int descriptor, off_t offset) {
    void *(*real)(void *, size_t, int, int, int, off_t) = NULL;
    void *symbol = dlsym(RTLD_NEXT, "mmap64");
    memcpy(&real, &symbol, sizeof real);
    if ((rights & PROT_EXEC) != 0 && getenv("NO_CODE") != NULL) {
        errno = EPERM;
        return MAP_FAILED;
    }
    return real(place, bytes, rights, flags, descriptor, offset);
}
