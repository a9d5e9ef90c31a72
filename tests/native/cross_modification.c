/* One thread patches code that others execute, as the architecture allows it (SDM vol. 3, 9.1.3): an aligned word of
 * an instruction by one store, seen at the latest behind a serialising instruction. The executing threads must see the
 * values in the order in which they were written, and never an older one than was announced. @alone @flags -O1 -pthread */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { READERS = 3, WRITES = 20000 };

static unsigned char *code;
static _Atomic uint32_t announced;
static _Atomic int wrong;

static void serialise(void) {
    uint32_t a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static void *reader(void *unused) {
    uint32_t last = 0;
    do {
        uint32_t at_least = atomic_load(&announced);
        serialise();
        uint32_t seen = ((uint32_t(*)(void))code)();
        if (seen < at_least || seen < last) {
            wrong = 1;
            fprintf(stderr, "saw %u, %u was announced, %u seen before\n", seen, at_least, last);
        }
        last = seen;
    } while (last < WRITES && !wrong);
    return unused;
}

int main(void) {
    code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 2;
    /* nop x 3; mov eax, imm32 (at a multiple of four); ret */
    memcpy(code, "\x90\x90\x90\xb8\0\0\0\0\xc3", 9);
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) pthread_create(&threads[i], 0, reader, 0);
    for (uint32_t i = 1; i <= WRITES; i++) {
        __atomic_store_n((uint32_t *)(code + 4), i, __ATOMIC_SEQ_CST);
        atomic_store(&announced, i);
    }
    for (int i = 0; i < READERS; i++) pthread_join(threads[i], 0);
    puts(wrong ? "stale" : "in order");
    return wrong;
}
