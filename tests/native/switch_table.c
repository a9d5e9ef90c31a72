/* A switch through a jump table, a bytecode interpreter by computed goto, an opcode table in memory. @flags -O2 -fno-tree-switch-conversion */
#include "frame.h"

__attribute__((noinline)) static uint64_t by_switch(uint64_t op, uint64_t v) {
    switch (op) {
    case 0: return v + 13;
    case 1: return v ^ 0x55;
    case 2: return v * 3;
    case 3: return v - (v >> 3);
    case 4: return ~v;
    case 5: return v << 5 | v >> 59;
    case 6: return v & 0xffffffffffffu;
    case 7: return v | 1;
    case 8: return v / 7;
    default: return 0;
    }
}

__attribute__((noinline)) static uint64_t interpret(const uint8_t *code, uint64_t v) {
    static const void *const labels[] = {&&end, &&add, &&mul, &&xor, &&loop, &&dec};
    uint64_t counter = 5;
    const uint8_t *at = code;
#define NEXT goto *labels[*at++]
    NEXT;
add: v += *at++; NEXT;
mul: v *= 31; NEXT;
xor: v ^= v >> 17; NEXT;
dec: counter--; NEXT;
loop: if (counter) at = code; NEXT;
end: return v;
}

void pass(uint64_t round) {
    uint64_t v = round + 99;
    for (uint64_t i = 0; i < 60; i++) {
        v = by_switch((v + i) % 10, v);
        mix(0, v);
    }
    static const uint8_t program[] = {1, 200, 2, 3, 1, 17, 5, 4, 2, 0};
    mix(1, interpret(program, v));
}
