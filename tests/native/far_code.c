/* Code in the middle of a reservation of so many GiB (first argument), as engines of WebAssembly make it, writable (w) or
   not: reads a word by its own address, is changed once, and runs on.
   @alone @flags -O1 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int main(int count, char **arguments) {
    if (count < 3) return 2;
    size_t bytes = strtoul(arguments[1], NULL, 10) << 30;
    int last = arguments[2][0] == 'w' ? PROT_READ | PROT_WRITE | PROT_EXEC : PROT_READ | PROT_EXEC;
    char *all = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return 3;
    unsigned char *page = (unsigned char *)all + bytes / 2;
    /* mov eax, edi; add eax, [rip+5]; test eax, eax; jns +0; ret; the word */
    static const unsigned char code[] = {0x89, 0xf8, 0x03, 0x05, 5, 0, 0, 0, 0x85, 0xc0,
                                         0x79, 0,    0xc3, 40,   0, 0, 0};
    int (*function)(int) = (int (*)(int))page;
    long sum = 0;
    for (int round = 0; round < 2; round++) {
        if (mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0) return 4;
        memcpy(page, code, sizeof code);
        page[13] += round;
        if (mprotect(page, 4096, last) != 0) return 5;
        for (int i = 0; i < 50000; i++) sum += function(2);
    }
    if (last & PROT_WRITE) {
        page[0] = 0x31; /* xor eax, eax, by a store alone */
        page[1] = 0xc0; 
        sum += function(2);
    }
    printf("%ld\n", sum);
    return 0;
}
