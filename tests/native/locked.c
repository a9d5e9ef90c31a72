/* LOCK-prefixed instructions of all kinds, xchg with memory and registers, cmpxchg, cmpxchg8b, fences. @flags -O1 */
#include "frame.h"

void pass(uint64_t round) {
    static uint64_t cell[4];
    uint64_t v = round + 5;
    for (int i = 0; i < 12; i++) {
        __asm__ volatile("lock addq %1, %0\n\tlock subl $3, %0\n\tlock incq %0\n\tlock decb %0\n\tlock negq %0\n\t"
                         "lock notw %0\n\tlock orq %1, %0\n\tlock andq $-2, %0\n\tlock xorb $5, %0\n\tlock adcq $0, %0\n\t"
                         "lock sbbq %1, %0"
                         : "+m"(cell[0]) : "r"(v) : "cc");
        uint64_t old = v;
        __asm__ volatile("lock xaddq %0, %1\n\txaddl %k0, %2" : "+r"(old), "+m"(cell[1]), "+m"(cell[2]) : : "cc");
        mix(0, old);
        __asm__ volatile("xchgq %0, %1\n\tlock xchgl %k0, %1\n\txchgb %b0, %1\n\txchgq %0, %2"
                         : "+r"(old), "+m"(cell[2]), "+r"(v) : : "memory");
        mix(1, old), mix(2, v);
        uint64_t expected = i % 2 ? cell[3] : 1234567;
        uint8_t equal;
        __asm__ volatile("lock cmpxchgq %3, %1\n\tsete %2" : "+a"(expected), "+m"(cell[3]), "=&q"(equal) : "r"(v) : "cc");
        mix(3, expected), mix(4, equal);
        __asm__ volatile("cmpxchgl %k3, %1\n\tsete %2" : "+a"(expected), "+m"(cell[0]), "=&q"(equal) : "r"(v) : "cc");
        mix(5, expected), mix(6, equal);
        uint32_t low = (uint32_t)cell[1], high = (uint32_t)(cell[1] >> 32) + (uint32_t)(i % 3 == 0);
        __asm__ volatile("lock cmpxchg8b %2\n\tsetz %3" : "+a"(low), "+d"(high), "+m"(cell[1]), "=&q"(equal)
                         : "b"(i), "c"(i * 3) : "cc");
        mix(7, low), mix(8, high), mix(9, equal);
        __asm__ volatile("mfence\n\tlfence\n\tsfence\n\tpause" ::: "memory");
        for (int j = 0; j < 4; j++) mix(10 + j, cell[j]);
    }
}
