/* Whoever gave up root cannot use it: as uid 12345 tries to make a root-owned file in its directory, by itself and after a fork. Prints "refused" twice. */
#include "surroundings.h"
#include <fcntl.h>
#include <sys/wait.h>
static void attempt(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    printf("%s\n", fd < 0 ? "refused" : "made");
    fflush(stdout);
    if (fd >= 0) { close(fd); unlink(path); }
}
int main(int argc, char **argv) {
    if (argc < 2 || surround("gid=12345") || surround("uid=12345")) return 2;
    attempt(argv[1]);
    int status;
    if (!fork()) { attempt(argv[1]); _exit(0); }
    wait(&status);
    return 0;
}
