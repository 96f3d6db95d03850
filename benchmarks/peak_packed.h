/* Instructions that multiply narrow numbers, several to a lane, and add the products. */
#ifndef SHIFTEDGE_PEAK_PACKED_H
#define SHIFTEDGE_PEAK_PACKED_H

#include <stdint.h>

typedef struct packed_product {
  const char *name;
  const char *features; /* that the CPU must have, by Linux's names, with spaces between */
  double operations;    /* of one round: 2 for each product that is added */
  void (*run)(int64_t rounds); /* NULL where the compiler was not told of the instruction */
} packed_product;

/* The row of `name`; or NULL, and a sentence on stderr: unknown, or this CPU cannot run it. */
const packed_product *find_packed(const char *name);

#endif
