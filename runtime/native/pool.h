/* A pool of threads for one step at a time: wakes in microseconds, sleeps between camera frames.
 *
 * The calling thread is number 0 and works too; the pool's own threads are 1 .. threads-1. A run
 * wakes them once for a whole step; between kernels all meet at a barrier, which is one atomic
 * addition and a short spin. Nothing is stolen or queued: who does what follows from the numbers
 * alone.
 *
 * Waiting: spin on a word in the thread's own cache for a bounded time, then sleep in a futex. The
 * bound keeps a waiting thread from costing more than POOL_SPIN_... of a core each time; a pool
 * whose threads outnumber the cores does not spin at all, since the thread it waits for may need
 * that very core.
 *
 * Figures, 2 threads on a 2-core x86-64 VM (AMD EPYC), other programs keeping one to two cores
 * busy, so not yet those of an idle board (tests/runtime/native/latency.c measures them anew), p50:
 * a step of 18 empty kernels with 108 KB of states takes 2.2 to 2.5 us on 1 thread, of which 2.1
 * copy the states. On 2 threads it takes 3.9 us (p99 5 us), a barrier 0.08 us and a wake-up 0.1 us,
 * steps following at once, while each thread has a core; 210 us, 10 us and 7 us while both must
 * share one. After 80 ms of sleep the wake-up takes 15 to 25 us, and that step about 240 us.
 */
#ifndef SHIFTEDGE_POOL_H
#define SHIFTEDGE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/* How long a thread spins for the next run before it sleeps, microseconds. Covers the pause
 * between steps that follow one another at once; of a camera's 80 ms it is 0.06%. */
#define POOL_SPIN_RUN_US 50

/* The same at a barrier: as long as kernels may be unevenly cut, so that only a thread that lost
 * its core to another program is waited for asleep. Where that happens the bound is halved each
 * time, and doubled again by a wait that ends in time: if another program takes a core and the
 * scheduler puts two of our threads on one, a thread that spins only keeps the other from coming.
 * Seen so on two cores under full load, 18 barriers: 3.7 ms with a bound fixed at 200 us, 0.08
 * without any spin, 0.2 with this. */
#define POOL_SPIN_BARRIER_US 50
#define POOL_SPIN_BARRIER_LEAST_US 4

typedef struct pool pool;

typedef void (*pool_task)(void *context, int32_t index);

/* Start threads-1 threads. `spin`: whether each has a core of its own. NULL if the system gives no
 * memory or no threads; *out_of_memory tells which. */
pool *pool_open(int32_t threads, bool spin, bool *out_of_memory);

/* Run task(context, index) on every thread, index 0 on this one; back when all are done. What the
 * caller wrote before is seen by all, what they wrote is seen by the caller. One run at a time. */
void pool_run(pool *self, pool_task task, void *context);

/* Inside a task, called by every thread of the run: wait for all the others. */
void pool_barrier(pool *self);

/* End the threads and free the pool. */
void pool_close(pool *self);

/* Free the pool in a forked child, which has none of its threads. */
void pool_abandon(pool *self);

/* The first unit of thread `index`, the last unit + 1 of thread `index` - 1. What cannot be shared
 * evenly goes to low numbers, so that a single unit runs on the calling thread. */
static inline int32_t pool_split(int32_t units, int32_t index, int32_t threads) {
    return (int32_t)(((int64_t)units * index + threads - 1) / threads);
}

#pragma GCC visibility pop

#endif
