/* The lives of processes and threads, each checked from inside; argv[1] chooses. All writes go to the
   descriptor of /dev/null that main opens first, so a test knows how many calls each life makes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int null;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            dprintf(2, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            abort();                                                              \
        }                                                                         \
    } while (0)

static void writes(int count) {
    for (int i = 0; i < count; i++) CHECK(write(null, "x", 1) == 1);
}

static int exit_code(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void *ten_writes(void *argument) {
    writes(10);
    return argument;
}

/* 1,000 short threads, 8 at a time. */
static void threads(void) {
    for (int round = 0; round < 125; round++) {
        pthread_t thread[8];
        for (int i = 0; i < 8; i++) CHECK(pthread_create(&thread[i], NULL, ten_writes, &null) == 0);
        for (int i = 0; i < 8; i++) {
            void *result;
            CHECK(pthread_join(thread[i], &result) == 0 && result == &null);
        }
    }
}

static int cleaned;
static void clean(void *argument) {
    cleaned += *(int *)argument;
    writes(1);
}

static void *waits_in_read(void *argument) {
    char byte;
    int one = 1;
    pthread_cleanup_push(clean, &one);
    CHECK(read(*(int *)argument, &byte, 1) == 99);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Cancelled while it waits in a hooked call: cleanup handlers run. */
static void cancellation(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        void *result;
        CHECK(pthread_create(&thread, NULL, waits_in_read, &ends[0]) == 0);
        usleep(i % 5 * 1000);
        CHECK(pthread_cancel(thread) == 0);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    CHECK(cleaned == 50);
}

/* A chain of forks, each child ends in another way. */
static void forks(void) {
    writes(5);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        writes(7);
        pid_t grandchild = fork();
        CHECK(grandchild >= 0);
        if (grandchild == 0) {
            writes(11);
            _exit(3);
        }
        CHECK(exit_code(grandchild) == 3);
        writes(1);
        exit(4);
    }
    CHECK(exit_code(child) == 4);
    writes(2);
}

/* fork while other threads count. */
static volatile int stop;
static void *busy(void *argument) {
    while (!stop) writes(1);
    return argument;
}
static void fork_among_threads(void) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&thread[i], NULL, busy, NULL) == 0);
    for (int i = 0; i < 40; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            writes(10);
            if (i % 2) _exit(5);
            exit(5);
        }
        CHECK(exit_code(child) == 5);
    }
    stop = 1;
    for (int i = 0; i < 4; i++) CHECK(pthread_join(thread[i], NULL) == 0);
}

/* A fork that libc does not know of. */
static void raw_fork(void) {
    writes(5);
    pid_t child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    CHECK(child >= 0);
    if (child == 0) {
        writes(9);
        _exit(6);
    }
    CHECK(exit_code(child) == 6);
}

static void vforks(char *self) {
    writes(5);
    for (int i = 0; i < 3; i++) {
        pid_t child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            execl(self, self, "writes", "3", (char *)NULL);
            _exit(99);
        }
        CHECK(exit_code(child) == 0);
    }
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) _exit(8);
    CHECK(exit_code(child) == 8);
    writes(5);
}

static void spawns(char *self) {
    char *arguments[] = {self, "writes", "4", NULL};
    pid_t child;
    CHECK(posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0);
    CHECK(exit_code(child) == 0);
    CHECK(posix_spawn(&child, "/nonexistent", NULL, NULL, arguments, environ) != 0);
    CHECK(system("true") == 0);
    FILE *output = popen("echo out", "r");
    char line[10];
    CHECK(output && fgets(line, sizeof line, output) && strcmp(line, "out\n") == 0);
    CHECK(pclose(output) == 0);
}

/* exec after exec, all in one process number; every form of it. */
static void chain(char *self, int left) {
    char count[12], *arguments[] = {self, "chain", count, NULL};
    sprintf(count, "%d", left - 1);
    writes(left);
    execl("/nonexistent", self, (char *)NULL); /* fails, and counting goes on */
    writes(1);
    switch (left) {
    case 8: execl(self, self, "chain", count, (char *)NULL); break;
    case 7: execv(self, arguments); break;
    case 6: execve(self, arguments, environ); break;
    case 5: execlp(self, self, "chain", count, (char *)NULL); break;
    case 4: execvp(self, arguments); break;
    case 3: execvpe(self, arguments, environ); break;
    case 2: execle(self, self, "chain", count, (char *)NULL, environ); break;
    case 1: fexecve(open(self, O_RDONLY | O_CLOEXEC), arguments, environ); break;
    default: exit(21);
    }
    CHECK(!"exec returns");
}

static volatile sig_atomic_t ticks;
static void on_alarm(int signal) {
    (void)signal;
    int saved = errno;
    writes(1);
    ticks++;
    errno = saved;
}

/* A timer at 2 kHz whose handler makes hooked calls in the middle of others. */
static void signals(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    writes(200000);
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    printf("ticks %d\n", (int)ticks);
}

static sigjmp_buf out;
static void jump(int signal) {
    (void)signal;
    siglongjmp(out, 1);
}

/* Leaves a blocked hooked call by siglongjmp from a handler, again and again. */
static void jumps(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct sigaction action = {.sa_handler = jump};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    for (volatile int i = 0; i < 200; i++) {
        char byte;
        if (sigsetjmp(out, 1) == 0) {
            ualarm(1000, 0);
            (void)!read(ends[0], &byte, 1);
            CHECK(!"read returns");
        }
        writes(1);
    }
}

/* Closes everything that could be open, in each way, then takes the numbers again. */
static void closes(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int last = limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
    for (int fd = 3; fd < last; fd++)
        if (fd != null) close(fd);
    CHECK(open("/dev/null", O_RDWR) >= 3);
    syscall(SYS_close_range, 3, null - 1, 0);
    syscall(SYS_close_range, null + 1, ~0u, 0);
    for (int fd = 3; fd < 1000; fd++)
        if (fd != null) CHECK(dup2(null, fd) == fd);
    writes(100);
    usleep(50000);
    for (int fd = 3; fd < 1000; fd++)
        if (fd != null) {
            char byte = 0;
            CHECK(pread(fd, &byte, 1, 0) == 0);
            CHECK(close(fd) == 0);
        }
    /* The lowest number is the application's, whatever the shim does at the same time. */
    CHECK(close(0) == 0);
    for (int i = 0; i < 20000; i++) {
        CHECK(open("/dev/null", O_RDWR) == 0);
        CHECK(close(0) == 0);
    }
}

static void *raw_exit(void *argument) {
    writes(10);
    /* Past every destructor. The joining thread is woken by the kernel as usual. */
    syscall(SYS_exit, 0);
    return argument;
}

/* Threads that libc never sees end by itself, and a main that leaves first. */
static void *last_one(void *argument) {
    usleep(20000);
    writes(10);
    exit(17);
    return argument;
}
static void main_leaves(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, raw_exit, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, last_one, NULL) == 0);
    pthread_exit(NULL);
}

/* A process whose only thread leaves without ending the process must end all the same. */
static void only_thread_leaves(void) {
    writes(3);
    syscall(SYS_exit, 9);
}

static pthread_key_t key;
static void late(void *argument) {
    writes(1);
    if ((intptr_t)argument > 1) pthread_setspecific(key, (void *)((intptr_t)argument - 1));
}
static void *with_data(void *argument) {
    pthread_setspecific(key, argument);
    writes(1);
    return NULL;
}

/* Destructors of thread data that make hooked calls, up to the last round. */
static void destructors(void) {
    CHECK(pthread_key_create(&key, late) == 0);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, with_data, (void *)(intptr_t)4) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* Only a single-threaded process may make a user namespace. */
static void namespaces(void) {
    writes(1);
    CHECK(unshare(CLONE_NEWUSER) == 0);
    writes(1);
    usleep(50000);
    CHECK(unshare(CLONE_NEWNS) == 0 || errno == EPERM);
    writes(1);
}

/* chroot, privileges and working directory gone, standard streams closed: a daemon. */
static void daemonise(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0) {
        CHECK(exit_code(child) == 0);
        return;
    }
    CHECK(setsid() > 0);
    CHECK(chroot("/proc/self/fdinfo") == 0 && chdir("/") == 0);
    umask(0777);
    for (int fd = 0; fd < 3; fd++) close(fd);
    writes(13);
    usleep(30000);
    writes(13);
    exit(0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strncmp(argv[1], "-agentpath:", 11)) {
        /* Playing a java: the library has put itself in front. */
        argv[1] = argv[0];
        argc--, argv++;
    }
    if (argc < 2) return 2;
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(null >= 0);
    const char *life = argv[1];
    if (!strcmp(life, "writes")) writes(atoi(argv[2]));
    else if (!strcmp(life, "threads")) threads();
    else if (!strcmp(life, "cancellation")) cancellation();
    else if (!strcmp(life, "forks")) forks();
    else if (!strcmp(life, "fork_among_threads")) fork_among_threads();
    else if (!strcmp(life, "raw_fork")) raw_fork();
    else if (!strcmp(life, "vforks")) vforks(argv[0]);
    else if (!strcmp(life, "spawns")) spawns(argv[0]);
    else if (!strcmp(life, "chain")) chain(argv[0], atoi(argv[2]));
    else if (!strcmp(life, "signals")) signals();
    else if (!strcmp(life, "jumps")) jumps();
    else if (!strcmp(life, "closes")) closes();
    else if (!strcmp(life, "main_leaves")) main_leaves();
    else if (!strcmp(life, "only_thread_leaves")) only_thread_leaves();
    else if (!strcmp(life, "destructors")) destructors();
    else if (!strcmp(life, "namespaces")) namespaces();
    else if (!strcmp(life, "daemonise")) daemonise();
    else return 2;
    return 0;
}
