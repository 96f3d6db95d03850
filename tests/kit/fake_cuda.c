/* A libcuda.so.1 of the tests that computes: kernels run on the emulated GPU, machine.c, with all of
 * its checks. What a stream is given is done when the stream is waited for, and not before.
 *
 * Environment:
 *   FAKE_CUDA_PROGRAMS    folder of decoded PTX, by the text's hash, as fake_cuda.py writes them
 *   FAKE_CUDA_FAIL        call:n:code, with commas between several: the n-th call of that name gives
 *                         that CUresult; one from 700 on ends the device for the process
 *   FAKE_CUDA_VERSION     of the driver, 10020 is CUDA 10.2; FAKE_CUDA_DEVICES their number;
 *                         FAKE_CUDA_CAPABILITY 53 is 5.3; FAKE_CUDA_MEMORY bytes of the device
 *   FAKE_CUDA_REPORT      file that is written when the process ends: what was done, what is still held
 * Built with -DWITHOUT_GRAPHS it lacks what came with CUDA 10.0, with -DWITHOUT_LAUNCH more than that.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "machine.c"

#define API __attribute__((visibility("default"))) int

enum {
    OK = 0, INVALID_VALUE = 1, NO_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    NO_CONTEXT = 201, BAD_TEXT = 218, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, CAPTURING = 900
};
static const struct { int code; const char *name, *text; } ERRORS[] = {
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
};

typedef struct Alloc { u8 *data, *known; u64 size; struct Alloc *next; } Alloc;
typedef struct { u64 size; u32 grain, writable; } Parameter;
typedef struct Function { char name[128]; Program program; Parameter *parameters; u64 *counts, *lanes; void *kept[7]; } Function;
typedef struct { Function *functions; u32 count; } Module;
typedef struct { double time; } Event;
typedef struct Node {
    enum { UP, DOWN, FILL, LAUNCH, EVENT } kind;
    u64 device; void *host; size_t bytes; int value;
    Function *function; u32 blocks, threads; u64 arguments[32];
    Event *event;
    struct Node *next;
} Node;
typedef struct { Node *first, **last; int capturing; } Stream;
typedef struct { Node *first; } Graph;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static Alloc *allocs;
static int dead, context; /* dead: the CUresult that ended the device */
static pid_t process;
static _Thread_local int depth;
static struct {
    long memory, bytes, host, contexts, pushed, modules, streams, events, graphs, execs; /* held */
    long launches, replays, captures, ups, downs, faults;                                /* done */
    char first_fault[256];
} done;

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text != NULL && *text ? strtol(text, NULL, 10) : otherwise;
}

/* The CUresult that a call is to give, or 0. */
static int injected(const char *name) {
    static struct { char name[64]; long seen; } calls[96];
    long seen = 0;
    for (int i = 0; i < 96; i++) {
        if (!*calls[i].name) snprintf(calls[i].name, sizeof calls[i].name, "%s", name);
        if (!strcmp(calls[i].name, name)) { seen = ++calls[i].seen; break; }
    }
    const char *at = getenv("FAKE_CUDA_FAIL");
    while (at != NULL && *at) {
        char wanted[64]; long number = 0; int code = 0;
        if (sscanf(at, "%63[^:]:%ld:%d", wanted, &number, &code) == 3 && !strcmp(wanted, name) && number == seen) {
            if (code >= 700 && code < 800) dead = code;
            return code;
        }
        at = strchr(at, ',');
        at = at != NULL ? at + 1 : NULL;
    }
    return OK;
}

static void leave(pthread_mutex_t **held) { pthread_mutex_unlock(*held); }
/* Every call begins so. */
#define ENTER(name)                                                                                \
    pthread_mutex_t *held __attribute__((cleanup(leave))) = &turn;                                 \
    pthread_mutex_lock(held);                                                                      \
    if (process != 0 && process != getpid()) return NOT_INITIALIZED;                               \
    int failed_ = injected(name);                                                                  \
    if (failed_ != OK) return failed_
#define ALIVE if (dead) return dead
#define IN_CONTEXT if (!depth) return NO_CONTEXT

API cuInit(unsigned flags) { (void)flags; ENTER("cuInit"); if (!setting("FAKE_CUDA_DEVICES", 1)) return NO_DEVICE; process = getpid(); return OK; }
API cuDriverGetVersion(int *v) { ENTER("cuDriverGetVersion"); *v = (int)setting("FAKE_CUDA_VERSION", 12020); return OK; }
API cuDeviceGetCount(int *n) { ENTER("cuDeviceGetCount"); *n = (int)setting("FAKE_CUDA_DEVICES", 1); return OK; }
API cuDeviceGet(int *d, int n) { ENTER("cuDeviceGet"); *d = n; return n < setting("FAKE_CUDA_DEVICES", 1) ? OK : INVALID_DEVICE; }
API cuDeviceGetName(char *s, int n, int d) { ENTER("cuDeviceGetName"); snprintf(s, (size_t)n, "Emulated %d", d); return OK; }
API cuDeviceGetAttribute(int *v, int a, int d) {
    (void)d; ENTER("cuDeviceGetAttribute");
    long capability = setting("FAKE_CUDA_CAPABILITY", 90);
    if (a != 75 && a != 76) return INVALID_VALUE;
    *v = (int)(a == 75 ? capability / 10 : capability % 10);
    return OK;
}
API cuDevicePrimaryCtxRetain(void **c, int d) { (void)d; ENTER("cuDevicePrimaryCtxRetain"); ALIVE; *c = &context; done.contexts++; return OK; }
API cuDevicePrimaryCtxRelease(int d) { (void)d; ENTER("cuDevicePrimaryCtxRelease"); done.contexts--; return OK; }
API cuCtxPushCurrent_v2(void *c) { ENTER("cuCtxPushCurrent_v2"); if (c != &context) return NO_CONTEXT; depth++, done.pushed++; return OK; }
API cuCtxPopCurrent_v2(void **c) { ENTER("cuCtxPopCurrent_v2"); IN_CONTEXT; *c = &context; depth--, done.pushed--; return OK; }

API cuMemAlloc_v2(u64 *p, size_t bytes) {
    ENTER("cuMemAlloc_v2"); ALIVE; IN_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    if (done.bytes + (long)bytes > setting("FAKE_CUDA_MEMORY", 1l << 40)) return NO_MEMORY;
    Alloc *a = calloc(1, sizeof *a);
    a->data = aligned_alloc(256, (bytes + 255) / 256 * 256), a->known = calloc(bytes, 1), a->size = bytes, a->next = allocs;
    memset(a->data, 0xa5, bytes);
    allocs = a, *p = (u64)a->data, done.memory++, done.bytes += (long)bytes;
    return OK;
}
API cuMemFree_v2(u64 p) {
    ENTER("cuMemFree_v2"); IN_CONTEXT;
    for (Alloc **a = &allocs; *a; a = &(*a)->next) if ((u64)(*a)->data == p) {
        Alloc *gone = *a;
        *a = gone->next, done.memory--, done.bytes -= (long)gone->size;
        free(gone->data), free(gone->known), free(gone);
        return dead;
    }
    return INVALID_VALUE;
}
API cuMemAllocHost_v2(void **p, size_t bytes) {
    ENTER("cuMemAllocHost_v2"); ALIVE; IN_CONTEXT;
    *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096), done.host++;
    memset(*p, 0xa5, bytes);
    return OK;
}
API cuMemFreeHost(void *p) { ENTER("cuMemFreeHost"); IN_CONTEXT; free(p), done.host--; return dead; }

static void read_array(FILE *file, void *to, size_t bytes) { if (bytes && fread(to, 1, bytes, file) != bytes) abort(); }
static u32 read_u32(FILE *file) { u32 v; read_array(file, &v, 4); return v; }
static void *read_new(FILE *file, size_t bytes) { void *p = calloc(1, bytes + 8); read_array(file, p, bytes); return p; }

API cuModuleLoadDataEx(Module **m, const void *image, unsigned n, int *names, void **values) {
    ENTER("cuModuleLoadDataEx"); ALIVE; IN_CONTEXT;
    u64 hash = 14695981039346656037ull;
    for (const u8 *c = image; *c; c++) hash = (hash ^ *c) * 1099511628211ull;
    char path[1024];
    const char *folder = getenv("FAKE_CUDA_PROGRAMS");
    snprintf(path, sizeof path, "%s/%016llx", folder ? folder : ".", (unsigned long long)hash);
    FILE *file = fopen(path, "rb");
    if (!file) {
        for (unsigned i = 0; i < n; i++) if (names[i] == 5)
            snprintf(values[i], 200, "ptxas application ptx input, line 1; fatal   : no such text\nptxas fatal   : Ptx assembly aborted\n");
        return BAD_TEXT;
    }
    *m = calloc(1, sizeof **m), (*m)->count = read_u32(file), (*m)->functions = calloc((*m)->count, sizeof(Function));
    for (u32 k = 0; k < (*m)->count; k++) {
        Function *f = &(*m)->functions[k];
        Program *p = &f->program;
        u32 length = read_u32(file);
        read_array(file, f->name, length);
        p->length = read_u32(file), p->registers = read_u32(file), p->n_constants = read_u32(file);
        p->n_parameters = read_u32(file), p->n_shared = read_u32(file);
        s32 *special[] = {&p->tid, &p->ctaid, &p->ntid, &p->nctaid, &p->laneid};
        for (int i = 0; i < 5; i++) *special[i] = (s32)read_u32(file);
        p->code = f->kept[0] = read_new(file, p->length * sizeof(Instruction));
        p->constants = f->kept[1] = read_new(file, p->n_constants * 4ul);
        p->values = f->kept[2] = read_new(file, p->n_constants * 8ul);
        p->wide = f->kept[3] = read_new(file, p->n_constants);
        p->parameters = f->kept[4] = read_new(file, p->n_parameters * 4ul);
        p->shared = f->kept[5] = read_new(file, p->n_shared * 4ul);
        f->parameters = f->kept[6] = read_new(file, p->n_parameters * sizeof(Parameter));
        f->counts = calloc(p->length, 8), f->lanes = calloc(p->length, 8);
    }
    fclose(file);
    done.modules++;
    return OK;
}
API cuModuleUnload(Module *m) {
    ENTER("cuModuleUnload"); IN_CONTEXT;
    for (u32 k = 0; k < m->count; k++) {
        for (int i = 0; i < 7; i++) free(m->functions[k].kept[i]);
        free(m->functions[k].counts), free(m->functions[k].lanes);
    }
    free(m->functions), free(m), done.modules--;
    return dead;
}
API cuModuleGetFunction(Function **f, Module *m, const char *name) {
    ENTER("cuModuleGetFunction"); ALIVE; IN_CONTEXT;
    for (u32 k = 0; k < m->count; k++) if (!strcmp(m->functions[k].name, name)) { *f = &m->functions[k]; return OK; }
    return NOT_FOUND;
}

static Alloc *alloc_of(u64 at, u64 bytes) {
    for (Alloc *a = allocs; a; a = a->next) if (at >= (u64)a->data && at + bytes <= (u64)a->data + a->size) return a;
    return NULL;
}

static int bad(const char *what, const char *where) {
    if (!done.faults++) snprintf(done.first_fault, sizeof done.first_fault, "%s: %s", where, what);
    return dead = ILLEGAL_ADDRESS;
}

static int run_kernel(const Node *n) {
    static const char *const KINDS[FAULTS] = {"out of bounds", "write to what is only read", "read of what has no value", "race", "barrier that only some reach", "misaligned", "endless"};
    const Function *f = n->function;
    u32 count = f->program.n_parameters;
    Buffer buffers[32];
    Report report;
    memset(&report, 0, sizeof report), memset(buffers, 0, sizeof buffers);
    int had = 1;
    for (u32 i = 0; i < count; i++) {
        const Parameter *p = &f->parameters[i];
        Alloc *a = alloc_of(n->arguments[i], p->size);
        if (!a) { had = 0; continue; }
        u64 offset = n->arguments[i] - (u64)a->data;
        size_t grains = p->writable ? p->size / p->grain + 1 : 1;
        buffers[i] = (Buffer){a->data + offset, a->known + offset, calloc(grains, 4), calloc(grains, 4), p->size, p->grain, p->writable};
    }
    if (had) had = launch(&f->program, n->blocks, n->threads, buffers, count, 1ull << 34, &report, f->counts, f->lanes);
    for (u32 i = 0; i < count; i++) free(buffers[i].writers), free(buffers[i].readers);
    done.launches++;
    if (!had) return bad("an argument that is no memory of its size", f->name);
    for (int kind = 0; kind < FAULTS; kind++) if (report.faults[kind].count) return bad(KINDS[kind] ? KINDS[kind] : "a fault", f->name);
    return OK;
}

static int run_node(const Node *n) {
    Alloc *a = n->kind < LAUNCH ? alloc_of(n->device, n->bytes) : NULL;
    if (n->kind < LAUNCH && !a) return bad("a copy out of bounds", "copy");
    u64 offset = a ? n->device - (u64)a->data : 0;
    struct timespec time;
    switch (n->kind) {
    case UP: memcpy((void *)n->device, n->host, n->bytes), memset(a->known + offset, 1, n->bytes), done.ups++; return OK;
    case FILL: memset((void *)n->device, n->value, n->bytes), memset(a->known + offset, 1, n->bytes); return OK;
    case DOWN:
        for (size_t i = 0; i < n->bytes; i++) if (!a->known[offset + i]) return bad("read of what has no value", "copy");
        memcpy(n->host, (void *)n->device, n->bytes), done.downs++;
        return OK;
    case EVENT: clock_gettime(CLOCK_MONOTONIC, &time), n->event->time = 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec; return OK;
    default: return run_kernel(n);
    }
}

API cuStreamCreate(Stream **s, unsigned flags) { (void)flags; ENTER("cuStreamCreate"); ALIVE; IN_CONTEXT; *s = calloc(1, sizeof **s), (*s)->last = &(*s)->first, done.streams++; return OK; }
static void forget(Node *n) { while (n) { Node *next = n->next; free(n); n = next; } }
API cuStreamDestroy_v2(Stream *s) { ENTER("cuStreamDestroy_v2"); IN_CONTEXT; forget(s->first), free(s), done.streams--; return dead; }
API cuStreamSynchronize(Stream *s) {
    ENTER("cuStreamSynchronize"); IN_CONTEXT;
    if (s->capturing) return CAPTURING;
    for (Node *n = s->first; n && !dead; n = n->next) (void)run_node(n);
    forget(s->first), s->first = NULL, s->last = &s->first;
    return dead;
}
static int submit(Stream *s, Node node) {
    Node *n = malloc(sizeof node);
    *n = node, n->next = NULL, *s->last = n, s->last = &n->next;
    return OK;
}
API cuMemcpyHtoDAsync_v2(u64 d, const void *p, size_t n, Stream *s) { ENTER("cuMemcpyHtoDAsync_v2"); ALIVE; IN_CONTEXT; return submit(s, (Node){.kind = UP, .device = d, .host = (void *)p, .bytes = n}); }
API cuMemcpyDtoHAsync_v2(void *p, u64 d, size_t n, Stream *s) { ENTER("cuMemcpyDtoHAsync_v2"); ALIVE; IN_CONTEXT; return submit(s, (Node){.kind = DOWN, .device = d, .host = p, .bytes = n}); }
API cuMemsetD8Async(u64 d, u8 value, size_t n, Stream *s) { ENTER("cuMemsetD8Async"); ALIVE; IN_CONTEXT; return submit(s, (Node){.kind = FILL, .device = d, .bytes = n, .value = value}); }
#ifndef WITHOUT_LAUNCH
API cuLaunchKernel(Function *f, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 shared_bytes, Stream *s, void **p, void **x) {
    ENTER("cuLaunchKernel"); ALIVE; IN_CONTEXT;
    if (!gx || gx > 0x7fffffff || gy != 1 || gz != 1 || !bx || bx > 1024 || by != 1 || bz != 1 || shared_bytes || x || f->program.n_parameters > 32) return INVALID_VALUE;
    Node n = {.kind = LAUNCH, .function = f, .blocks = gx, .threads = bx};
    for (u32 i = 0; i < f->program.n_parameters; i++) n.arguments[i] = *(u64 *)p[i];
    return submit(s, n);
}
#endif
API cuEventCreate(Event **e, unsigned flags) { (void)flags; ENTER("cuEventCreate"); ALIVE; IN_CONTEXT; *e = calloc(1, sizeof **e), done.events++; return OK; }
API cuEventDestroy_v2(Event *e) { ENTER("cuEventDestroy_v2"); IN_CONTEXT; free(e), done.events--; return dead; }
API cuEventRecord(Event *e, Stream *s) { ENTER("cuEventRecord"); ALIVE; IN_CONTEXT; return submit(s, (Node){.kind = EVENT, .event = e}); }
API cuEventElapsedTime(float *ms, Event *a, Event *b) { ENTER("cuEventElapsedTime"); ALIVE; IN_CONTEXT; *ms = (float)(b->time - a->time); return OK; }

#if !defined(WITHOUT_GRAPHS) && !defined(WITHOUT_LAUNCH)
static int begin(Stream *s) { if (s->first || s->capturing) return INVALID_VALUE; s->capturing = 1; return OK; }
#ifndef CUDA_10_0
API cuStreamBeginCapture_v2(Stream *s, int mode) { ENTER("cuStreamBeginCapture_v2"); ALIVE; IN_CONTEXT; return mode == 1 ? begin(s) : INVALID_VALUE; }
API cuGraphInstantiateWithFlags(Graph **x, Graph *g, u64 flags) {
    (void)flags; ENTER("cuGraphInstantiateWithFlags"); ALIVE; IN_CONTEXT;
#else
API cuStreamBeginCapture(Stream *s) { ENTER("cuStreamBeginCapture"); ALIVE; IN_CONTEXT; return begin(s); }
API cuGraphInstantiate(Graph **x, Graph *g, void **node, char *log, size_t bytes) {
    (void)node, (void)log, (void)bytes; ENTER("cuGraphInstantiate"); ALIVE; IN_CONTEXT;
#endif
    Stream copied = {.last = &copied.first};
    for (Node *n = g->first; n; n = n->next) submit(&copied, *n);
    *x = calloc(1, sizeof **x), (*x)->first = copied.first, done.execs++;
    return OK;
}
API cuStreamEndCapture(Stream *s, Graph **g) {
    pthread_mutex_lock(&turn);
    Node *nodes = s->first;
    s->capturing = 0, s->first = NULL, s->last = &s->first; /* ends it, whatever it answers */
    int failed = injected("cuStreamEndCapture");
    pthread_mutex_unlock(&turn);
    failed = failed ? failed : dead;
    if (failed) { forget(nodes); return failed; }
    *g = calloc(1, sizeof **g), (*g)->first = nodes, done.graphs++, done.captures++;
    return OK;
}
API cuGraphLaunch(Graph *x, Stream *s) {
    ENTER("cuGraphLaunch"); ALIVE; IN_CONTEXT;
    for (Node *n = x->first; n; n = n->next) submit(s, *n);
    done.replays++;
    return OK;
}
API cuGraphExecDestroy(Graph *x) { ENTER("cuGraphExecDestroy"); IN_CONTEXT; forget(x->first), free(x), done.execs--; return dead; }
API cuGraphDestroy(Graph *g) { ENTER("cuGraphDestroy"); IN_CONTEXT; forget(g->first), free(g), done.graphs--; return dead; }
#endif

static int word(int code, const char **to, int name) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++) if (ERRORS[i].code == code) { *to = name ? ERRORS[i].name : ERRORS[i].text; return OK; }
    *to = NULL;
    return INVALID_VALUE;
}
API cuGetErrorName(int code, const char **to) { return word(code, to, 1); }
API cuGetErrorString(int code, const char **to) { return word(code, to, 0); }

/* JSON of what was done and is held; bytes written, as snprintf. */
API fake_cuda_report(char *to, size_t bytes) {
    pthread_mutex_lock(&turn);
    int n = snprintf(to, bytes,
        "{\"held\": {\"memory\": %ld, \"host\": %ld, \"contexts\": %ld, \"pushed\": %ld, \"modules\": %ld, \"streams\": %ld, "
        "\"events\": %ld, \"graphs\": %ld, \"execs\": %ld}, \"launches\": %ld, \"replays\": %ld, \"captures\": %ld, \"ups\": %ld, "
        "\"downs\": %ld, \"faults\": %ld, \"first_fault\": \"%s\"}\n",
        done.memory, done.host, done.contexts, done.pushed, done.modules, done.streams, done.events, done.graphs, done.execs,
        done.launches, done.replays, done.captures, done.ups, done.downs, done.faults, done.first_fault);
    pthread_mutex_unlock(&turn);
    return n;
}
__attribute__((destructor)) static void write_report(void) {
    const char *path = getenv("FAKE_CUDA_REPORT");
    char text[2048];
    FILE *file = path && *path ? fopen(path, "w") : NULL;
    if (file) fake_cuda_report(text, sizeof text), fputs(text, file), fclose(file);
}
