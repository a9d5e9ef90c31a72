/* Code that the program makes and changes itself: by stores, by system calls, through a second mapping, ahead of
 * itself in one basic block. @flags -O1 */
#define _GNU_SOURCE
#include "frame.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t function(uint64_t);

static void *map(void *at, size_t size, int protection, int flags, int fd) {
    void *got = mmap(at, size, protection, flags, fd, 0);
    if (got == MAP_FAILED) abort();
    return got;
}

/* lea rax, [rdi + constant]; ret */
static void write_adder(unsigned char *to, uint32_t constant) {
    static const unsigned char code[] = {0x48, 0x8d, 0x87, 0, 0, 0, 0, 0xc3};
    memcpy(to, code, sizeof code);
    memcpy(to + 3, &constant, 4);
}

/* Writable and executable at once: a store and a call, again and again. */
static void patched_by_stores(unsigned char *page, uint64_t round) {
    for (uint32_t i = 0; i < 40; i++) {
        write_adder(page, i * 3 + (uint32_t)round);
        mix(0, ((function *)page)(i));
    }
    /* One byte of an instruction in the middle of a longer block, the length of another one. */
    unsigned char block[] = {0x48, 0x89, 0xf8,             /* mov rax, rdi */
                             0x48, 0x83, 0xc0, 0,          /* add rax, imm8 */
                             0x48, 0xc1, 0xc0, 0,          /* rol rax, imm8 */
                             0x48, 0x35, 0, 0, 0, 0,       /* xor rax, imm32 */
                             0x90, 0xc3};
    memcpy(page + 100, block, sizeof block);
    for (unsigned i = 0; i < 40; i++) {
        page[106] = (unsigned char)(i & 0x7f);
        page[110] = (unsigned char)(i & 31);
        page[117] = i & 1 ? 0x90 : 0xc3;
        mix(1, ((function *)(page + 100))(i + round));
    }
}

/* A store whose target is the very next instruction: mov byte [rip+1], sil; mov eax, imm32; ret. And a STOSB that
 * writes ahead of itself: the next byte to be executed. */
static void patched_ahead(unsigned char *page) {
    static const unsigned char code[] = {0x40, 0x88, 0x35, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
    memcpy(page + 200, code, sizeof code);
    for (uint64_t i = 0; i < 30; i++) mix(2, ((uint64_t(*)(uint64_t, uint64_t))(page + 200))(0, i));
    /* mov al, sil; lea rdi, [rip+1]; stosb; (byte written: nop, clc or stc); setc al; movzx eax, al; ret */
    static const unsigned char ahead[] = {0x40, 0x88, 0xf0, 0x48, 0x8d, 0x3d, 1, 0, 0, 0, 0xaa,
                                          0x90, 0x0f, 0x92, 0xc0, 0x0f, 0xb6, 0xc0, 0xc3};
    memcpy(page + 300, ahead, sizeof ahead);
    static const unsigned char written[] = {0x90, 0xf8, 0xf9};
    for (uint64_t i = 0; i < 30; i++)
        mix(3, ((uint64_t(*)(uint64_t, uint64_t))(page + 300))(0, written[i % 3]));
}

/* Flags and all registers pass through the entry of changing code: carry comes in, carry goes out. */
static void flags_across(unsigned char *page) {
    static const unsigned char code[] = {0x48, 0x83, 0xd7, 5, 0x48, 0x89, 0xf8, 0xc3}; /* adc rdi, 5; mov rax, rdi; ret */
    memcpy(page + 400, code, sizeof code);
    for (uint64_t i = 0; i < 20; i++) {
        page[403] = (unsigned char)i;
        uint64_t in = i * 0x1111, out, flags;
        __asm__ volatile("bt $0, %3\n\tcall *%4\n\tpushfq\n\tpop %2"
                         : "=a"(out), "+D"(in), "=r"(flags)
                         : "r"(i), "r"(page + 400)
                         : "cc", "memory");
        mix(4, out);
        mix(5, flags & ARITHMETIC_FLAGS);
    }
}

/* Never writable and executable at once, as careful JIT compilers do. */
static void by_protection(uint64_t round) {
    unsigned char *page = map(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (uint32_t i = 0; i < 10; i++) {
        write_adder(page, i * 7 + (uint32_t)round);
        if (mprotect(page, 4096, PROT_READ | PROT_EXEC)) abort();
        mix(6, ((function *)page)(i));
        if (mprotect(page, 4096, PROT_READ | PROT_WRITE)) abort();
    }
    /* Replaced as a whole at the same address; then moved away and back. */
    for (uint32_t i = 0; i < 10; i++) {
        map(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
        write_adder(page, i * 11 + (uint32_t)round);
        if (mprotect(page, 4096, PROT_READ | PROT_EXEC)) abort();
        mix(7, ((function *)page)(i));
    }
    unsigned char *other = map(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    unsigned char *moved = mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, other);
    if (moved != other) abort();
    mix(8, ((function *)moved)(round));
    munmap(moved, 4096);
}

/* Two mappings of one memory, one to write and one to execute. */
static void by_second_mapping(uint64_t round) {
    int fd = memfd_create("code", 0);
    if (fd < 0 || ftruncate(fd, 4096)) abort();
    unsigned char *writable = map(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    unsigned char *code = map(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd);
    for (uint32_t i = 0; i < 20; i++) {
        write_adder(writable + 64, i * 13 + (uint32_t)round);
        mix(9, ((function *)(code + 64))(i));
    }
    munmap(writable, 4096);
    munmap(code, 4096);
    close(fd);
}

/* Loops inside changing code, and a block longer than is compared at once. */
static void longer_code(unsigned char *page, uint64_t round) {
    /* mov rax, rdi; mov ecx, 20; again: (add rax, imm8) x 30; dec ecx; jnz again; ret */
    unsigned char *at = page + 1000, *again;
    memcpy(at, "\x48\x89\xf8\xb9\x14\0\0\0", 8);
    at += 8;
    again = at;
    for (int i = 0; i < 30; i++, at += 4) memcpy(at, (unsigned char[]){0x48, 0x83, 0xc0, (unsigned char)i}, 4);
    memcpy(at, "\xff\xc9\x0f\x85", 4);
    int32_t back = (int32_t)(again - (at + 8));
    memcpy(at + 4, &back, 4);
    at[8] = 0xc3;
    for (unsigned i = 0; i < 10; i++) {
        again[4 * (i * 3) + 3] = (unsigned char)(100 - i);
        mix(10, ((function *)(page + 1000))(round));
    }
}

void pass(uint64_t round) {
    unsigned char *page =
        map(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    patched_by_stores(page, round);
    patched_ahead(page);
    flags_across(page);
    by_protection(round);
    by_second_mapping(round);
    longer_code(page, round);
    munmap(page, 8192);
}
