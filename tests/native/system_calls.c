/* System calls in loops: raw and through libc, succeeding and failing; the registers they leave alone. @flags -O1 */
#define _GNU_SOURCE
#include "frame.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

void pass(uint64_t round) {
    char buffer[64];
    for (int i = 0; i < 10; i++) {
        uint64_t got, kept = round * 5 + 3, flags;
        __asm__ volatile("mov %3, %%r12\n\tcmp $2, %%r12\n\tsyscall\n\tpushfq\n\tpop %2\n\tmov %%r12, %1"
                         : "=a"(got), "=&r"(kept), "=&r"(flags) : "r"(kept), "0"(SYS_getppid) : "rcx", "r11", "r12", "memory", "cc");
        mix(0, got > 0), mix(1, kept), mix(2, flags & ARITHMETIC_FLAGS);
        uint64_t next, after, here;
        __asm__ volatile("lea 1f(%%rip), %2\n\tsyscall\n1:\tmov %%rcx, %1" : "=a"(got), "=&r"(next), "=&r"(here)
                         : "0"(-1L) : "rcx", "r11", "memory", "cc");
        after = next - here; /* RCX is the address behind syscall: the program's own address */
        mix(3, got), mix(4, after);
        int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        mix(5, (uint64_t)read(fd, buffer, (size_t)i * 5));
        struct iovec parts[2] = {{buffer, 7}, {buffer + 20, 9}};
        mix(6, (uint64_t)readv(fd, parts, 2));
        mix(7, (uint64_t)close(fd));
        errno = 0;
        mix(8, (uint64_t)close(fd)), mix(9, (uint64_t)errno);
        int ends[2];
        if (pipe2(ends, O_CLOEXEC)) return;
        mix(10, (uint64_t)write(ends[1], "abcdef", 6));
        memset(buffer, 0, sizeof buffer);
        mix(11, (uint64_t)read(ends[0], buffer, 64));
        mix(12, (uint64_t)buffer[3]);
        close(ends[0]), close(ends[1]);
        mix(13, (uint64_t)open("/nonexistent/file", O_RDONLY)), mix(14, (uint64_t)errno);
    }
}
