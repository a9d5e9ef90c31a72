/* setjmp and longjmp: from deep frames, repeatedly, with values; swapcontext between two stacks. @flags -O1 -Wno-infinite-recursion */
#include "frame.h"
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

static jmp_buf there;

__attribute__((noinline)) static void down(volatile int depth, int value) {
    volatile char filler[64];
    memset((char *)filler, depth, sizeof filler);
    if (depth == 0) longjmp(there, value);
    down(depth - 1, value);
    mix(31, (uint64_t)filler[3]);
}

static ucontext_t outer, inner;
static char stack[65536];
static void other_side(void) {
    for (int i = 0; i < 5; i++) {
        mix(1, (uint64_t)i);
        swapcontext(&inner, &outer);
    }
}

void pass(uint64_t round) {
    volatile int rounds = 0;
    int value = setjmp(there);
    mix(0, (uint64_t)value);
    if (rounds++ < 6) down(rounds * 5, rounds + (int)round);
    getcontext(&inner);
    inner.uc_stack.ss_sp = stack;
    inner.uc_stack.ss_size = sizeof stack;
    inner.uc_link = &outer;
    makecontext(&inner, other_side, 0);
    for (int i = 0; i < 5; i++) {
        swapcontext(&outer, &inner);
        mix(2, (uint64_t)i);
    }
}
