/* Computes and makes system calls for argv[1] milliseconds, then prints a line that depends on no clock.
   @alone @flags -O1 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long milliseconds = argc > 1 ? atol(argv[1]) : 1000;
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    /* Says that main is reached: a parent may wait for it before it disturbs anything. */
    if (write(2, "working\n", 8) != 8) return 1;
    uint64_t wrong = 0;
    do {
        uint64_t a = 2;
        for (int i = 0; i < 20000; i++) a = a * a % 1000003;
        wrong += a == 0;
        char buffer[512];
        int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        wrong += read(fd, buffer, sizeof buffer) != sizeof buffer;
        for (unsigned i = 0; i < sizeof buffer; i++) wrong += buffer[i] != 0;
        wrong += close(fd) != 0;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < milliseconds);
    printf("done, %llu wrong\n", (unsigned long long)wrong);
    return 0;
}
