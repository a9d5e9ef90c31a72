/* Runs a program in surroundings: under WORD... -- PROGRAM ARGS (the words stand in surroundings.h); exit 98: a word is wrong. */
#include "surroundings.h"

int main(int argc, char **argv) {
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--"); i++)
        if (surround(argv[i])) { dprintf(2, "%.40s: %s\n", argv[i], strerror(errno)); return 98; }
    if (i + 1 >= argc) return 98;
    execvp(argv[i + 1], argv + i + 1);
    dprintf(2, "%s: %s\n", argv[i + 1], strerror(errno));
    return 97;
}
