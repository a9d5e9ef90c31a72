/* What a program can see of the processor's state that counting must not touch: AC, ID, DF and TF in RFLAGS, MXCSR,
   the x87 control word, FS base by both ways, XGETBV, CPUID, RDTSC, CET's no-ops, the vsyscall page.
   @alone @flags -O1 -mfsgsbase */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define AC (1ul << 18)
#define ID (1ul << 21)
#define DF (1ul << 10)
#define TF (1ul << 8)

static uint64_t flags(void) {
    uint64_t value;
    __asm__ volatile("pushfq; pop %0" : "=r"(value));
    return value;
}

static void set_flags(uint64_t value) { __asm__ volatile("push %0; popfq" : : "r"(value) : "cc", "memory"); }

static volatile sig_atomic_t seen;
static volatile uint64_t handler_flags, context_flags;

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)info;
    handler_flags = flags();
    context_flags = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    seen += number;
}

static int twice(int value) { return 2 * value; }

static void flag_bits(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    uint64_t before = flags();
    set_flags(before ^ ID);
    printf("ID toggles: %d\n", ((flags() ^ before) & ID) != 0);
    /* A call and a signal with AC set; all accesses until it is cleared are aligned. */
    uint64_t after, pid = (uint64_t)getpid(), set = before | ID | AC;
    int (*volatile function)(int) = twice;
    __asm__ volatile("push %1\n\tpopfq\n\tmov $21, %%edi\n\tcall *%2\n\tmov %3, %%edi\n\tmov %4, %%esi\n\tmov %5, %%eax\n\t"
                     "syscall\n\tpushfq\n\tpop %0"
                     : "=&r"(after) : "r"(set), "r"(function), "r"((int)pid), "i"(SIGUSR1), "i"(SYS_kill)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory");
    set_flags(before);
    printf("AC %d ID %d, in the handler %d %d, in its context %d %d\n", (after & AC) != 0, (after & ID) != 0,
           (handler_flags & AC) != 0, (handler_flags & ID) != 0, (context_flags & AC) != 0, (context_flags & ID) != 0);
    uint64_t direction;
    __asm__ volatile("std\n\tmov %1, %%edi\n\tmov %2, %%esi\n\tmov %3, %%eax\n\tsyscall\n\tpushfq\n\tpop %0\n\tcld"
                     : "=&r"(direction) : "r"((int)pid), "i"(SIGUSR1), "i"(SYS_kill)
                     : "rax", "rcx", "r11", "rdi", "rsi", "cc", "memory");
    printf("DF %d, in the handler %d, in its context %d\n", (direction & DF) != 0, (handler_flags & DF) != 0,
           (context_flags & DF) != 0);
}

static void unaligned(int number, siginfo_t *info, void *context) {
    (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)AC;
    seen = number;
}

static void alignment_check(void) {
    struct sigaction action = {.sa_sigaction = unaligned, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    static uint8_t bytes[16] __attribute__((aligned(16)));
    seen = 0;
    uint64_t after;
    __asm__ volatile("pushfq; orq %2, (%%rsp); popfq; movl $5, 1(%1); pushfq; pop %0"
                     : "=r"(after) : "r"(bytes), "i"(AC) : "cc", "memory");
    printf("unaligned with AC: signal %d, AC after %d, byte %d\n", seen, (after & AC) != 0, bytes[1]);
}

static volatile long traps;
static uint64_t trap_places[64];

static void on_trap(int number, siginfo_t *info, void *context) {
    (void)number;
    ucontext_t *state = context;
    if (info->si_code == TRAP_TRACE && traps < 64) trap_places[traps] = (uint64_t)state->uc_mcontext.gregs[REG_RIP];
    traps++;
}

extern const char stepped_from[], stepped_to[];

static void trap_flag(void) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    int (*volatile function)(int) = twice;
    int result;
    __asm__ volatile(
        "sub $128, %%rsp\n\t" /* the red zone */
        "pushfq\n\tpushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\t"
        ".globl stepped_from, stepped_to\n"
        "stepped_from:\n\t"
        "mov $3, %%ecx\n"
        "1:\tdec %%ecx\n\tjnz 1b\n\t"
        "mov $21, %%edi\n\tcall *%1\n\tmov %%eax, %%ebx\n\t"
        "mov $39, %%eax\n\tsyscall\n\tnop\n\t"
        "popfq\n"
        "stepped_to:\n\tadd $128, %%rsp\n\tmov %%ebx, %0"
        : "=r"(result) : "r"(function)
        : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory");
    long counted = traps;
    uint64_t sum = 0;
    for (long i = 0; i < counted && i < 64; i++) {
        uint64_t offset = trap_places[i] - (uint64_t)stepped_from;
        if (offset > 100) offset = 1000 + trap_places[i] - (uint64_t)twice;
        sum = sum * 31 + offset;
    }
    printf("stepped itself: result %d, %ld traps, places %lx\n", result, counted, sum);
    __asm__ volatile("int3");
    printf("int3: %ld\n", traps - counted);
}

static void floating_point(void) {
    _mm_setcsr(0x1f80 | 0x6000); /* towards zero */
    uint16_t control = 0x0c7f, read_back;
    __asm__ volatile("fldcw %0" : : "m"(control));
    volatile double third = 1.0;
    for (int i = 0; i < 10; i++) third /= 3.0, raise(SIGUSR1);
    __asm__ volatile("fnstcw %0" : "=m"(read_back));
    printf("MXCSR %x, x87 control %x, %a\n", _mm_getcsr() & ~0x3fu, read_back, third);
    _mm_setcsr(0x1f80);
    control = 0x037f;
    __asm__ volatile("fldcw %0" : : "m"(control));
}

/* Another FS base for some instructions and system calls, as coroutine libraries and language runtimes do. */
static void fs_base(void) {
    static uint64_t other[64] __attribute__((aligned(64)));
    uint64_t *middle = other + 32, old, read_back, asked = 0, word;
    *middle = 0x1234;
    __asm__ volatile("rdfsbase %0" : "=r"(old));
    long pid, written;
    static const char text[] = "with another FS base\n";
    fflush(stdout);
    __asm__ volatile("wrfsbase %5\n\tmov %%fs:0, %1\n\trdfsbase %2\n\tmov $39, %%eax\n\tsyscall\n\tmov %%rax, %0\n\t"
                     "mov $1, %%eax\n\tmov $1, %%edi\n\tmov %6, %%rsi\n\tmov %7, %%edx\n\tsyscall\n\tmov %%rax, %3\n\twrfsbase %4"
                     : "=&r"(pid), "=&r"(word), "=&r"(read_back), "=&r"(written)
                     : "r"(old), "r"(middle), "r"(text), "i"(sizeof text - 1)
                     : "rax", "rcx", "r11", "rdi", "rsi", "rdx", "memory");
    printf("wrfsbase: %d %lx %d %ld\n", pid == getpid(), word, read_back == (uint64_t)middle, written);
    register long r10 __asm__("r10") = 0;
    long back;
    __asm__ volatile("mov %4, %%rsi\n\tmov %5, %%edi\n\tmov $158, %%eax\n\tsyscall\n\tmov %%fs:0, %0\n\t"
                     "mov %6, %%rsi\n\tmov %7, %%edi\n\tmov $158, %%eax\n\tsyscall\n\t"
                     "mov %3, %%rsi\n\tmov %5, %%edi\n\tmov $158, %%eax\n\tsyscall\n\tmov %%rax, %1"
                     : "=&r"(word), "=&r"(back), "+r"(r10)
                     : "r"(old), "r"(middle), "i"(ARCH_SET_FS), "r"(&asked), "i"(ARCH_GET_FS)
                     : "rax", "rcx", "r11", "rdi", "rsi", "memory");
    printf("arch_prctl: %lx %d %ld\n", word, asked == (uint64_t)middle, back);
}

static void processor(void) {
    uint32_t a, d, eax = 0, ebx, ecx = 0, edx;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    uint64_t first = __builtin_ia32_rdtsc(), second = __builtin_ia32_rdtsc();
    printf("xgetbv %x %x, cpuid %x %x %x %x, time goes on: %d\n", a, d, eax, ebx, ecx, edx, second > first);
    uint64_t shadow = 7;
    __asm__ volatile("endbr64\n\t.byte 0xf3, 0x48, 0x0f, 0x1e, 0xc8" : "+a"(shadow)); /* rdsspq %rax */
    printf("endbr, rdssp: %lu\n", shadow);
}

static void vsyscall_page(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int there = 0;
    while (fgets(line, sizeof line, maps)) there |= strstr(line, "[vsyscall]") != NULL;
    fclose(maps);
    if (!there) return;
    struct timeval now = {0, 0};
    time_t (*volatile old_time)(time_t *) = (time_t(*)(time_t *))0xffffffffff600400;
    int (*volatile old_gettimeofday)(struct timeval *, void *) = (int (*)(struct timeval *, void *))0xffffffffff600000;
    long differences = 0;
    for (int i = 0; i < 100; i++) {
        long difference = time(NULL) - old_time(NULL);
        differences += difference < 0 || difference > 1;
    }
    int result = old_gettimeofday(&now, NULL);
    printf("vsyscall: %ld differ, %d, %d\n", differences, result, now.tv_sec - time(NULL) <= 1);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    flag_bits();
    alignment_check();
    trap_flag();
    floating_point();
    fs_base();
    processor();
    vsyscall_page();
    return 0;
}
