// A preloaded library whose read throws for one descriptor: the exception crosses every hook before it.
#include <sys/syscall.h>
#include <unistd.h>

extern "C" ssize_t read(int descriptor, void *buffer, size_t count) {
    if (descriptor == -77) throw 7;
    return syscall(SYS_read, descriptor, buffer, count);
}
