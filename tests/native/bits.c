/* Bit tests on registers and memory (bit offsets far outside the operand), scans, counts. @flags -O1 -mpopcnt -mlzcnt -mbmi
   @needs popcnt abm bmi1 */
#include "frame.h"

void pass(uint64_t round) {
    static uint64_t field[64];
    for (int64_t i = -1500; i < 1500; i += 371) {
        uint8_t carry;
        int64_t at = i + (int64_t)round;
        __asm__ volatile("btsq %2, %1\n\tsetc %0" : "=r"(carry), "+m"(field[32]) : "r"(at) : "cc", "memory");
        mix(0, carry);
        __asm__ volatile("btcl %k2, %1\n\tsetc %0" : "=r"(carry), "+m"(field[32]) : "r"(at + 3) : "cc", "memory");
        mix(1, carry);
        __asm__ volatile("lock btrq %2, %1\n\tsetc %0" : "=r"(carry), "+m"(field[32]) : "r"(at - 5) : "cc", "memory");
        mix(2, carry);
        __asm__ volatile("btw $7, %1\n\tsetc %0" : "=r"(carry) : "m"(field[32]) : "cc");
        mix(3, carry);
        uint64_t v = (uint64_t)i * 0x10001u, a, b, c, d, e;
        __asm__ volatile("btr $40, %5\n\tbts %5, %5\n\tbsf %5, %0\n\tbsr %5, %1\n\ttzcnt %5, %2\n\tlzcnt %5, %3\n\tpopcnt %5, %4"
                         : "=&r"(a), "=&r"(b), "=&r"(c), "=&r"(d), "=&r"(e), "+r"(v) : : "cc");
        mix(4, a), mix(5, b), mix(6, c), mix(7, d), mix(8, e), mix(9, v);
    }
    for (int i = 0; i < 64; i++) mix(10, field[i]);
}
