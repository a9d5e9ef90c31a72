/* BMI1, BMI2, ADX. @flags -O1 -mbmi -mbmi2 -madx
   @needs bmi1 bmi2 adx */
#include "frame.h"

void pass(uint64_t round) {
    uint64_t v = 0x123456789abcdef0u * (round + 1), m = 0xff00f0f033335555u, r;
    for (int i = 0; i < 10; i++) {
        __asm__ volatile("andn %1, %2, %0" : "=r"(r) : "r"(v), "r"(m) : "cc"); mix(0, r);
        __asm__ volatile("bextr %2, %1, %0" : "=r"(r) : "m"(v), "r"((uint64_t)(i * 3 | 17 << 8)) : "cc"); mix(1, r);
        __asm__ volatile("blsi %1, %0\n\tblsr %0, %0\n\tblsmsk %1, %0" : "=&r"(r) : "r"(v) : "cc"); mix(2, r);
        __asm__ volatile("bzhi %2, %1, %0" : "=r"(r) : "r"(v), "r"((uint64_t)i * 6) : "cc"); mix(3, r);
        __asm__ volatile("pdep %2, %1, %0" : "=r"(r) : "r"(v), "m"(m)); mix(4, r);
        __asm__ volatile("pext %2, %1, %0" : "=r"(r) : "r"(v), "r"(m)); mix(5, r);
        __asm__ volatile("rorx $11, %1, %0" : "=r"(r) : "m"(v)); mix(6, r);
        __asm__ volatile("sarx %2, %1, %0\n\tshlx %2, %0, %0\n\tshrx %2, %0, %0" : "=&r"(r) : "r"(v), "r"((uint64_t)i)); mix(7, r);
        uint64_t carry = v, overflow = m; /* both carry chains live at once */
        __asm__ volatile("xor %%eax, %%eax\n\tadcx %2, %0\n\tadox %2, %1\n\tadcx %1, %0\n\tadox %0, %1\n\tsetc %%al\n\tseto %%ah\n\tadd %%rax, %0"
                         : "+&r"(carry), "+&r"(overflow) : "r"(v) : "rax", "cc");
        mix(8, carry), mix(9, overflow);
        v = v * 6364136223846793005u + 1;
    }
}
