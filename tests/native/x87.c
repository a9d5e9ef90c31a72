/* x87: stack, transcendental functions, BCD, control and status word, environment, MMX. @flags -O1 */
#include "frame.h"

void pass(uint64_t round) {
    long double sum = (long double)round;
    for (int i = 1; i < 8; i++) {
        long double v = (long double)i + 0.125L;
        __asm__ volatile("fsqrt\n\tfld1\n\tfaddp\n\tfldpi\n\tfmulp" : "+t"(v));
        sum += v / (long double)(i + 1);
        double turned;
        __asm__ volatile("fsincos\n\tfstp %%st(1)\n\tfxch %%st(0)" : "=t"(turned) : "0"((double)v));
        sum -= turned;
        uint16_t status;
        __asm__ volatile("fcom %%st(1)\n\tfnstsw %0" : "=a"(status) : "t"(sum), "u"(v));
        mix(0, status & 0x4500);
        uint8_t above;
        __asm__ volatile("fcomi %2, %1\n\tseta %0" : "=r"(above) : "t"(sum), "f"(v) : "cc");
        mix(1, above);
    }
    uint16_t control, changed;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    changed = control | 0xc00; /* towards zero */
    int64_t whole;
    __asm__ volatile("fldcw %2\n\tfldt %3\n\tfistpll %0\n\tfldcw %1" : "=m"(whole) : "m"(control), "m"(changed), "m"(sum));
    mix(2, (uint64_t)whole);
    uint8_t bcd[10] = {0};
    int32_t whole_part = 31415;
    __asm__ volatile("fildl %1\n\tfbstp %0" : "=m"(bcd) : "m"(whole_part));
    for (int i = 0; i < 10; i++) mix(3, bcd[i]);
    uint8_t environment[28];
    __asm__ volatile("fnstenv %0\n\tfldenv %0" : "+m"(environment));
    double a = (double)round, b;
    __asm__ volatile("fldl %1\n\tfldl %1\n\tfucomip %%st(1), %%st\n\tfcmovne %%st(0), %%st\n\tfstpl %0" : "=m"(b) : "m"(a) : "cc");
    mix(4, (uint64_t)(int64_t)b);
    uint64_t packed = 0x0102030405060708u;
    __asm__ volatile("movq %0, %%mm3\n\tpaddb %%mm3, %%mm3\n\tpshufw $0x1b, %%mm3, %%mm4\n\tmovq %%mm4, %0\n\temms"
                     : "+m"(packed) : : "mm3", "mm4");
    mix(5, packed);
}
