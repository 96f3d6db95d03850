/* What this CPU can do at most: multiply-adds and reads, on 1 to 64 threads at once.
 *
 *   peak THREADS MILLISECONDS L2_BYTES MEMORY_BYTES
 *   peak THREADS MILLISECONDS INSTRUCTION
 *
 * The first prints {"gflops": ..., "l2_gb_s": ..., "memory_gb_s": ...}, multiply-adds of float32.
 * MILLISECONDS are spent on each; L2_BYTES are read by each thread again and again, MEMORY_BYTES by
 * all together; 0 leaves a reading out, as null. The second prints {"gops": ...}, of an instruction
 * of peak_packed.c; one that the CPU lacks is refused by a sentence and status 3. Each figure is the
 * best of short pieces, so that a neighbour's burst costs a piece and not the figure. Compiled on the
 * machine it measures, for that machine. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "peak_packed.h"

#if defined(__AVX512F__)
enum { WIDTH_BYTES = 64, CHAINS = 24 };
#elif defined(__AVX__)
enum { WIDTH_BYTES = 32, CHAINS = 12 };
#elif defined(__aarch64__)
enum { WIDTH_BYTES = 16, CHAINS = 24 };
#else
enum { WIDTH_BYTES = 16, CHAINS = 12 };
#endif
/* A multiply-add takes 4 cycles or so and two to four start in each, so 8 to 16 chains hide it. */

typedef float vector __attribute__((vector_size(WIDTH_BYTES)));
enum { LANES = WIDTH_BYTES / 4, READS = 8, THREADS_MOST = 64 };

#define TRUSTED_LEAST 3
#define PIECE_S 2e-3 /* long against a thread's start, short against a neighbour's burst */

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile float kept; /* so that no result is nobody's */

static void multiply_add(int64_t rounds, float near_one, float small) {
  vector sums[CHAINS];
  const vector factor = (vector){0} + near_one, term = (vector){0} + small;
  for (int i = 0; i < CHAINS; i++) sums[i] = (vector){0} + (float)i;
  for (int64_t k = 0; k < rounds; k++) {
#pragma GCC unroll 32
    for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * factor + term;
  }
  vector total = sums[0];
  for (int i = 1; i < CHAINS; i++) total += sums[i];
  kept = total[0];
}

static void read_all(const vector *from, int64_t vectors, int64_t rounds) {
  vector sums[READS] = {{0}};
  for (int64_t k = 0; k < rounds; k++) {
    __asm__ volatile("" : : "r"(from) : "memory"); /* read again, each round */
    for (int64_t at = 0; at + READS <= vectors; at += READS) {
#pragma GCC unroll 32
      for (int i = 0; i < READS; i++) sums[i] += from[at + i];
    }
  }
  vector total = sums[0];
  for (int i = 1; i < READS; i++) total += sums[i];
  kept = total[0];
}

/* One piece of work, done by all threads at once. */
static struct {
  int threads, reading;
  const packed_product *packed; /* to multiply; NULL for float32 */
  int64_t rounds, vectors; /* of each thread */
  vector *memory;
  atomic_int arrived, turn;
  atomic_bool over;
  double begin_s[THREADS_MOST], end_s[THREADS_MOST];
} work;

/* Asleep until all are there: a thread that wakes gets a core of its own, where one that spins may
 * share one with its neighbour for a long time. */
static pthread_barrier_t gate;

/* Awake until all are there, so that they leave together. */
static void line_up(void) {
  const int turn = atomic_load(&work.turn);
  if (atomic_fetch_add(&work.arrived, 1) + 1 == work.threads) {
    atomic_store(&work.arrived, 0);
    atomic_store(&work.turn, turn + 1);
    return;
  }
  for (int spins = 0; atomic_load(&work.turn) == turn; spins++)
    if (spins > 2000) sched_yield();
}

static void piece(int thread) {
  pthread_barrier_wait(&gate);
  line_up();
  work.begin_s[thread] = now_s();
  if (work.reading)
    read_all(work.memory + thread * work.vectors, work.vectors, work.rounds);
  else if (work.packed)
    work.packed->run(work.rounds);
  else
    multiply_add(work.rounds, 0.9999f, 1e-4f);
  work.end_s[thread] = now_s();
  pthread_barrier_wait(&gate);
}

static void *helper(void *number) {
  for (;;) {
    pthread_barrier_wait(&gate); /* the leader has set the work */
    if (atomic_load(&work.over)) return NULL;
    piece((int)(intptr_t)number);
  }
}

/* Seconds from the first thread's start to the last one's end. */
static double timed_piece(void) {
  pthread_barrier_wait(&gate);
  piece(0);
  double begin_s = work.begin_s[0], end_s = work.end_s[0];
  for (int i = 1; i < work.threads; i++) {
    if (work.begin_s[i] < begin_s) begin_s = work.begin_s[i];
    if (work.end_s[i] > end_s) end_s = work.end_s[i];
  }
  return end_s - begin_s;
}

/* Best rate over `span_s`, in units a second; one round of one thread is `units`. */
static double best(double units, double span_s) {
  const double end_s = now_s() + span_s;
  double rate = 0.0;
  int trusted = 0;
  work.rounds = 1;
  do {
    const double took_s = timed_piece();
    const double found = units * (double)work.rounds * work.threads / took_s;
    if (took_s < PIECE_S / 2)
      work.rounds *= 2; /* too short to trust yet */
    else if (++trusted && found > rate)
      rate = found;
    /* One long piece may be a short one that the core was taken from. */
  } while (now_s() < end_s || trusted < TRUSTED_LEAST);
  return rate;
}

static void read_figure(const char *name, int64_t bytes_each, double span_s) {
  work.vectors = bytes_each / WIDTH_BYTES / READS * READS;
  const size_t bytes = (size_t)(work.vectors * work.threads) * sizeof(vector);
  work.memory = bytes ? aligned_alloc(WIDTH_BYTES, bytes) : NULL;
  if (!work.memory) {
    printf(", \"%s\": null", name);
    return;
  }
  for (size_t i = 0; i < bytes / sizeof(float); i++) ((float *)work.memory)[i] = 1.0f;
  work.reading = 1;
  printf(", \"%s\": %.6g", name, best((double)work.vectors * WIDTH_BYTES, span_s) / 1e9);
  free(work.memory);
}

int main(int count, char **arguments) {
  if (count != 4 && count != 5) return 2;
  work.threads = atoi(arguments[1]);
  const double span_s = atof(arguments[2]) / 1e3;
  if (work.threads < 1 || work.threads > THREADS_MOST) return 2;
  if (count == 4 && !(work.packed = find_packed(arguments[3]))) return 3;
  pthread_barrier_init(&gate, NULL, (unsigned)work.threads);
  pthread_t helpers[THREADS_MOST];
  for (int i = 1; i < work.threads; i++)
    if (pthread_create(&helpers[i], NULL, helper, (void *)(intptr_t)i)) return 1;
  if (work.packed) {
    printf("{\"gops\": %.6g}\n", best(work.packed->operations, span_s) / 1e9);
  } else {
    printf("{\"gflops\": %.6g", best(2.0 * CHAINS * LANES, span_s) / 1e9);
    read_figure("l2_gb_s", atoll(arguments[3]), span_s);
    read_figure("memory_gb_s", atoll(arguments[4]) / work.threads, span_s);
    printf("}\n");
  }
  atomic_store(&work.over, 1);
  pthread_barrier_wait(&gate);
  for (int i = 1; i < work.threads; i++) pthread_join(helpers[i], NULL);
  return 0;
}
