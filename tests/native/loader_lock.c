/* One thread comes to new code inside dl_iterate_phdr, holding the loader's lock, while another calls a function that is
   intercepted for the first time. Named java and with the launcher's function, like a JVM.
   @alone @flags -O1 -pthread -rdynamic */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static sem_t inside;
static char text[32];

int JLI_Launch(void) { return 0; }

static int visit(struct dl_phdr_info *info, size_t size, void *data) {
    (void)info, (void)size, (void)data;
    sem_post(&inside);
    usleep(300000);
    snprintf(text, sizeof text, "%.3f %ld", strtod("1.5", NULL), strtol("17", NULL, 8));
    return 1;
}

static void *takes_a_name(void *unused) {
    sem_wait(&inside);
    pthread_setname_np(pthread_self(), "named");
    return unused;
}

int main(void) {
    alarm(30);
    sem_init(&inside, 0, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, takes_a_name, NULL);
    int result = dl_iterate_phdr(visit, NULL);
    pthread_join(thread, NULL);
    printf("%d %s %d\n", result, text, JLI_Launch());
    return 0;
}
