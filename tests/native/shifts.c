/* Shifts and rotates by immediate and by CL, zero counts included (flags then stay). @flags -O1 */
#include "frame.h"

#define SHIFT(slot, operation)                                                                       \
    do {                                                                                             \
        uint64_t v = value, flags, f = count & 1;                                                    \
        __asm__ volatile("bt $0, %3\n\t" operation " %%cl, %0\n\tpushfq\n\tpop %1"                   \
                         : "+r"(v), "=&r"(flags) : "c"(count), "r"(f) : "cc", "memory");             \
        mix(slot, v);                                                                                \
        mix(slot, flags & (count == 1 || count == 0 ? 0x8c5 : 0xc5) & (count ? ~0u : 1u));           \
    } while (0)

void pass(uint64_t round) {
    static uint64_t memory = 0x0123456789abcdefu;
    uint64_t value = 0xf0e1d2c3b4a59687u * (round + 1);
    for (uint64_t count = 0; count < 70; count += 7) {
        SHIFT(0, "shlq");
        SHIFT(1, "shrq");
        SHIFT(2, "sarq");
        SHIFT(3, "rolq");
        SHIFT(4, "rorq");
        SHIFT(5, "rclq");
        SHIFT(6, "rcrq");
        uint64_t a = value, b = ~value;
        __asm__ volatile("shld %%cl, %1, %0\n\tshrd $13, %0, %1\n\tshrd %%cl, %0, %1\n\tshld $1, %1, %0"
                         : "+r"(a), "+r"(b) : "c"(count) : "cc");
        mix(7, a), mix(8, b);
        __asm__ volatile("roll $5, %0\n\tshlb %%cl, %0\n\tsarw $3, %0\n\trorq %0\n\tshld %%cl, %1, %0\n\trcll $1, %0"
                         : "+m"(memory) : "r"(value), "c"(count) : "cc");
        mix(9, memory);
    }
}
