/* Limits its own address space (address_space BYTES RESOURCE: as or data) and allocates 64 MiB in pieces and in one. Prints what could be had. */
#include "surroundings.h"
int main(int argc, char **argv) {
    char word[64];
    snprintf(word, sizeof word, "%s=%s", argc > 2 ? argv[2] : "as", argv[1]);
    if (surround(word)) { perror(word); return 2; }
    void *whole = malloc(64 << 20);
    printf("malloc 64 MiB %s\n", whole ? "ok" : strerror(errno));
    free(whole);
    int pieces = 0;
    for (; pieces < 64; pieces++) {
        char *piece = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED) break;
        piece[4096] = 1;
    }
    printf("pieces %d\n", pieces);
    return 0;
}
