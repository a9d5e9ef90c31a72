/* Threads and processes made and ended in the way that argv[1] names. @alone @flags -O1 -pthread */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_VM
#define CLONE_VM 0x100
#endif

static atomic_int ready, cleaned, asked;
static volatile uint64_t spent;

static uint64_t mill(uint64_t seed, long rounds) {
    for (long i = 0; i < rounds; i++) seed = (seed ^ (seed >> 29)) * 6364136223846793005u + 1;
    return seed;
}

static int ended(pid_t pid) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void *wait_here(void *argument) {
    atomic_fetch_add(&ready, 1);
    for (;;) pause();
    return argument;
}

static void *end_everything(void *argument) {
    while (atomic_load(&ready) < 3) sched_yield();
    spent = mill((uint64_t)argument, 100000);
    fflush(stdout);
    syscall(SYS_exit_group, 41);
    return NULL;
}

static void *execute(void *argument) {
    while (atomic_load(&ready) < 3) sched_yield();
    fflush(stdout);
    char *shell[] = {"sh", "-c", "echo executed by a thread; exit 42", NULL};
    execv("/bin/sh", shell);
    return argument;
}

static void *fail_to_execute(void *argument) {
    char *nothing[] = {"nothing", NULL};
    execv("/nonexistent/program", nothing);
    *(int *)argument = errno;
    return NULL;
}

static void on_cancel(void *argument) { atomic_fetch_add(&cleaned, (int)(intptr_t)argument); }

static void *cancelled_while_it_works(void *argument) {
    int old;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    pthread_cleanup_push(on_cancel, (void *)1);
    atomic_fetch_add(&ready, 1);
    for (volatile uint64_t i = 0;; i = mill(i, 10)) {}
    pthread_cleanup_pop(0);
    return argument;
}

static void *cancelled_while_it_reads(void *argument) {
    char byte;
    pthread_cleanup_push(on_cancel, (void *)100);
    atomic_fetch_add(&ready, 1);
    ssize_t got = read(*(int *)argument, &byte, 1);
    (void)got;
    pthread_cleanup_pop(0);
    return argument;
}

static void *cancelled_late(void *argument) {
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_cleanup_push(on_cancel, (void *)10000);
    atomic_fetch_add(&ready, 1);
    while (!atomic_load(&asked)) spent = mill(1, 100000);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    pthread_testcancel();
    pthread_cleanup_pop(0);
    return argument;
}

static void *fork_inside(void *argument) {
    uint64_t sum = 0;
    for (int i = 0; i < 10; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            uint64_t value = mill((uint64_t)argument, 20000);
            _exit((int)(value & 63));
        }
        sum = sum * 131 + (uint64_t)ended(pid);
    }
    return (void *)sum;
}

/* --- threads that no library knows: their own stack, and thread-local storage of their own or none --- */

struct raw {
    uint64_t fs[16]; /* what FS points at: not a libc control block */
    uint64_t result, own_word;
    atomic_int done;
    int gone;
    char stack[32768] __attribute__((aligned(16)));
};

__attribute__((noinline, used)) static int raw_work(struct raw *own) {
    uint64_t word;
    __asm__ volatile("mov %%fs:8, %0" : "=r"(word));
    own->own_word = word;
    own->result = mill(word, 100000);
    static const char text[] = "";
    own->result += (uint64_t)(syscall(SYS_write, 1, text, 0) == 0);
    atomic_store(&own->done, 1);
    return 0;
}

/* clone3, or clone with the same arguments; the child calls raw_work and exits. */
static long start_raw(struct clone_args *how, struct raw *own, int old_call) {
    long result;
    uint64_t top = how->stack + how->stack_size;
    if (!old_call) {
        __asm__ volatile("mov %3, %%r12\n\tsyscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\t"
                         "mov %%r12, %%rdi\n\tcall raw_work\n\txor %%edi, %%edi\n\tmov %4, %%eax\n\tsyscall\n\tud2\n1:"
                         : "=a"(result) : "0"(SYS_clone3), "D"(how), "r"(own), "i"(SYS_exit), "S"(sizeof *how)
                         : "rcx", "r11", "r12", "memory");
        return result;
    }
    register uint64_t r10 __asm__("r10") = how->child_tid;
    register uint64_t r8 __asm__("r8") = how->tls;
    __asm__ volatile("mov %6, %%r12\n\tsyscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\t"
                     "mov %%r12, %%rdi\n\tcall raw_work\n\txor %%edi, %%edi\n\tmov %7, %%eax\n\tsyscall\n\tud2\n1:"
                     : "=a"(result)
                     : "0"(SYS_clone), "D"(how->flags), "S"(top), "d"(0), "r"(r10), "r"(own), "i"(SYS_exit), "r"(r8)
                     : "rcx", "r11", "r12", "memory");
    return result;
}

static void raw_threads(void) {
    enum { COUNT = 12 };
    static struct raw threads[COUNT];
    const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    int started = 0, right = 0, own_words = 0;
    for (int i = 0; i < COUNT; i++) {
        struct raw *own = &threads[i];
        own->gone = 1;
        own->fs[8] = (uint64_t)&own->fs[8];
        own->fs[9] = 1000 + (uint64_t)i;
        struct clone_args how = {.flags = flags | CLONE_CHILD_CLEARTID | (i % 3 ? CLONE_SETTLS : 0),
                                 .child_tid = (uint64_t)&own->gone,
                                 .stack = (uint64_t)own->stack,
                                 .stack_size = sizeof own->stack,
                                 .tls = (uint64_t)&own->fs[8]};
        started += start_raw(&how, own, i & 1) > 0;
    }
    for (int i = 0; i < COUNT; i++) {
        struct raw *own = &threads[i];
        while (*(volatile int *)&own->gone) sched_yield();
        right += own->result == mill(own->own_word, 100000) + 1;
        own_words += i % 3 == 0 || own->own_word == 1000 + (uint64_t)i;
    }
    printf("raw threads: %d started, %d right, %d with their own words\n", started, right, own_words);
}

static void *last_one(void *argument) {
    usleep(2000);
    printf("the last thread %d\n", (int)(intptr_t)argument);
    exit(43);
}

static void *hundredth(void *argument) { return (void *)mill((uint64_t)argument, 1000); }

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    pthread_t threads[256];
    if (!strcmp(way, "exit-group")) {
        for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, wait_here, NULL);
        pthread_create(&threads[3], NULL, end_everything, NULL);
        for (;;) pause();
    } else if (!strcmp(way, "exec")) {
        for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, wait_here, NULL);
        pthread_create(&threads[3], NULL, execute, NULL);
        for (;;) pause();
    } else if (!strcmp(way, "failed-exec")) {
        int error = 0;
        pthread_create(&threads[0], NULL, fail_to_execute, &error);
        pthread_join(threads[0], NULL);
        printf("failed to execute: %d\n", error == ENOENT);
    } else if (!strcmp(way, "cancel")) {
        int pipes[2];
        if (pipe(pipes)) return 1;
        for (int round = 0; round < 20; round++) {
            atomic_store(&ready, 0), atomic_store(&asked, 0);
            pthread_create(&threads[0], NULL, cancelled_while_it_works, NULL);
            pthread_create(&threads[1], NULL, cancelled_while_it_reads, pipes);
            pthread_create(&threads[2], NULL, cancelled_late, NULL);
            while (atomic_load(&ready) < 3) sched_yield();
            int cancelled = 0;
            for (int i = 0; i < 3; i++) pthread_cancel(threads[i]);
            atomic_store(&asked, 1);
            for (int i = 0; i < 3; i++) {
                void *result;
                pthread_join(threads[i], &result);
                cancelled += result == PTHREAD_CANCELED;
            }
            if (cancelled != 3) printf("only %d\n", cancelled);
        }
        printf("cancelled: %d\n", atomic_load(&cleaned));
    } else if (!strcmp(way, "fork")) {
        uint64_t all = 0;
        for (intptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, fork_inside, (void *)(i + 1));
        for (int i = 0; i < 4; i++) {
            void *result;
            pthread_join(threads[i], &result);
            all = all * 31 + (uint64_t)result;
        }
        printf("forked by threads: %lx\n", all);
    } else if (!strcmp(way, "daemon")) {
        int pipes[2];
        if (pipe(pipes)) return 1;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            if (fork() != 0) _exit(0);
            prctl(PR_SET_NAME, "daemon");
            uint64_t value = mill(7, 100000);
            if (write(pipes[1], &value, sizeof value) != sizeof value) _exit(1);
            _exit(0);
        }
        int status = ended(pid);
        uint64_t value = 0;
        close(pipes[1]);
        ssize_t got = read(pipes[0], &value, sizeof value), end = read(pipes[0], &value, 1);
        printf("daemon: %d, %zd, %lx, %zd\n", status, got, value, end);
    } else if (!strcmp(way, "raw")) {
        raw_threads();
    } else if (!strcmp(way, "main-ends")) {
        pthread_create(&threads[0], NULL, last_one, (void *)5);
        pthread_exit(NULL);
    } else if (!strcmp(way, "many")) {
        uint64_t sum = 0;
        for (int round = 0; round < 2; round++) {
            for (intptr_t i = 0; i < 256; i++) pthread_create(&threads[i], NULL, hundredth, (void *)i);
            for (int i = 0; i < 256; i++) {
                void *result;
                pthread_join(threads[i], &result);
                sum += (uint64_t)result;
            }
        }
        printf("many: %lx\n", sum);
    } else if (!strcmp(way, "stop")) {
        int gate[2]; /* it ends after it was seen to continue */
        if (pipe(gate)) return 2;
        pid_t pid = fork();
        if (pid == 0) {
            char byte;
            raise(SIGSTOP);
            if (read(gate[0], &byte, 1) != 1) _exit(100);
            _exit((int)(mill(3, 50000) & 31));
        }
        int status;
        waitpid(pid, &status, WUNTRACED);
        int stopped = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
        kill(pid, SIGCONT);
        waitpid(pid, &status, WCONTINUED);
        if (write(gate[1], "", 1) != 1) return 2;
        printf("stopped by %d, continued %d, ended with %d\n", stopped, WIFCONTINUED(status), ended(pid));
    } else if (!strcmp(way, "core")) {
        const int numbers[] = {SIGSEGV, SIGFPE, SIGTERM, SIGABRT, SIGTRAP, SIGILL};
        for (int i = 0; i < 6; i++) {
            pid_t pid = fork();
            if (pid == 0) {
                if (numbers[i] == SIGSEGV) *(volatile int *)8 = 1;
                else if (numbers[i] == SIGFPE) __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" : : : "eax", "ecx", "edx");
                else if (numbers[i] == SIGTRAP) __asm__ volatile("int3");
                else if (numbers[i] == SIGILL) __asm__ volatile("ud2");
                else raise(numbers[i]);
                _exit(1);
            }
            printf("%d ended with %d\n", numbers[i], ended(pid));
        }
    } else {
        return 2;
    }
    return 0;
}
