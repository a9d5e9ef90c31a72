/* memcpy and rep movs of 1 MiB, then a pointer chase through 64 MiB. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const unsigned length = argc > 1 ? (unsigned)atoi(argv[1]) : 1; /* some 0.5 s each */
    enum { COPY = 1 << 20, NODES = 1 << 20 };
    char *from = malloc(COPY), *to = malloc(COPY);
    memset(from, 7, COPY);
    for (unsigned i = 0; i < 600 * length; i++) {
        memcpy(to, from, COPY);
        from[i % 1000] ^= to[i % 1000 + 1];
        void *d = to;
        const void *s = from;
        size_t n = COPY;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    }
    struct node { struct node *next; uint64_t value[7]; } *nodes = malloc(NODES * sizeof *nodes);
    uint64_t at = 0;
    for (uint64_t i = 0; i < NODES; i++) {
        uint64_t next = (at + 777767777) % NODES; /* odd and not a multiple of 5: visits every node */
        nodes[at].next = &nodes[next];
        nodes[at].value[0] = i;
        at = next;
    }
    uint64_t sum = 0;
    struct node *node = nodes;
    for (unsigned i = 0; i < 2000000 * length; i++, node = node->next) sum += node->value[0];
    printf("%llu %d\n", (unsigned long long)sum, to[12345]);
    return 0;
}
