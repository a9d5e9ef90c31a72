/* All 16 conditions: setcc to register and memory, cmovcc from register and memory, jcc. @flags -O1 */
#include "frame.h"

#define CONDITION(cc)                                                                               \
    do {                                                                                            \
        uint8_t r, m;                                                                               \
        uint64_t t = 1, u = 2, source = 3;                                                          \
        __asm__ volatile("cmp %6, %5\n\tset" cc " %0\n\tset" cc " %1\n\tcmov" cc " %7, %2\n\t"      \
                         "cmov" cc " %5, %3\n\tj" cc " 1f\n\tlea 5(%3), %3\n\tj" cc " 1f\n\tlea 9(%3), %3\n1:" \
                         : "=&r"(r), "=&m"(m), "+&r"(t), "+&r"(u), "+m"(source) : "r"(a), "r"(b), "m"(source) : "cc"); \
        mix(slot, r), mix(slot, m), mix(slot, t), mix(slot, u);                                     \
        slot++;                                                                                     \
    } while (0)

void pass(uint64_t round) {
    static const uint64_t values[] = {0, 1, 0x7fffffffffffffffu, 0x8000000000000000u, ~0ull, 3};
    for (unsigned i = 0; i < 6; i++)
        for (unsigned j = 0; j < 6; j++) {
            uint64_t a = values[i] + round, b = values[j];
            int slot = 0;
            CONDITION("o"); CONDITION("no"); CONDITION("b"); CONDITION("ae");
            CONDITION("e"); CONDITION("ne"); CONDITION("be"); CONDITION("a");
            CONDITION("s"); CONDITION("ns"); CONDITION("p"); CONDITION("np");
            CONDITION("l"); CONDITION("ge"); CONDITION("le"); CONDITION("g");
        }
}
