/* What the frame (frame.c) gives to a program under the oracle, and expects of it. */
#ifndef SA_FRAME_H
#define SA_FRAME_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One pass of the code under test; called n times (argv[1], one digit), on a stack whose address
 * modulo 4096 does not depend on the environment. `round` counts from 0. */
void pass(uint64_t round);

/* What the passes found: printed at the end, so that a wrong result shows as different output. */
extern uint64_t result[32];

/* Mixes a value into result[slot]: order and multiplicity matter. */
static inline void mix(int slot, uint64_t value) {
    result[slot] = (result[slot] ^ value) * 0x9e3779b97f4a7c15u;
    result[slot] ^= result[slot] >> 29;
}

/* The six arithmetic flags of an EFLAGS image. */
#define ARITHMETIC_FLAGS 0x8d5u

#ifdef __cplusplus
}
#endif
#endif
