// One thread runs natively (it takes GS, which releases it), one is followed. The first sets handlers and changes code
// for both: what it asks, what handlers see and what runs must be as without the library.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static atomic_int step, seen_inside, seen_outside, others;
static atomic_ulong called;
static int (*volatile patched)(void);
static volatile sig_atomic_t mask_had_usr2;

__attribute__((noinline)) static unsigned long spin(unsigned long n) {
    unsigned long sum = 0;
    for (unsigned long i = 0; i < n; i++) sum += i ^ (sum >> 3);
    return sum;
}

extern char __executable_start, etext;

static void sees(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    char *pc = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    mask_had_usr2 = sigismember(&mask, SIGUSR2);
    if (pc >= &__executable_start && pc < &etext) seen_inside++;
    else seen_outside++;
}

static void other(int signal) {
    (void)signal;
    others++;
}

static void *followed(void *unused) {
    (void)unused;
    unsigned long sum = 0;
    step = 1;
    while (step < 2) sum += spin(1000);
    for (int value = 1; value <= 50; value++) {
        while (step != 2 * value + 1) usleep(100);
        called = patched();
        step = 2 * value + 2;
    }
    return (void *)(sum & 1);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = sees, .sa_flags = SA_SIGINFO | SA_RESTART}, old;
    pthread_t thread;
    pthread_create(&thread, NULL, followed, NULL);
    while (step < 1) usleep(50);
    static char block[4096];
    syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, block);

    sigaddset(&action.sa_mask, SIGUSR2);
    int first = sigaction(SIGUSR1, &action, &old);
    printf("set: %d", first);
    printf(", before: default %d", old.sa_handler == SIG_DFL);
    memset(&old, 1, sizeof old);
    printf(", asked: %d", sigaction(SIGUSR1, NULL, &old));
    printf(", own %d, flags %x, mask %d %d\n", old.sa_sigaction == sees, old.sa_flags & ~0x4000000,
           sigismember(&old.sa_mask, SIGUSR2), sigismember(&old.sa_mask, SIGHUP));
    printf("signal: %d", signal(SIGHUP, other) == SIG_DFL);
    printf(", then own %d", signal(SIGHUP, other) == other);
    int refused[] = {SIGKILL, 65, 32, 0};
    for (int i = 0; i < 4; i++) {
        errno = 0;
        int answer = sigaction(refused[i], &action, NULL);
        printf(", %d: %d %d", refused[i], answer, errno);
    }
    printf("\n");

    for (int i = 0; i < 200; i++) {
        int before = seen_inside + seen_outside;
        pthread_kill(thread, SIGUSR1);
        while (seen_inside + seen_outside == before) usleep(50);
    }
    printf("handler on the followed thread: outside the program %d, mask %d\n", seen_outside, mask_had_usr2);
    raise(SIGHUP);
    pthread_kill(thread, SIGHUP);
    while (others < 2) usleep(50);
    printf("other handler: %d\n", others);
    step = 2;

    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    patched = (int (*)(void))page;
    int wrong = 0;
    for (int value = 1; value <= 50; value++) {
        if (value % 2) mprotect(page, 4096, PROT_READ | PROT_WRITE);
        else mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        char code[] = {(char)0xb8, (char)value, 0, 0, 0, (char)0xc3}; // mov eax, value; ret
        memcpy(page, code, sizeof code);
        mprotect(page, 4096, PROT_READ | PROT_EXEC);
        step = 2 * value + 1;
        while (step != 2 * value + 2) usleep(50);
        wrong += called != (unsigned long)value;
    }
    pthread_join(thread, NULL);
    printf("stale code: %d\n", wrong);
    return 0;
}
