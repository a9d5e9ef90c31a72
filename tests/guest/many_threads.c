/* So many threads at one time, then as many short ones: many_threads N prints "together N" and "in turn N". */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static pthread_barrier_t barrier;
static void *together(void *argument) {
    volatile long x = 0;
    for (int i = 0; i < 1000; i++) x += i;
    pthread_barrier_wait(&barrier);
    return argument;
}
static void *in_turn(void *argument) { return argument; }
int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 100;
    long sum = 0;
    pthread_t *threads = calloc(n, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    pthread_barrier_init(&barrier, 0, n + 1);
    for (int i = 0; i < n; i++) {
        int error = pthread_create(threads + i, &attributes, together, 0);
        if (error) { printf("thread %d: %s\n", i, strerror(error)); return 1; }
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < n; i++) pthread_join(threads[i], 0);
    printf("together %d\n", n);
    for (int i = 0; i < n; i++) {
        void *result;
        pthread_create(threads, &attributes, in_turn, (void *)1L);
        pthread_join(*threads, &result);
        sum += (long)result;
    }
    printf("in turn %ld\n", sum);
    return 0;
}
