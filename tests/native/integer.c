/* Two-operand arithmetic on registers and memory, with the flags of each. @flags -O1 */
#include "frame.h"

static uint64_t cell[4] = {1, 0xfffffffffffffff0u, 0x8000000000000000u, 77};

#define FLAGS_OF(slot, text, value, other)                                                              \
    do {                                                                                                \
        uint64_t v = (value), o = (other), flags;                                                       \
        __asm__ volatile(text "\n\tpushfq\n\tpop %2" : "+r"(v), "+r"(o), "=&r"(flags) : : "cc", "memory"); \
        mix(slot, v);                                                                                   \
        mix(slot, o);                                                                                   \
        mix(slot, flags & ARITHMETIC_FLAGS);                                                            \
    } while (0)

void pass(uint64_t round) {
    for (uint64_t i = 0; i < 4; i++) {
        uint64_t a = cell[i] * (round + 3), b = cell[3 - i] + i;
        FLAGS_OF(0, "add %1, %0", a, b);
        FLAGS_OF(1, "stc\n\tadc %1, %0", a, b);
        FLAGS_OF(2, "sub %1, %0", a, b);
        FLAGS_OF(3, "clc\n\tsbb %1, %0", a, b);
        FLAGS_OF(4, "xor %1, %0", a, b);
        FLAGS_OF(5, "inc %0", a, b);
        FLAGS_OF(6, "stc\n\tdec %0", a, b);
        FLAGS_OF(7, "neg %0", a, b);
        FLAGS_OF(8, "cmp %1, %0", a, b);
        FLAGS_OF(9, "test %1, %0", a, b);
        FLAGS_OF(10, "addb %b1, %b0\n\tadcw %w1, %w0\n\tsubl %k1, %k0", a, b);
        FLAGS_OF(11, "not %0\n\tor %1, %0\n\tand $0x7f, %0", a, b);
        FLAGS_OF(12, "lea 7(%0, %1, 4), %0\n\tmovsbq %b0, %1\n\tmovzwl %w0, %k0\n\tcmc", a, b);
        __asm__ volatile("addq %1, %0\n\tadcl $3, %0\n\tsubb $1, %0\n\tnegw %0\n\tnotq %0\n\tincl %0\n\tdecq %0"
                         : "+m"(cell[i]) : "r"(b) : "cc");
        FLAGS_OF(13, "xadd %1, %0\n\tmovslq %k0, %0\n\tbswap %1", a, b);
        mix(14, cell[i]);
    }
}
