/* What a program finds in /proc/self must be its own: name, arguments, environment, descriptors, signals, limits.
   Mappings and threads may show those of the library. @alone @flags -O1 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void show(const char *path, const char *start) {
    FILE *file = fopen(path, "r");
    char line[4096];
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, start, strlen(start))) fputs(line, stdout);
    if (file) fclose(file);
}

static int descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int number = 0;
    while (readdir(directory)) number++;
    closedir(directory);
    return number;
}

static void on_signal(int number) { (void)number; }

int main(int argc, char **argv) {
    char text[4096];
    ssize_t length = readlink("/proc/self/exe", text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    printf("exe is argv[0]: %d, %d arguments\n", !strcmp(text, argv[0]), argc);
    int file = open("/proc/self/cmdline", O_RDONLY);
    length = read(file, text, sizeof text);
    printf("cmdline %zd: %d, lowest descriptor %d\n", length - (ssize_t)strlen(argv[0]), !strcmp(text, argv[0]), file);
    close(file);
    show("/proc/self/status", "Name:");
    show("/proc/self/status", "TracerPid:");
    show("/proc/self/status", "SigIgn:");
    show("/proc/self/status", "SigBlk:");
    show("/proc/self/status", "SigCgt:");
    show("/proc/self/status", "SigPnd:");
    show("/proc/self/status", "Seccomp:");
    signal(SIGUSR1, on_signal);
    signal(SIGPIPE, SIG_IGN);
    raise(SIGUSR1);
    show("/proc/self/status", "SigIgn:");
    show("/proc/self/status", "SigCgt:");
    show("/proc/self/status", "SigBlk:");
    printf("%d descriptors, umask %o\n", descriptors(), umask(022));
    show("/proc/self/limits", "Max open files");
    show("/proc/self/limits", "Max locked memory");
    printf("page %lu, clock ticks %lu, secure %lu\n", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK), getauxval(AT_SECURE));
    printf("entry in this program: %d\n", getauxval(AT_ENTRY) != 0 && (char *)getauxval(AT_EXECFN) != NULL);
    struct rlimit stack;
    getrlimit(RLIMIT_STACK, &stack);
    printf("stack %lu, priority %d\n", (unsigned long)stack.rlim_cur, getpriority(PRIO_PROCESS, 0));
    FILE *maps = fopen("/proc/self/maps", "r");
    int found = 0;
    while (fgets(text, sizeof text, maps)) {
        unsigned long from, to;
        char permissions[5];
        if (sscanf(text, "%lx-%lx %4s", &from, &to, permissions) == 3 && (unsigned long)main >= from && (unsigned long)main < to)
            found += !strcmp(permissions, "r-xp") && strstr(text, argv[0]) != NULL;
    }
    fclose(maps);
    printf("own code found once: %d\n", found == 1);
    return 0;
}
