/* A bytecode interpreter (one indirect branch per three or four instructions) and qsort with a callback. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PUSH, ADD, MUL, XOR, DUP, SWAP, DEC, JNZ, DROP, HALT };

static uint64_t interpret(const int8_t *code, uint64_t rounds) {
    static const void *const go[] = {&&push, &&add, &&mul, &&xor, &&dup, &&swap, &&dec, &&jnz, &&drop, &&halt};
    uint64_t stack[16] = {1}, *top = stack, counter = rounds;
    const int8_t *at = code;
#define NEXT goto *go[(int)*at++]
    NEXT;
push: *++top = (uint64_t)*at++; NEXT;
add: top[-1] += *top; top--; NEXT;
mul: top[-1] *= *top; top--; NEXT;
xor: top[-1] ^= *top >> 3; top--; NEXT;
dup: top[1] = *top; top++; NEXT;
swap: { uint64_t t = *top; *top = top[-1]; top[-1] = t; } NEXT;
dec: counter--; NEXT;
jnz: if (counter) at = code; NEXT;
drop: top--; NEXT;
halt: return *top;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    const unsigned length = argc > 1 ? (unsigned)atoi(argv[1]) : 1; /* some 0.5 s each */
    static const int8_t program[] = {PUSH, 31, MUL, DUP, XOR, PUSH, 7, ADD, DUP, PUSH, 3, MUL, SWAP, DROP, DEC, JNZ, HALT};
    uint64_t value = interpret(program, 20000000ull * length);
    enum { N = 1500000 };
    uint32_t *numbers = malloc(N * sizeof *numbers), state = 1;
    for (int i = 0; i < N; i++) numbers[i] = state = state * 1664525 + 1013904223;
    for (unsigned i = 0; i < length; i++) {
        numbers[i % N] ^= (uint32_t)value;
        for (unsigned at = 0; at < N; at += 2) numbers[at] *= 2654435761u;
        qsort(numbers, N, sizeof *numbers, by_value);
    }
    printf("%llx %u\n", (unsigned long long)value, numbers[N / 2]);
    return 0;
}
