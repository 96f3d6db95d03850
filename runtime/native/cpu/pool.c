#define _GNU_SOURCE /* syscall, pthread_setname_np, sched_getcpu */

#include "pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Two cache lines: Intel's prefetcher pulls lines in pairs (optimization manual, 3.7.3). */
#define LINE 128

/* A word that threads wait on until it changes. `sleepers` spares the one who changes it a system
 * call as long as all who wait are spinning. */
typedef struct gate {
    alignas(LINE) _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
} gate;

typedef struct worker {
    pool *pool;
    int32_t index;
    pthread_t thread;
} worker;

struct pool {
    gate run;      /* the number of the newest run; raised for each, and once more to stop */
    gate progress; /* +1 each time that an item is complete */
    alignas(LINE) _Atomic int32_t item_spin_us; /* between the bounds of pool.h */
    pool_task task;                             /* these do not change after the threads start */
    void *context;
    bool spin;
    int32_t threads;
    /* Only the thread that steps, one at a time, touches these: see keep_apart. */
    bool apart;         /* the cores of the workers are ours to choose */
    int caller_core;    /* that the workers keep away from; -1 before */
    cpu_set_t usable;   /* cores of the one who opened the pool */
    cpu_set_t chosen;   /* the workers' now */
    _Atomic bool stop;
    worker workers[];
};

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` does nothing on most cores */
#elif defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Return when the word is no longer `old`; what was written before it changed is then visible.
 * Whether it could be had without sleeping. */
static bool gate_wait(gate *self, uint32_t old, int64_t spin_us) {
    if (spin_us > 0) {
        int64_t end = 0;
        do {
            /* Some 32 pauses between looks at the clock: 0.3 to 2 us. */
            for (int i = 0; i < 32; i++) {
                if (atomic_load_explicit(&self->word, memory_order_acquire) != old) {
                    return true;
                }
                pause_cpu();
            }
            int64_t now = now_ns();
            end = end == 0 ? now + spin_us * 1000 : end;
            if (now >= end) {
                break;
            }
        } while (true);
    }
    /* Either this addition comes before the load of `sleepers` in gate_raise, which then wakes us,
     * or the word has changed by the time the kernel compares it, and it does not put us to
     * sleep. Both sides are sequentially consistent for that. */
    atomic_fetch_add(&self->sleepers, 1);
    while (atomic_load(&self->word) == old) {
        /* EAGAIN: it changed already; EINTR: a signal. Both: look again. */
        (void)syscall(SYS_futex, &self->word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    }
    atomic_fetch_sub(&self->sleepers, 1);
    return false;
}

static void gate_raise(gate *self) {
    atomic_fetch_add(&self->word, 1);
    if (atomic_load(&self->sleepers) != 0) {
        (void)syscall(SYS_futex, &self->word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}

/* The parts of an item's word. */
#define RUN_BITS 24
#define DONE_BITS 8
#define RUN_MASK ((UINT32_C(1) << RUN_BITS) - 1)

static uint32_t run_of(uint64_t word) { return (uint32_t)(word >> (64 - RUN_BITS)); }

static uint32_t claimed_of(uint64_t word) { return (uint32_t)(word >> DONE_BITS); }

static int32_t done_of(uint64_t word) { return (int32_t)(word & ((1u << DONE_BITS) - 1)); }

/* Whether `run` is over for whoever finds `found` in an item: numbers wrap around, and no thread
 * is eight million runs late. */
static bool is_later(uint32_t found, uint32_t run) {
    uint32_t ahead = (found - run) & RUN_MASK;
    return ahead != 0 && ahead < RUN_MASK / 2;
}

int32_t pool_claim(pool_item *item, uint32_t run, int32_t count, int32_t first) {
    const uint32_t all = count == 32 ? UINT32_MAX : (UINT32_C(1) << count) - 1;
    run &= RUN_MASK;
    uint64_t word = atomic_load_explicit(&item->word, memory_order_relaxed);
    for (;;) {
        if (is_later(run_of(word), run)) {
            return -1;
        }
        bool begun = run_of(word) == run;
        uint32_t open = begun ? all & ~claimed_of(word) : all;
        if (open == 0) {
            return -1;
        }
        uint32_t behind = open & ~((UINT32_C(1) << first) - 1);
        int32_t chunk = __builtin_ctz(behind != 0 ? behind : open);
        uint64_t mine = UINT64_C(1) << (DONE_BITS + chunk);
        uint64_t next = begun ? word | mine : ((uint64_t)run << (64 - RUN_BITS)) | mine;
        /* Acquire: the first chunk of an item may be claimed by a thread that has not waited for
         * the run's beginning at this very word. */
        if (atomic_compare_exchange_weak_explicit(&item->word, &word, next, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return chunk;
        }
    }
}

void pool_finish(pool *self, pool_item *item, int32_t count) {
    uint64_t before = atomic_fetch_add_explicit(&item->word, 1, memory_order_acq_rel);
    if (done_of(before) + 1 == count) {
        gate_raise(&self->progress);
    }
}

/* 1: complete; 0: not yet; -1: the run is over. */
static int item_state(pool_item *item, uint32_t run, int32_t count) {
    uint64_t word = atomic_load_explicit(&item->word, memory_order_acquire);
    if (run_of(word) != run) {
        return is_later(run_of(word), run) ? -1 : 0;
    }
    return done_of(word) == count;
}

/* Keep the workers off the caller's core; see the head of pool.h. Of the caller alone: at the start
 * of a run, and where it has slept since and may have been moved. */
static void keep_apart(pool *self) {
    if (!self->apart) {
        return;
    }
    int core = sched_getcpu();
    if (core == self->caller_core) {
        return;
    }
    cpu_set_t next = self->usable;
    size_t bit = core < 0 ? CPU_SETSIZE : (size_t)core;
    if (bit >= CPU_SETSIZE || !CPU_ISSET(bit, &next) || CPU_COUNT(&next) < 2) {
        self->apart = false;
        return;
    }
    CPU_CLR(bit, &next);
    for (int32_t i = 1; i < self->threads; i++) {
        cpu_set_t found;
        pthread_t thread = self->workers[i].thread;
        if (pthread_getaffinity_np(thread, sizeof found, &found) != 0 ||
            !CPU_EQUAL(&found, &self->chosen) ||
            pthread_setaffinity_np(thread, sizeof next, &next) != 0) {
            self->apart = false;
            return;
        }
    }
    self->chosen = next;
    self->caller_core = core;
}

bool pool_wait(pool *self, pool_item *item, uint32_t run, int32_t count, int32_t index) {
    run &= RUN_MASK;
    for (;;) {
        /* Read before the state: an item that is complete later has raised it since. */
        uint32_t old = atomic_load_explicit(&self->progress.word, memory_order_acquire);
        int state = item_state(item, run, count);
        if (state != 0) {
            return state > 0;
        }
        if (!self->spin) {
            (void)gate_wait(&self->progress, old, 0);
            continue;
        }
        int32_t spin_us = atomic_load_explicit(&self->item_spin_us, memory_order_relaxed);
        bool soon = gate_wait(&self->progress, old, spin_us);
        if (!soon && index == 0) {
            keep_apart(self); /* one who is woken may be put on the core of the one who wakes it */
        }
        int32_t next_us = soon ? spin_us * 2 : spin_us / 2;
        next_us = next_us < POOL_SPIN_ITEM_US ? next_us : POOL_SPIN_ITEM_US;
        next_us = next_us > POOL_SPIN_ITEM_LEAST_US ? next_us : POOL_SPIN_ITEM_LEAST_US;
        if (next_us != spin_us) {
            atomic_store_explicit(&self->item_spin_us, next_us, memory_order_relaxed);
        }
    }
}

static void *work(void *argument) {
    worker *me = argument;
    pool *self = me->pool;
    char name[16]; /* the kernel's limit */
    (void)snprintf(name, sizeof name, "shiftedge-%d", (int)me->index);
    (void)pthread_setname_np(pthread_self(), name);
    for (uint32_t seen = 0;;) {
        (void)gate_wait(&self->run, seen, self->spin ? POOL_SPIN_RUN_US : 0);
        if (atomic_load_explicit(&self->stop, memory_order_relaxed)) {
            return NULL;
        }
        /* The newest run: those that this thread missed are over. */
        seen = atomic_load_explicit(&self->run.word, memory_order_acquire);
        self->task(self->context, me->index, seen);
    }
}

uint32_t pool_begin(pool *self) {
    keep_apart(self);
    gate_raise(&self->run);
    return atomic_load_explicit(&self->run.word, memory_order_relaxed);
}

static void stop_and_join(pool *self, int32_t started) {
    atomic_store_explicit(&self->stop, true, memory_order_relaxed); /* the raise releases it */
    gate_raise(&self->run);
    for (int32_t i = 1; i < started; i++) {
        pthread_join(self->workers[i].thread, NULL);
    }
}

/* Workers take no signals: a program's handlers run on its own threads, whose system calls they
 * are meant to interrupt. Except for those that tell of a fault of the thread itself, which would
 * end the process without a word. A thread inherits the mask of the one that starts it. */
static int32_t start_workers(pool *self) {
    const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    sigset_t blocked;
    sigset_t before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        sigdelset(&blocked, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int32_t started = 1;
    while (started < self->threads) {
        worker *next = &self->workers[started];
        next->pool = self;
        next->index = started;
        if (pthread_create(&next->thread, NULL, work, next) != 0) {
            break;
        }
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

pool *pool_open(int32_t threads, bool spin, pool_task task, void *context, bool *out_of_memory) {
    size_t bytes = sizeof(pool) + (size_t)threads * sizeof(worker);
    bytes = (bytes + LINE - 1) / LINE * LINE;
    pool *self = aligned_alloc(LINE, bytes);
    *out_of_memory = self == NULL;
    if (self == NULL) {
        return NULL;
    }
    memset(self, 0, bytes); /* all-zero is a valid start of every atomic here */
    self->threads = threads;
    self->spin = spin;
    self->task = task;
    self->context = context;
    self->item_spin_us = POOL_SPIN_ITEM_US;
    self->caller_core = -1;
    self->apart = spin && sched_getaffinity(0, sizeof self->usable, &self->usable) == 0;
    self->chosen = self->usable;
    int32_t started = start_workers(self);
    if (started < threads) {
        stop_and_join(self, started);
        free(self);
        return NULL;
    }
    return self;
}

void pool_close(pool *self) {
    stop_and_join(self, self->threads);
    free(self);
}

void pool_abandon(pool *self) { free(self); }
