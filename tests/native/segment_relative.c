/* FS-relative accesses: the stack guard, thread-local variables, an index with FS, errno. @flags -O1 -fstack-protector-all */
#include "frame.h"
#include <errno.h>
#include <unistd.h>

static _Thread_local uint64_t counter = 5;
static _Thread_local uint64_t array[8];

__attribute__((noinline)) static uint64_t guarded(uint64_t n) {
    volatile char buffer[32];
    buffer[n % 32] = (char)n;
    return (uint64_t)buffer[n % 32] + counter++;
}

void pass(uint64_t round) {
    for (uint64_t i = 0; i < 9; i++) {
        mix(0, guarded(i + round));
        array[i % 8] += counter;
        uint64_t self, same;
        __asm__ volatile("mov %%fs:0, %0\n\tmov %%fs:16, %1" : "=r"(self), "=r"(same));
        mix(1, self == same);
        uint64_t offset = (uint64_t)&array[0] - self, index = i % 8, got;
        __asm__ volatile("mov %%fs:(%1, %2, 8), %0\n\taddq $3, %%fs:(%1)\n\tlock incq %%fs:8(%1)\n\tpushq %%fs:(%1)\n\tpopq %%fs:16(%1)"
                         : "=&r"(got) : "r"(offset), "r"(index) : "memory", "cc");
        mix(2, got);
        errno = 0;
        mix(3, (uint64_t)close(-1) + (uint64_t)errno);
        uint64_t base;
        __asm__ volatile("lea %%fs:5(%1), %0" : "=r"(base) : "r"(i)); /* lea ignores the segment */
        mix(4, base);
    }
    for (int i = 0; i < 8; i++) mix(5, array[i]);
}
