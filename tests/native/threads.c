/* Short threads, atomics, a mutex, ends by return, pthread_exit and cancellation; argv[1] rounds of ten.
   @alone @flags -O1 -pthread */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long hits;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long guarded;
static __thread unsigned long own = 5;

static void *work(void *argument) {
    long n = (long)argument;
    unsigned long hash = n;
    for (int i = 0; i < 20000; i++) {
        hash = hash * 6364136223846793005ul + own;
        if (hash >> 60 == 0) atomic_fetch_add(&hits, 1);
    }
    char *memory = malloc(1000 + n);
    memset(memory, (int)n, 1000 + n);
    pthread_mutex_lock(&mutex);
    guarded += memory[500];
    pthread_mutex_unlock(&mutex);
    free(memory);
    if (n & 1) pthread_exit((void *)hash);
    return (void *)hash;
}

static void *wait_forever(void *argument) {
    for (;;) pause();
    return argument;
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 10;
    unsigned long all = 0;
    for (long round = 0; round < rounds; round++) {
        pthread_t threads[10];
        for (long i = 0; i < 10; i++) pthread_create(&threads[i], NULL, work, (void *)(round * 10 + i));
        for (int i = 0; i < 10; i++) {
            void *hash;
            pthread_join(threads[i], &hash);
            all ^= (unsigned long)hash;
        }
    }
    pthread_t waiting;
    pthread_create(&waiting, NULL, wait_forever, NULL);
    usleep(1000);
    pthread_cancel(waiting);
    void *end;
    pthread_join(waiting, &end);
    printf("%lx %ld %ld %d\n", all, atomic_load(&hits), guarded, end == PTHREAD_CANCELED);
    return 0;
}
