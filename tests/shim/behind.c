/* Input and output that the kernel carries out behind a call: behind MODE, in the current directory. Exit code 3: there is no io_uring here.
 * The file "data" has 64 KiB. A ring's requests have a user_data each. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 16 };
/* IORING_SETUP_NO_MMAP of newer headers, where resv2 is called user_addr. */
#define NO_MMAP (1U << 14)
static char memory[BLOCK * BLOCKS];
static int ring;
static unsigned *sq_head, *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static unsigned long keys;

#define MUST(holds) \
    do { \
        if (!(holds)) { \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #holds, strerror(errno)); \
            exit(1); \
        } \
    } while (0)

static void make(unsigned flags) {
    struct io_uring_params p = {.flags = flags, .sq_thread_idle = 20};
    void *rings = NULL;
    if (flags & NO_MMAP) {
        rings = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        sqes = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        p.cq_off.resv2 = (unsigned long)rings;
        p.sq_off.resv2 = (unsigned long)sqes;
    }
    ring = (int)syscall(SYS_io_uring_setup, 8, &p);
    if (ring < 0) exit(3);
    if (!rings) {
        unsigned long sq = p.sq_off.array + p.sq_entries * 4, cq = p.cq_off.cqes + p.cq_entries * sizeof *cqes;
        rings = mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
        sqes = mmap(NULL, p.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    }
    MUST(rings != MAP_FAILED && sqes != MAP_FAILED);
    char *at = rings;
    sq_head = (unsigned *)(at + p.sq_off.head), sq_tail = (unsigned *)(at + p.sq_off.tail);
    sq_mask = (unsigned *)(at + p.sq_off.ring_mask), sq_array = (unsigned *)(at + p.sq_off.array);
    cq_head = (unsigned *)(at + p.cq_off.head), cq_tail = (unsigned *)(at + p.cq_off.tail);
    cq_mask = (unsigned *)(at + p.cq_off.ring_mask), cqes = (struct io_uring_cqe *)(at + p.cq_off.cqes);
}

static struct io_uring_sqe *put(int op, int fd, const void *address, unsigned length, long offset) {
    unsigned tail = *sq_tail, at = tail & *sq_mask;
    struct io_uring_sqe *s = &sqes[at];
    memset(s, 0, sizeof *s);
    s->opcode = op, s->fd = fd, s->addr = (unsigned long)address, s->len = length, s->off = offset;
    s->user_data = ++keys;
    sq_array[at] = at;
    atomic_store((_Atomic unsigned *)sq_tail, tail + 1);
    return s;
}

static int enter(unsigned submit, unsigned wait) {
    return (int)syscall(SYS_io_uring_enter, ring, submit, wait, wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
}

/* The result of the next completion, which is there or comes by itself. */
static long next(void) {
    while (*cq_head == atomic_load((_Atomic unsigned *)cq_tail)) enter(0, 1);
    long result = cqes[*cq_head & *cq_mask].res;
    atomic_store((_Atomic unsigned *)cq_head, *cq_head + 1);
    return result;
}

static long one(void) {
    MUST(enter(1, 1) == 1);
    return next();
}

static int data_file(void) {
    int fd = open("data", O_RDWR);
    MUST(fd >= 0);
    return fd;
}

/* Reads all of the file, by so many requests at a time, and takes the results out of memory when all are there. */
static void reads(void) {
    int fd = data_file();
    for (int round = 0; round < BLOCKS / 8; round++) {
        for (int i = 0; i < 8; i++) put(IORING_OP_READ, fd, memory + i * BLOCK, BLOCK, (round * 8L + i) * BLOCK);
        MUST(enter(8, 8) == 8);
        for (int i = 0; i < 8; i++) MUST(next() == BLOCK);
    }
}

static void fixed(void) {
    int fds[3] = {data_file(), -1, -1};
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds + 1) == 0);
    MUST(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, fds, 3) == 0);
    put(IORING_OP_WRITE, 0, memory, 1000, 0)->flags = IOSQE_FIXED_FILE;
    MUST(one() == 1000);
    put(IORING_OP_SEND, 1, memory, 100, 0)->flags = IOSQE_FIXED_FILE;
    MUST(one() == 100);
    put(IORING_OP_RECV, 2, memory, 4096, 0)->flags = IOSQE_FIXED_FILE;
    MUST(one() == 100);
}

static void opens(void) {
    put(IORING_OP_OPENAT, AT_FDCWD, "data", 0, 0)->open_flags = O_RDONLY;
    int fd = (int)one();
    MUST(fd >= 0);
    put(IORING_OP_OPENAT, AT_FDCWD, "nothing", 0, 0)->open_flags = O_RDONLY;
    MUST(one() == -ENOENT);
    MUST(read(fd, memory, 10) == 10);
    put(IORING_OP_CLOSE, fd, NULL, 0, 0);
    MUST(one() == 0);
    put(IORING_OP_READ, fd, memory, 10, 0);
    MUST(one() == -EBADF);
    /* The number is given out again, to something else. */
    int ends[2];
    MUST(pipe(ends) == 0 && ends[0] == fd);
    MUST(write(ends[1], memory, 7) == 7 && read(fd, memory, 10) == 7);
}

static void multishot(void) {
    int fds[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    struct io_uring_sqe *s = put(IORING_OP_PROVIDE_BUFFERS, 8, memory, BLOCK, 0);
    s->buf_group = 1;
    MUST(one() >= 0);
    s = put(IORING_OP_RECV, fds[0], NULL, 0, 0);
    s->ioprio = IORING_RECV_MULTISHOT, s->flags = IOSQE_BUFFER_SELECT, s->buf_group = 1;
    MUST(enter(1, 0) == 1);
    for (int i = 0; i < 5; i++) {
        MUST(send(fds[1], memory, 100, 0) == 100);
        MUST(next() == 100);
    }
    close(fds[1]);
    MUST(next() == 0);
}

static void splices(void) {
    int ends[2];
    MUST(pipe(ends) == 0);
    struct io_uring_sqe *s = put(IORING_OP_SPLICE, ends[1], NULL, 3000, -1);
    s->splice_fd_in = data_file(), s->splice_off_in = 0;
    MUST(one() == 3000);
}

/* A request that the kernel does not take at once: it is counted when it does. */
static void late(void) {
    int fd = data_file();
    put(IORING_OP_READ, fd, memory, BLOCK, 0);
    put(IORING_OP_READ, fd, memory, BLOCK, BLOCK);
    MUST(enter(1, 1) == 1 && next() == BLOCK);
    MUST(*sq_tail - atomic_load((_Atomic unsigned *)sq_head) == 1);
    /* It is another one by then. */
    sqes[(*sq_tail - 1) & *sq_mask].len = 100;
    MUST(enter(1, 1) == 1 && next() == 100);
}

/* The results come while nobody is in the kernel, and are taken out of memory. */
static void unwaited(void) {
    int ends[2];
    MUST(pipe(ends) == 0);
    put(IORING_OP_READ, ends[0], memory, 500, -1);
    MUST(enter(1, 0) == 1);
    MUST(write(ends[1], memory, 300) == 300);
    while (*cq_head == atomic_load((_Atomic unsigned *)cq_tail)) usleep(1000);
    MUST(cqes[*cq_head & *cq_mask].res == 300);
}

static void child(void) {
    pid_t pid = fork();
    if (pid == 0) {
        int fd = data_file();
        put(IORING_OP_READ, fd, memory, BLOCK, 0);
        MUST(one() == BLOCK);
        exit(0);
    }
    int status;
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

static void submits(aio_context_t context, int op, int fd, int first, int count) {
    static struct iocb all[8];
    struct iocb *list[8];
    for (int i = 0; i < count; i++) {
        all[i] = (struct iocb){.aio_fildes = fd, .aio_lio_opcode = op, .aio_buf = (unsigned long)memory,
                               .aio_nbytes = BLOCK, .aio_offset = (first + i) * (long)BLOCK};
        list[i] = &all[i];
    }
    MUST(syscall(SYS_io_submit, context, count, list) == count);
}

/* The number of results that are there, taken out of the context's memory without a call. */
static unsigned taken(aio_context_t context) {
    struct { unsigned id, nr, head, tail; } *ring = (void *)context;
    unsigned count = (atomic_load((_Atomic unsigned *)&ring->tail) + ring->nr - ring->head) % ring->nr;
    ring->head = (ring->head + count) % ring->nr;
    return count;
}

static void aio(int by_memory) {
    aio_context_t context = 0;
    int fd = data_file();
    MUST(syscall(SYS_io_setup, 8, &context) == 0);
    for (int round = 0; round < 100; round++) {
        submits(context, round % 2 ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD, fd, round % 4, 4);
        struct io_event events[4];
        for (unsigned left = 4; left > 0;)
            left -= by_memory ? taken(context) : (unsigned)syscall(SYS_io_getevents, context, 1, left, events, NULL);
    }
    /* Of these the first is taken, the second is none. */
    struct iocb good = {.aio_fildes = fd, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (unsigned long)memory, .aio_nbytes = 10};
    struct iocb bad = good;
    bad.aio_fildes = 9999;
    struct iocb *list[] = {&good, &bad};
    MUST(syscall(SYS_io_submit, context, 2, list) == 1);
    MUST(syscall(SYS_io_destroy, context) == 0);
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    if (!strncmp(mode, "aio", 3)) {
        aio(!strcmp(mode, "aio-memory"));
        return 0;
    }
    make(!strcmp(mode, "polled") ? IORING_SETUP_SQPOLL : !strcmp(mode, "own-memory") ? NO_MMAP : 0);
    if (!strcmp(mode, "reads") || !strcmp(mode, "own-memory")) reads();
    else if (!strcmp(mode, "registered")) {
        struct io_uring_rsrc_update update = {.offset = -1U, .data = ring};
        MUST(syscall(SYS_io_uring_register, ring, IORING_REGISTER_RING_FDS, &update, 1) == 1);
        int fd = data_file();
        close(ring);
        put(IORING_OP_READ, fd, memory, BLOCK, 0);
        MUST(syscall(SYS_io_uring_enter, update.offset, 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING, NULL, 0) == 1);
        MUST(cqes[*cq_head & *cq_mask].res == BLOCK);
    } else if (!strcmp(mode, "fixed")) fixed();
    else if (!strcmp(mode, "opens")) opens();
    else if (!strcmp(mode, "multishot")) multishot();
    else if (!strcmp(mode, "splices")) splices();
    else if (!strcmp(mode, "late")) late();
    else if (!strcmp(mode, "unwaited")) unwaited();
    else if (!strcmp(mode, "child")) child();
    else if (!strcmp(mode, "silent")) {
        put(IORING_OP_READ, data_file(), memory, BLOCK, 0)->flags = IOSQE_CQE_SKIP_SUCCESS;
        MUST(enter(1, 0) == 1);
    } else if (!strcmp(mode, "polled")) {
        put(IORING_OP_READ, data_file(), memory, BLOCK, 0);
        syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, NULL, 0);
    } else if (!strcmp(mode, "same-key")) {
        int fd = data_file(), ends[2];
        MUST(pipe(ends) == 0);
        put(IORING_OP_READ, ends[0], memory, BLOCK, -1)->user_data = 1;
        put(IORING_OP_READ, fd, memory, BLOCK, 0)->user_data = 1;
        MUST(enter(2, 1) == 2 && next() == BLOCK);
    } else if (strcmp(mode, "nothing")) return 2;
    return 0;
}
