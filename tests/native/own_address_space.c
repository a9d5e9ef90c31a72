/* How much address space the program has, in kB: now, and at most.
   With an argument it limits itself to so many bytes and asks for 64 MiB.
   @alone @flags -O1 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

int main(int count, char **arguments) {
    char line[256];
    if (count > 1) {
        rlim_t bytes = strtoul(arguments[1], NULL, 10);
        struct rlimit limit = {bytes, bytes};
        if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
        printf("%s\n", malloc(64 << 20) ? "has 64 MiB" : "refused");
        return 0;
    }
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, "VmSize:", 7) || !strncmp(line, "VmPeak:", 7))
            printf("%.6s %ld\n", line, strtol(line + 7, NULL, 10));
    return 0;
}
