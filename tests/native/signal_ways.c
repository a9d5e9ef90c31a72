/* What a program may do with signals: nesting, masks, SA_NODEFER, SA_RESETHAND, SA_RESTART, values, signalfd, sigwait,
   alternate stacks as small as they may be, long jumps and context switches out of handlers, storms from other threads.
   argv[1]: seconds of timers at 1 kHz. Prints only what must be the same in every run. @alone @flags -O1 -pthread */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int depth, deepest, total, value_sum, code;
static volatile sig_atomic_t mask_seen;

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags, int also_blocked) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    if (also_blocked) sigaddset(&action.sa_mask, also_blocked);
    sigaction(number, &action, NULL);
}

static void nest(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    total++;
    if (++depth > deepest) deepest = depth;
    if (total < 6) raise(number);
    depth--;
}

static void look_at_mask(int number, siginfo_t *info, void *context) {
    (void)info;
    sigset_t now, before = ((ucontext_t *)context)->uc_sigmask;
    sigprocmask(SIG_BLOCK, NULL, &now);
    mask_seen = sigismember(&now, number) | sigismember(&now, SIGUSR2) << 1 | sigismember(&before, number) << 2 |
                sigismember(&before, SIGHUP) << 3;
    sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGWINCH); /* stays blocked afterwards */
}

static void take_value(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    value_sum = value_sum * 7 + info->si_value.sival_int;
    code = info->si_code;
    total++;
}

static void count(int number, siginfo_t *info, void *context) { (void)number, (void)info, (void)context, total++; }

static void masks_and_nesting(void) {
    handle(SIGUSR1, nest, SA_NODEFER, 0);
    raise(SIGUSR1);
    printf("nodefer: %d deep\n", deepest);
    total = depth = deepest = 0;
    handle(SIGUSR1, nest, 0, 0);
    raise(SIGUSR1);
    /* Each raise stays pending until its handler has returned. */
    printf("deferred: %d deep, %d in all\n", deepest, total);
    handle(SIGUSR1, look_at_mask, 0, SIGUSR2);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    sigprocmask(SIG_BLOCK, NULL, &set);
    printf("masks %d, SIGWINCH %d, SIGUSR1 %d\n", mask_seen, sigismember(&set, SIGWINCH), sigismember(&set, SIGUSR1));
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    handle(SIGUSR1, count, SA_RESETHAND, 0);
    total = 0;
    raise(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    printf("one shot: %d, default now: %d\n", total, now.sa_handler == SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    printf("ignored: %d\n", total);
}

static void values(void) {
    handle(SIGRTMIN + 3, take_value, SA_RESTART, 0);
    sigset_t set, old;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, &old);
    total = 0;
    for (int i = 1; i <= 20; i++) sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i});
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("queued: %d signals, values %d, code %d\n", total, value_sum, code);
    for (int i = 1; i <= 2000; i++) sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i});
    printf("one by one: %d signals, values %d\n", total, value_sum);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = 99};
    struct itimerspec when = {{0, 1000000}, {0, 1000000}};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    total = value_sum = 0;
    timer_settime(timer, 0, &when, NULL);
    while (total < 50) {}
    timer_delete(timer);
    printf("timer: code %d\n", code);
}

static void taken_without_a_handler(void) {
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int descriptor = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    struct signalfd_siginfo read_back;
    ssize_t nothing = read(descriptor, &read_back, sizeof read_back);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 17});
    struct pollfd poll_it = {descriptor, POLLIN, 0};
    int ready = poll(&poll_it, 1, 1000);
    ssize_t got = read(descriptor, &read_back, sizeof read_back);
    printf("signalfd: %zd, %d, %zd: signal %d value %d\n", nothing, ready, got, read_back.ssi_signo - SIGRTMIN, read_back.ssi_int);
    raise(SIGUSR2);
    int number = 0;
    sigwait(&set, &number);
    printf("sigwait: %d\n", number == SIGUSR2);
    siginfo_t info;
    struct timespec short_time = {0, 2000000};
    int late = sigtimedwait(&set, &info, &short_time);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 18});
    int taken = sigtimedwait(&set, &info, &short_time);
    printf("sigtimedwait: %d, %d with %d\n", late, taken - SIGRTMIN, info.si_value.sival_int);
    sigset_t none;
    sigemptyset(&none);
    handle(SIGUSR2, count, 0, 0);
    total = 0;
    raise(SIGUSR2);
    int result = sigsuspend(&none);
    printf("sigsuspend: %d %d, %d handled\n", result, errno == EINTR, total);
    raise(SIGUSR2);
    result = pselect(0, NULL, NULL, NULL, NULL, &none);
    printf("pselect: %d %d, %d handled\n", result, errno == EINTR, total);
    raise(SIGUSR2);
    result = ppoll(NULL, 0, NULL, &none);
    printf("ppoll: %d %d, %d handled\n", result, errno == EINTR, total);
    sigprocmask(SIG_SETMASK, &none, NULL);
    close(descriptor);
}

/* --- out of handlers --- */

static sigjmp_buf escape;
static ucontext_t main_context, other_context, handler_context;
static volatile int way, hops;

static void leave(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    if (way == 0) siglongjmp(escape, 1);
    if (way == 1) setcontext(&other_context);
    if (way == 2) hops++, swapcontext(&handler_context, &other_context), hops++;
}

static char coroutine_stack[65536];

static void coroutine(void) {
    for (;;) {
        hops += 100;
        /* The mask of the handler holds here: it came along. */
        if (way == 2) swapcontext(&other_context, &handler_context);
        else swapcontext(&other_context, &main_context);
    }
}

static void out_of_handlers(void) {
    char *alternate = malloc(65536);
    stack_t stack = {.ss_sp = alternate, .ss_size = 65536}, asked;
    for (volatile int on_stack = 0; on_stack < 2; on_stack++) {
        sigaltstack(&stack, NULL);
        handle(SIGUSR1, leave, on_stack ? SA_ONSTACK : 0, 0);
        way = 0;
        volatile int left = 0;
        for (volatile int i = 0; i < 300; i++) {
            if (sigsetjmp(escape, 1)) left++;
            else raise(SIGUSR1);
        }
        sigaltstack(NULL, &asked);
        printf("siglongjmp: %d, stack flags %d\n", left, asked.ss_flags);
    }
    handle(SIGUSR1, leave, 0, 0);
    getcontext(&other_context);
    other_context.uc_stack.ss_sp = coroutine_stack;
    other_context.uc_stack.ss_size = sizeof coroutine_stack;
    other_context.uc_link = NULL;
    makecontext(&other_context, coroutine, 0);
    sigset_t none;
    sigemptyset(&none);
    way = 2, hops = 0;
    for (int i = 0; i < 200; i++) raise(SIGUSR1);
    printf("swapcontext: %d hops\n", hops);
    way = 1, hops = 0;
    for (volatile int i = 0; i < 200; i++) {
        volatile int back = 0;
        getcontext(&main_context);
        if (!back) {
            back = 1;
            raise(SIGUSR1);
        }
        sigprocmask(SIG_SETMASK, &none, NULL);
    }
    printf("setcontext: %d hops\n", hops);
    free(alternate);
    stack = (stack_t){.ss_flags = SS_DISABLE};
    sigaltstack(&stack, NULL);
}

static volatile uintptr_t lowest;

static void on_tiny_stack(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (here < lowest) lowest = here;
    total++;
    if (number == SIGALRM) return;
    stack_t asked, other = {.ss_sp = coroutine_stack, .ss_size = sizeof coroutine_stack};
    syscall(SYS_sigaltstack, NULL, &asked);
    int refused = syscall(SYS_sigaltstack, &other, NULL);
    total += 100 * (asked.ss_flags == SS_ONSTACK) + 1000 * (refused == -1 && errno == EPERM);
}

/* The smallest stack that the kernel takes, with what this handler itself needs, under a page that may not be touched. */
static void tiny_stack(void) {
    size_t size = getauxval(AT_MINSIGSTKSZ) + 768;
    char *pages = mmap(NULL, 5 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t whole = (size + 4095) & ~4095ul;
    mprotect(pages + 4096, whole, PROT_READ | PROT_WRITE);
    stack_t stack = {.ss_sp = pages + 4096, .ss_size = size};
    int result = (int)syscall(SYS_sigaltstack, &stack, NULL); /* found by the loader now, not on that stack */
    handle(SIGUSR1, on_tiny_stack, SA_ONSTACK, 0);
    handle(SIGALRM, on_tiny_stack, SA_ONSTACK | SA_RESTART, SIGUSR1);
    total = 0, lowest = UINTPTR_MAX;
    raise(SIGUSR1);
    printf("tiny stack: %d, %d, on it: %d\n", result, total, lowest - (uintptr_t)stack.ss_sp < size);
    struct itimerval timer = {{0, 300}, {0, 300}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    unsigned long sum = 0;
    for (int round = 0; total < 1200 && round < 2000000; round++)
        for (int i = 0; i < 1000; i++) sum += (unsigned long)(i * round) ^ (unsigned long)getppid() * 0;
    setitimer(ITIMER_REAL, &off, NULL);
    printf("tiny stack under a timer: %d\n", total >= 1200);
    stack = (stack_t){.ss_flags = SS_DISABLE};
    sigaltstack(&stack, NULL);
    munmap(pages, 5 * 4096);
}

/* --- storms --- */

static atomic_int stop, finished;
static atomic_long handled;
static pthread_t targets[3];

static void hit(int number, siginfo_t *info, void *context) { (void)number, (void)info, (void)context, atomic_fetch_add(&handled, 1); }

static void *work(void *argument) {
    uint64_t *result = argument, hash = 1;
    double real = 1.0;
    for (long i = 0; i < 5000; i++) {
        char text[32];
        int length = snprintf(text, sizeof text, "%ld %g", i, real);
        for (int j = 0; j < length; j++) hash = (hash ^ (uint8_t)text[j]) * 1099511628211u;
        real = real * 1.0000001 + 0.5;
        if (i % 64 == 0) free(malloc(i));
        if (i % 500 == 0) {
            int pipes[2];
            char byte = 'x';
            if (pipe(pipes) || write(pipes[1], &byte, 1) != 1 || read(pipes[0], &byte, 1) != 1) hash = 0;
            close(pipes[0]), close(pipes[1]);
        }
    }
    *result = hash;
    return NULL;
}

static void *work_pelted(void *argument) {
    uint64_t first = 0, again;
    for (int round = 0; round == 0 || atomic_load(&handled) < 5000; round++) {
        work(&again);
        if (round == 0) first = again;
        if (again != first) first = 0;
    }
    *(uint64_t *)argument = first;
    atomic_fetch_add(&finished, 1);
    return NULL;
}

static void *pelt(void *argument) {
    (void)argument;
    for (long i = 0; !atomic_load(&stop); i++) {
        pthread_kill(targets[i % 3], i & 1 ? SIGUSR1 : SIGUSR2);
        if (i % 8 == 0) sched_yield();
    }
    return NULL;
}

static void storm(void) {
    handle(SIGUSR1, hit, SA_RESTART, 0);
    handle(SIGUSR2, hit, SA_RESTART | SA_NODEFER, 0);
    uint64_t results[3];
    pthread_t senders[2];
    for (int i = 0; i < 3; i++) pthread_create(&targets[i], NULL, work_pelted, &results[i]);
    for (int i = 0; i < 2; i++) pthread_create(&senders[i], NULL, pelt, NULL);
    /* The threads' numbers stay valid until they are joined. */
    while (atomic_load(&finished) < 3) usleep(1000);
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) pthread_join(senders[i], NULL);
    for (int i = 0; i < 3; i++) pthread_join(targets[i], NULL);
    printf("storm: %lx %d %d\n", results[0], results[0] == results[1], results[1] == results[2]);
}

static void timers(int seconds) {
    total = 0;
    handle(SIGALRM, count, SA_RESTART, 0);
    struct itimerval timer = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
    uint64_t wrong = 0, expected = 0;
    time_t end = time(NULL) + seconds;
    setitimer(ITIMER_REAL, &timer, NULL);
    do {
        uint64_t result = 0;
        work(&result);
        if (!expected) expected = result;
        wrong += result != expected;
        pid_t pid = fork();
        if (pid == 0) _exit(total < 0);
        int status;
        while (waitpid(pid, &status, 0) != pid) {}
        wrong += status != 0;
    } while (time(NULL) < end);
    setitimer(ITIMER_REAL, &off, NULL);
    printf("timers: %ld wrong, %d\n", (long)wrong, total > 0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    masks_and_nesting();
    values();
    taken_without_a_handler();
    out_of_handlers();
    tiny_stack();
    storm();
    timers(argc > 1 ? atoi(argv[1]) : 2);
    return 0;
}
