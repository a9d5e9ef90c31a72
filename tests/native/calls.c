/* Direct, indirect and tail calls through registers and memory, deep and mutual recursion. @flags -O1 -fno-inline -fno-optimize-sibling-calls */
#include "frame.h"

typedef uint64_t (*step)(uint64_t);
static uint64_t one(uint64_t v) { return v + 1; }
static uint64_t twice(uint64_t v) { return v * 2; }
static uint64_t less(uint64_t v) { return v - 3; }
static step volatile table[3] = {one, twice, less};

static uint64_t fibonacci(uint64_t n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
static uint64_t deep(uint64_t n) { return n == 0 ? 7 : deep(n - 1) * 3 + n; }
static uint64_t odd(uint64_t n);
static uint64_t even(uint64_t n) { return n == 0 ? 1 : odd(n - 1); }
static uint64_t odd(uint64_t n) { return n == 0 ? 0 : even(n - 1); }

void pass(uint64_t round) {
    uint64_t v = round;
    for (int i = 0; i < 30; i++) v = table[i % 3](v);
    mix(0, v);
    mix(1, fibonacci(9 + round % 2));
    mix(2, deep(700));
    mix(3, even(61));
    uint64_t sum = 0;
    step indirect = table[round % 3];
    for (int i = 0; i < 10; i++) {
        __asm__ volatile("call *%1" : "+a"(sum) : "r"(indirect), "D"((uint64_t)i)
                         : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
        mix(4, sum);
        __asm__ volatile("call *%1" : "+a"(sum) : "m"(table[i % 3]), "D"(sum)
                         : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
        mix(5, sum);
    }
}
