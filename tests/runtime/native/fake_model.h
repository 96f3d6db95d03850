/* Switches of the fake model, by which tests make its kernels fail or wait. */
#ifndef FAKE_MODEL_H
#define FAKE_MODEL_H

#include <stdatomic.h>
#include <stdint.h>

#define FAKE_API __attribute__((visibility("default")))

enum { FAKE_HEIGHT = 24, FAKE_WIDTH = 32, FAKE_CLASSES = 4 };

/* The kernel of this index fails with code 40 + index once it has written this unit; -1: none. */
extern FAKE_API _Atomic int32_t fake_fail_kernel;
extern FAKE_API _Atomic int32_t fake_fail_unit;

/* While 1, the kernel `shift` waits before its first unit; fake_waiting counts who waits. */
extern FAKE_API _Atomic int32_t fake_gate;
extern FAKE_API _Atomic int32_t fake_waiting;

#endif
