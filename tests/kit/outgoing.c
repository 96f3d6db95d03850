/* For LD_PRELOAD: writes down what a process sends to the internet, or tries to.
 *
 * Each call that names an internet address, or asks for one, is a line in the file OUTGOING_LOG.
 * Programs that are linked statically are not seen; strace sees those too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *call, const char *what) {
    const char *path = getenv("OUTGOING_LOG");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file < 0) return;
    char line[512];
    int length = snprintf(line, sizeof line, "%d %s %s AF_INET\n", (int)getpid(), call, what);
    if (length > 0 && write(file, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1) < 0) {
        /* Nobody to tell. */
    }
    close(file);
}

static int internet(const struct sockaddr *address) {
    return address && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

int socket(int domain, int type, int protocol) {
    if (domain == AF_INET || domain == AF_INET6) note("socket", "");
    return REAL(int, socket, int, int, int)(domain, type, protocol);
}

int connect(int file, const struct sockaddr *address, socklen_t length) {
    if (internet(address)) note("connect", "");
    return REAL(int, connect, int, const struct sockaddr *, socklen_t)(file, address, length);
}

ssize_t sendto(int file, const void *data, size_t size, int flags, const struct sockaddr *address,
               socklen_t length) {
    if (internet(address)) note("sendto", "");
    return REAL(ssize_t, sendto, int, const void *, size_t, int, const struct sockaddr *,
                socklen_t)(file, data, size, flags, address, length);
}

/* The C library asks the name server by calls of its own, which are not seen here. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    note("getaddrinfo", node ? node : "");
    return REAL(int, getaddrinfo, const char *, const char *, const struct addrinfo *,
                struct addrinfo **)(node, service, hints, found);
}
