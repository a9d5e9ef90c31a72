/* Code made at run time in the middle of a large reservation, as WebAssembly engines do: code_in_reservation GIB MODE prints 42000.
 * MODE: x (made, then executable), w (writable all the time), low, high (at an end of the reservation), many (in 32 places). */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
int main(int argc, char **argv) {
    unsigned long bytes = (argc > 1 ? atol(argv[1]) : 16) << 30, places = 1;
    const char *mode = argc > 2 ? argv[2] : "x";
    char *memory = mmap(0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) { perror("reserve"); return 2; }
    if (!strcmp(mode, "many")) places = 32;
    long sum = 0;
    for (unsigned long k = 0; k < places; k++) {
        char *place = memory + (bytes / (places + 1) * (k + 1) & ~4095ul);
        if (!strcmp(mode, "low")) place = memory + 4096;
        if (!strcmp(mode, "high")) place = memory + bytes - 8192;
        mprotect(place, 4096, PROT_READ | PROT_WRITE);
        memcpy(place, code, sizeof code);
        mprotect(place, 4096, PROT_READ | PROT_EXEC | (*mode == 'w' ? PROT_WRITE : 0));
        for (unsigned long i = 0; i < 1000 / places + (k < 1000 % places); i++) sum += ((int (*)(void))place)();
    }
    printf("%ld\n", sum);
    return 0;
}
