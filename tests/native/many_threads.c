/* So many threads at one time, then as many short ones, one after the other.
   @alone @flags -O1 -pthread */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_barrier_t all_here;

static void *together(void *argument) {
    volatile long sum = 0;
    for (int i = 0; i < 1000; i++) sum += i;
    pthread_barrier_wait(&all_here);
    return argument;
}

static void *alone(void *argument) { return argument; }

int main(int count, char **arguments) {
    int threads = count > 1 ? atoi(arguments[1]) : 100;
    long sum = 0;
    void *result;
    pthread_t *ids = calloc(threads, sizeof *ids);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    pthread_barrier_init(&all_here, NULL, threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], &small, together, NULL) != 0) return 1;
    pthread_barrier_wait(&all_here);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    for (int i = 0; i < threads; i++) {
        if (pthread_create(ids, &small, alone, (void *)1L) != 0) return 1;
        pthread_join(*ids, &result);
        sum += (long)result;
    }
    printf("%d together, %ld in turn\n", threads, sum);
    return 0;
}
