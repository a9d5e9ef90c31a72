/* mul, imul, div, idiv of all widths, registers and memory; mulx.
   @flags -O1 -mbmi2
   @needs bmi2 */
#include "frame.h"

void pass(uint64_t round) {
    uint64_t high, low, quotient, rest;
    for (uint64_t i = 1; i < 6; i++) {
        uint64_t a = (round + 11) * 0x123456789abcdefu * i, b = i * 0xfedcba987u;
        __asm__ volatile("mulq %3" : "=a"(low), "=d"(high) : "a"(a), "rm"(b) : "cc");
        mix(0, low), mix(1, high);
        __asm__ volatile("imulq %3" : "=a"(low), "=d"(high) : "a"(a), "m"(b) : "cc");
        mix(2, low), mix(3, high);
        __asm__ volatile("divq %4" : "=a"(quotient), "=d"(rest) : "a"(a), "d"(i), "r"(b + 100) : "cc");
        mix(4, quotient), mix(5, rest);
        __asm__ volatile("cqto\n\tidivq %2" : "=a"(quotient), "=&d"(rest) : "r"(b), "0"(a) : "cc");
        mix(6, quotient), mix(7, rest);
        uint32_t q32, r32;
        __asm__ volatile("cltd\n\tidivl %2" : "=a"(q32), "=&d"(r32) : "m"(b), "0"((uint32_t)a & 0x7fffffff) : "cc");
        mix(8, q32), mix(9, r32);
        uint64_t c = a;
        __asm__ volatile("imul %1, %0\n\timul $1000, %0, %0\n\timul $-3, %1, %1" : "+r"(c), "+r"(b) : : "cc");
        mix(10, c), mix(11, b);
        uint16_t w = (uint16_t)(a & 0x3fff);
        uint8_t d = (uint8_t)(200 + i);
        __asm__ volatile("divb %1\n\tmulb %1" : "+a"(w) : "m"(d) : "cc");
        mix(12, w);
        __asm__ volatile("mulx %2, %0, %1" : "=r"(low), "=r"(high) : "r"(b), "d"(a));
        mix(13, low ^ high);
    }
}
