/* Four threads that share a counter and a lock-free list head, with work of their own in between. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static _Atomic uint64_t shared;
static unsigned length;

static void *work(void *argument) {
    uint64_t state = (uintptr_t)argument + 88172645463325252u;
    for (uint64_t i = 0; i < 1800000ull * length; i++) {
        for (int j = 0; j < 30; j++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        atomic_fetch_add(&shared, state & 15);
        uint64_t seen = atomic_load(&shared);
        while (!atomic_compare_exchange_weak(&shared, &seen, seen + 1)) {}
    }
    return (void *)state;
}

int main(int argc, char **argv) {
    length = argc > 1 ? (unsigned)atoi(argv[1]) : 1; /* some 0.5 s of CPU time each */
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, (void *)i);
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum ^= (uint64_t)result;
    }
    printf("%llx %d\n", (unsigned long long)sum, shared > 0);
    return 0;
}
