/* Patches a function and calls it, 12,000 times. @alone @flags -O1 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int main(void) {
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 2;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 12000; i++) {
        memcpy(code, (unsigned char[]){0xb8, 0, 0, 0, 0, 0xc3}, 6); /* mov eax, imm32; ret */
        memcpy(code + 1, &i, 4);
        sum = sum * 31 + ((uint32_t(*)(void))code)();
    }
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}
