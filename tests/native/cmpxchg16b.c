/* cmpxchg16b, locked and not, taken and not. @flags -O1 -mcx16
   @needs cx16 */
#include "frame.h"

void pass(uint64_t round) {
    static uint64_t pair[2] __attribute__((aligned(16)));
    for (uint64_t i = 0; i < 10; i++) {
        uint64_t low = i % 3 ? pair[0] : ~pair[0], high = pair[1];
        uint8_t equal;
        __asm__ volatile("lock cmpxchg16b %2\n\tsetz %3" : "+a"(low), "+d"(high), "+m"(pair), "=&r"(equal)
                         : "b"(i + round), "c"(i * 77) : "cc");
        mix(0, equal), mix(1, low), mix(2, high);
        low = pair[0], high = pair[1];
        __asm__ volatile("cmpxchg16b %2\n\tsetz %3" : "+a"(low), "+d"(high), "+m"(pair), "=&r"(equal)
                         : "b"(low + 1), "c"(high ^ 5) : "cc");
        mix(3, equal), mix(4, pair[0]), mix(5, pair[1]);
    }
}
