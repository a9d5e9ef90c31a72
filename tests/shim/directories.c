/* Reads and writes known numbers of bytes in known directories: directories WORK [many | waits]. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char data[4096];

static void must(int holds, const char *what) {
    if (holds) return;
    perror(what);
    exit(1);
}

static void put(int fd, size_t bytes) { must(write(fd, data, bytes) == (ssize_t)bytes, "write"); }

static int make(const char *path) {
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    must(fd >= 0, path);
    return fd;
}

/* Longer than a place of a file is taken for granted. */
static void wait_a_period(void) { usleep(300 * 1000); }

static void *works(void *name) {
    char path[64];
    snprintf(path, sizeof path, "%s/threads", (const char *)name);
    int fd = make(path);
    for (int i = 0; i < 2000; i++) put(fd, 100);
    for (int i = 0; i < 1000; i++) must(pread(fd, data, 50, i) == 50, "pread");
    close(fd);
    return NULL;
}

static void many(void) {
    for (int i = 0; i < 700; i++) {
        char path[64];
        snprintf(path, sizeof path, "many-%d", i);
        must(mkdir(path, 0700) == 0, path);
        strcat(path, "/file");
        int fd = make(path);
        put(fd, 10);
        close(fd);
    }
}

int main(int count, char **arguments) {
    must(count >= 2 && chdir(arguments[1]) == 0, "chdir");
    if (count > 2 && strcmp(arguments[2], "many") == 0) {
        many();
        return 0;
    }
    const char *names[] = {"a", "b", "c", "token=hidden", "gone"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) must(mkdir(names[i], 0700) == 0, names[i]);
    if (count > 2) {
        int fd = make("a/file"), other = make("b/file");
        put(fd, 100), put(other, 1000), put(fd, 10);
        for (;;) pause();
    }
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, works, (void *)names[i]);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);

    /* By two numbers. */
    int fd = make("a/file"), other = dup(fd);
    put(fd, 1), put(other, 2);
    close(other);
    /* In another directory from now on. */
    must(rename("a/file", "b/file") == 0, "rename");
    wait_a_period();
    put(fd, 4);
    /* Without a name. */
    must(unlink("b/file") == 0, "unlink");
    wait_a_period();
    put(fd, 8);
    close(fd);
    /* The same inode and number may be another file's at once. */
    for (int i = 0; i < 50; i++) {
        fd = make("a/short"), put(fd, 16), close(fd), unlink("a/short");
        fd = make("c/short"), put(fd, 32), close(fd), unlink("c/short");
    }
    /* A directory without a name. */
    fd = make("gone/file");
    must(unlink("gone/file") == 0 && rmdir("gone") == 0, "rmdir");
    put(fd, 64);
    close(fd);
    /* A name that is no one's business. */
    fd = make("token=hidden/file"), put(fd, 128), close(fd);
    /* A file that never had a name, where the file system has such. */
    fd = open("b", O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) put(fd, 256), close(fd);
    printf("%d\n", fd >= 0);
    fflush(stdout);
    /* No directory at all. */
    int ends[2];
    fd = memfd_create("memory", 0);
    must(fd >= 0 && pipe(ends) == 0, "memfd_create");
    put(fd, 512), put(ends[1], 512);
    close(fd);
    /* One half here, one there. */
    fd = open("a/threads", O_RDONLY), other = make("b/copy");
    off_t from = 0;
    must(copy_file_range(fd, &from, other, NULL, 1000, 0) == 1000, "copy_file_range");
    close(fd), close(other);
    /* A process of its own. */
    pid_t child = fork();
    if (child == 0) {
        fd = make("c/child"), put(fd, 1024), close(fd);
        _exit(0);
    }
    must(waitpid(child, NULL, 0) == child, "waitpid");
    return 0;
}
