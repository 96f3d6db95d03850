/* A pool of threads for one step at a time: wakes in microseconds, sleeps between camera frames.
 *
 * The calling thread is number 0 and works too; the pool's own threads are 1 .. threads-1. A run
 * wakes them once for a whole step. Its items (kernels) are done one after another, each cut into
 * chunks that threads claim: its own first, then what others have not begun. So nobody waits for a
 * thread that has not come yet, because it sleeps or another program has its core: the others do
 * its part, and when it comes it finds nothing left. What a chunk computes does not depend on who
 * computes it.
 *
 * Waiting: spin on a word in the thread's own cache for a bounded time, then sleep in a futex. The
 * bound keeps a waiting thread from costing more than POOL_SPIN_... of a core each time; a pool
 * whose threads outnumber the cores does not spin at all, since the thread it waits for may need
 * that very core.
 *
 * Cores: where each thread may have one of its own, the pool keeps its threads off the core that the
 * caller is on. Left alone the scheduler may wake a thread where it slept, behind the caller that has
 * come to run there, or a caller on the core of the thread that wakes it, and part them milliseconds
 * later, when the step is over. Steps of an int8 MobileNetV2 every 30 ms, two threads, two cores
 * (p50): 7.4 ms without, as with one thread; 4.3 with. The caller's own cores are never changed, and
 * once somebody else has chosen cores for a thread of the pool, they are left as they are.
 *
 * Figures, 2-core x86-64 virtual machine (AMD EPYC), little else running, p50 of
 * tests/runtime/native/latency.c: a step of 18 empty kernels with 108 KB of states takes 2.2 us on
 * 1 thread, of which 2.1 copy the states, and 7.3 us (p99 9) on 2 threads with four chunks a
 * kernel; a wake-up of a thread that spins 0.3 us, of one that has slept for 80 ms 15 us (p99
 * milliseconds). The step 80 ms after the last takes 20 us on 1 thread and 23 on 2: nobody waits
 * for the one that wakes. Where two threads must share a core a step of MobileNetV2 takes 1.03 of
 * what one thread takes; with a barrier after each kernel, as this once was, it took 1.08.
 */
#ifndef SHIFTEDGE_POOL_H
#define SHIFTEDGE_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* How long a thread spins for the next run before it sleeps, microseconds. Covers the pause
 * between steps that follow one another at once; of a camera's 80 ms it is 0.06%. */
#define POOL_SPIN_RUN_US 50

/* The same for the end of an item: as long as kernels may be unevenly cut, which with chunks of up
 * to 150 us they are where a thread comes late, so that only a thread that lost its core to another
 * program is waited for asleep. Where that happens the bound is halved each time, and doubled again
 * by a wait that ends in time: if another program takes a core and the scheduler puts two of our
 * threads on one, a thread that spins only keeps the other from coming. Seen so on two cores under
 * full load, 18 barriers: 3.7 ms with a bound fixed at 200 us, 0.08 without any spin, 0.2 with this
 * from 50 us on. With 50 here a step of an int8 MobileNetV2 took 5.4 ms on two threads, with 400
 * 4.0: who sleeps is woken on the core of the one who wakes it. */
#define POOL_SPIN_ITEM_US 400
#define POOL_SPIN_ITEM_LEAST_US 4

typedef struct pool pool;

typedef void (*pool_task)(void *context, int32_t index, uint32_t run);

/* Which chunks of an item are claimed and how many done, and in which run; all zero at first. */
typedef struct pool_item {
    _Atomic uint64_t word; /* run: 24 bits, a bit for each chunk: 32, done: 8 */
} pool_item;

#define POOL_CHUNKS_MOST 32

/* Start threads-1 threads that run task(context, index, run) for each run. `spin`: whether each
 * has a core of its own. NULL if the system gives no memory or no threads; *out_of_memory tells
 * which. */
pool *pool_open(int32_t threads, bool spin, pool_task task, void *context, bool *out_of_memory);

/* Wake the pool's threads for another run; returns its number, to work at it oneself. What the
 * caller wrote before is seen by all. The run is over when the caller's last item is complete: a
 * thread that comes later finds its number out of date and leaves again. */
uint32_t pool_begin(pool *self);

/* Claim a chunk of an item, of `count` (at most POOL_CHUNKS_MOST), `first` or the next free one
 * behind it. Returns its number; -1 if none is free, or the run is over. */
int32_t pool_claim(pool_item *item, uint32_t run, int32_t count, int32_t first);

/* A claimed chunk is done. */
void pool_finish(pool *self, pool_item *item, int32_t count);

/* Wait until all chunks of an item are done, and see what they wrote; `index` is the caller's own
 * number. False: the run is over. */
bool pool_wait(pool *self, pool_item *item, uint32_t run, int32_t count, int32_t index);

/* End the threads and free the pool. */
void pool_close(pool *self);

/* Free the pool in a forked child, which has none of its threads. */
void pool_abandon(pool *self);

/* The first unit of part `index`, the last unit + 1 of part `index` - 1. What cannot be shared
 * evenly goes to low numbers, so that a single unit belongs to the calling thread. */
static inline int32_t pool_split(int32_t units, int32_t index, int32_t parts) {
    return (int32_t)(((int64_t)units * index + parts - 1) / parts);
}

#endif
