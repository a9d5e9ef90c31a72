/* Works in a way that is the same each time: worker threads | signals | children; puts itself first into what $SURROUNDINGS says (surroundings.h),
 * or has a second thread do it ($SURROUNDINGS_BY=thread). Prints sums, exit 0. */
#include "surroundings.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static long work(long n) {
    long sum = n;
    for (long i = 0; i < 200000; i++) sum = sum * 31 + (i ^ n);
    return sum;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;
static void *add(void *n) {
    for (long i = 0; i < 3; i++) {
        long sum = work((long)n + i);
        pthread_mutex_lock(&lock);
        total += sum;
        pthread_mutex_unlock(&lock);
    }
    return n;
}

static volatile sig_atomic_t got;
static volatile long at_signal;
static void handler(int number, siginfo_t *info, void *context) {
    (void)info; (void)context;
    got += number;
    at_signal += work(number);
}

static void *by_thread(void *words) { surround_all(words); return 0; }

static int threads(void) {
    pthread_t made[4];
    for (long i = 0; i < 4; i++)
        if (pthread_create(&made[i], 0, add, (void *)i)) { printf("no thread\n"); return 3; }
    for (int i = 0; i < 4; i++) pthread_join(made[i], 0);
    printf("total %ld\n", total);
    return 0;
}

static int signals(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    int refused = sigaction(SIGUSR1, &action, 0) | sigaction(SIGUSR2, &action, 0) | sigaction(SIGSEGV, &action, 0);
    if (refused) { printf("no handlers\n"); return 3; }
    for (int i = 0; i < 5; i++) { raise(SIGUSR1); raise(SIGUSR2); }
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, 0);
    raise(SIGUSR1);
    printf("blocked %d\n", got);
    sigprocmask(SIG_UNBLOCK, &mask, 0);
    printf("got %d, %ld\n", got, at_signal);
    return 0;
}

static int children(void) {
    long sum = 0;
    for (int i = 0; i < 4; i++) {
        int status = 0;
        fflush(stdout);
        pid_t child = fork();
        if (child < 0) { printf("no child\n"); return 3; }
        if (!child) {
            if (i == 3) { execl("/bin/echo", "echo", "executed", (char *)0); _exit(77); }
            _exit((int)(work(i) & 63));
        }
        if (waitpid(child, &status, 0) < 0) printf("lost\n");
        sum = sum * 100 + (WIFEXITED(status) ? WEXITSTATUS(status) : 64 + WTERMSIG(status));
    }
    printf("children %ld\n", sum);
    return 0;
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "threads", *by = getenv("SURROUNDINGS_BY");
    char *words = getenv("SURROUNDINGS");
    if (words && by) {
        pthread_t thread;
        if (pthread_create(&thread, 0, by_thread, words) || pthread_join(thread, 0)) return 9;
    } else if (words) surround_all(words);
    printf("begins\n");
    if (!strcmp(way, "threads")) return threads();
    return !strcmp(way, "signals") ? signals() : children();
}
