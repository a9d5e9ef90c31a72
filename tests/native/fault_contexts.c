/* Faults of every kind in the middle of blocks: the handler sees all general registers, flags, PC, xmm, ymm, zmm and
   opmask registers as they were at the instruction, and what it changes is there afterwards.
   @alone @flags -O1 -mavx512f -mavx512bw -mavx512dq
   @needs avx512f avx512bw avx512dq */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

extern const char at_store[], after_store[], at_load[], at_divide[], at_undefined[], at_trap[], at_string[], at_push[],
    at_bus[];
extern uint64_t fault_registers[15], fault_vectors[8], fault_flags;
uint64_t fault_registers[15], fault_vectors[8], fault_flags;
static char alternate[65536];
static uint8_t *bad, *truncated;
static unsigned opmask_offset, zmm_offset;
static uint64_t digest = 1469598103934665603u;
static int faults;

static void add(uint64_t value) { digest = (digest ^ value) * 1099511628211u, digest ^= digest >> 31; }

static const char *const places[] = {at_store, at_load, at_divide, at_undefined, at_trap, at_string, at_push, at_bus};

static void handle(int number, siginfo_t *info, void *context) {
    ucontext_t *state = context;
    greg_t *registers = state->uc_mcontext.gregs;
    faults++;
    add((uint64_t)number), add((uint64_t)info->si_code);
    uint64_t pc = (uint64_t)registers[REG_RIP];
    int place = -1;
    for (int i = 0; i < 8; i++)
        if (pc == (uint64_t)places[i] + (places[i] == at_trap)) place = i;
    add((uint64_t)place);
    if ((uint8_t *)info->si_addr - bad >= 0 && (uint8_t *)info->si_addr - bad < 4096) add((uint64_t)((uint8_t *)info->si_addr - bad));
    static const int numbered[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_R8, REG_R9,
                                   REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < 15; i++) {
        uint64_t value = (uint64_t)registers[numbered[i]];
        /* Addresses differ from run to run. */
        if (value - (uint64_t)bad < 128) value -= (uint64_t)bad;
        if (value == (uint64_t)truncated) value = 2;
        if (numbered[i] == REG_RBP) value = 3;
        add(value);
    }
    add((uint64_t)registers[REG_EFL] & 0xcd5);
    struct _libc_fpstate *fp = state->uc_mcontext.fpregs;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 4; j++) add(fp->_xmm[i].element[j]);
    uint8_t *area = (uint8_t *)fp;
    for (int i = 0; i < 16; i++) add(((uint64_t *)(area + 576))[2 * i]); /* upper halves of ymm */
    /* Of these the C library uses some. */
    add(((uint64_t *)(area + opmask_offset))[3]), add(((uint64_t *)(area + opmask_offset))[7]);
    for (int i = 0; i < 8; i++) add(((uint64_t *)(area + zmm_offset))[8 * 4 + i]), add(((uint64_t *)(area + zmm_offset))[8 * 15 + i]);
    /* Everything is changed; the code behind the fault shows it. */
    static const uint8_t length[] = {3, 4, 3, 2, 0, 2, 4, 3};
    for (int i = 0; i < 15; i++)
        if (numbered[i] != REG_RBP) registers[numbered[i]] ^= 0x5a5a0000 + i;
    registers[REG_EFL] ^= 0x8d5;
    fp->_xmm[5].element[1] ^= 0x77;
    ((uint64_t *)(area + 576))[2 * 6] ^= 0x99;
    ((uint64_t *)(area + opmask_offset))[3] ^= 0x3333;
    ((uint64_t *)(area + zmm_offset))[8 * 4 + 1] ^= 0x4444; /* zmm20 */
    if (place == 6) registers[REG_RIP] += length[place], registers[REG_RSP] = registers[REG_RBP];
    else if (place >= 0) registers[REG_RIP] += length[place];
    else _exit(9);
}

/* Fills every register but RSP and RBP, executes `instructions` between other ones, and stores what is left. */
#define FAULT(instructions, address)                                                                                   \
    do {                                                                                                               \
        uint64_t where = (uint64_t)(address);                                                                          \
        __asm__ volatile("push %%rbp\n\tmov %%rsp, %%rbp\n\tsub $256, %%rsp\n\t"                                        \
                         "mov $11, %%eax\n\tmov $12, %%ebx\n\tmov $13, %%ecx\n\tmov $0, %%edx\n\tmov $15, %%esi\n\t"   \
                         "mov $16, %%r8\n\tmov $17, %%r9\n\tmov $18, %%r10\n\tmov $19, %%r11\n\tmov $20, %%r12\n\t"    \
                         "mov $21, %%r13\n\tmov $22, %%r14\n\tmov $23, %%r15\n\t"                                      \
                         "vzeroall\n\tvpbroadcastq %%rbx, %%zmm5\n\tvpbroadcastq %%r12, %%zmm6\n\tvpbroadcastq %%r13, %%zmm20\n\t" \
                         "vpbroadcastq %%r14, %%zmm31\n\tkmovq %%r15, %%k3\n\tkmovq %%r8, %%k7\n\t"                    \
                         "xor %%edx, %%edx\n\tcmp $200, %%eax\n\tinc %%r9\n\tlea 3(%%r10), %%r10\n\tstc\n\t"           \
                         instructions                                                                                  \
                         "pushfq\n\tpop %%rbp\n\tmov %%rbp, fault_flags(%%rip)\n\tlea 256(%%rsp), %%rbp\n\t"           \
                         "mov %%rax, fault_registers(%%rip)\n\tmov %%rbx, 8+fault_registers(%%rip)\n\t"                \
                         "mov %%rcx, 16+fault_registers(%%rip)\n\tmov %%rdx, 24+fault_registers(%%rip)\n\t"            \
                         "mov %%rsi, 32+fault_registers(%%rip)\n\tmov %%r8, 48+fault_registers(%%rip)\n\t"             \
                         "mov %%r9, 56+fault_registers(%%rip)\n\tmov %%r10, 64+fault_registers(%%rip)\n\t"             \
                         "mov %%r11, 72+fault_registers(%%rip)\n\tmov %%r12, 80+fault_registers(%%rip)\n\t"            \
                         "mov %%r13, 88+fault_registers(%%rip)\n\tmov %%r14, 96+fault_registers(%%rip)\n\t"            \
                         "mov %%r15, 104+fault_registers(%%rip)\n\tvmovq %%xmm5, fault_vectors(%%rip)\n\t"             \
                         "vextracti128 $1, %%ymm6, %%xmm6\n\tvmovq %%xmm6, 8+fault_vectors(%%rip)\n\t"                 \
                         "vextracti64x2 $0, %%zmm20, %%xmm7\n\tvpextrq $1, %%xmm7, 16+fault_vectors(%%rip)\n\t"        \
                         "vextracti64x4 $1, %%zmm31, %%ymm7\n\tvmovq %%xmm7, 24+fault_vectors(%%rip)\n\t"              \
                         "kmovq %%k3, 32+fault_vectors(%%rip)\n\tkmovq %%k7, 40+fault_vectors(%%rip)\n\t"              \
                         "vzeroupper\n\tlea 256(%%rsp), %%rsp\n\tpop %%rbp"                                            \
                         : "+D"(where) :                                                                              \
                         : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",    \
                           "r15", "xmm5", "xmm6", "xmm7", "xmm20", "xmm31", "k3", "k7", "memory", "cc");               \
        for (int i = 0; i < 15; i++) add(fault_registers[i]);                                                          \
        for (int i = 0; i < 8; i++) add(fault_vectors[i]);                                                             \
        add(fault_flags & 0xcd5);                                                                                      \
    } while (0)

int main(void) {
    unsigned a, b, c, d;
    __cpuid_count(0xd, 5, a, opmask_offset, c, d);
    __cpuid_count(0xd, 7, a, zmm_offset, c, d); /* zmm16 to zmm31 */
    (void)b;
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (int i = 0; i < 5; i++) sigaction(numbers[i], &action, NULL);
    bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(bad, 4096);
    int file = memfd_create("short", 0);
    truncated = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    for (int round = 0; round < 200; round++) {
        FAULT("at_store: mov %%rsi, (%%rdi)\n\tafter_store: lea 1(%%rcx), %%rcx\n\t", bad);
        FAULT("at_load: mov 8(%%rdi), %%rbx\n\t", bad);
        FAULT("mov $0, %%edi\n\tat_divide: div %%rdi\n\t", bad);
        FAULT("at_undefined: ud2\n\t", bad);
        FAULT("at_trap: int3\n\t", bad);
        FAULT("at_string: rep movsb\n\t", bad);
        FAULT("mov %%rsp, %%rbp\n\tmov %%rdi, %%rsp\n\tat_push: push 0(%%rsp)\n\tlea 256(%%rsp), %%rbp\n\t", bad + 64);
        FAULT("at_bus: mov %%rsi, (%%rdi)\n\t", truncated);
    }
    printf("%d faults, %lx\n", faults, digest);
    return 0;
}
