/* A fault or an abort in functions whose names a debugger must find in the core: core_dump WAY. WAY: segv, abort, thread (a second thread's fault). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) int innermost(volatile int *where) { return *where + 1; }
__attribute__((noinline)) int middle(const char *way, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += i;
    if (!strcmp(way, "abort")) abort();
    return innermost((int *)(long)(sum & 0)) + sum;
}
__attribute__((noinline)) void *outermost(void *way) {
    long n = middle(way, 10);
    return (void *)(n + 1);
}
int main(int argc, char **argv) {
    char *way = argc > 1 ? argv[1] : "segv";
    if (!strcmp(way, "thread")) {
        pthread_t thread;
        pthread_create(&thread, 0, outermost, way);
        pthread_join(thread, 0);
        return 1;
    }
    return (long)outermost(way) == 3;
}
