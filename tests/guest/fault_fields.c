/* Fields of siginfo that hold code addresses, for SIGSYS, SIGILL, SIGFPE, SIGTRAP (int3) and SIGSEGV: each line says "right" or how it differs. */
#include "filter.h"
#include <linux/audit.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

extern char after_call[], at_ud2[], at_div[], after_int3[], at_fault[], at_hlt[], at_movaps[];
static const char *volatile what;
static char *volatile address;
static volatile unsigned long resume;
static char text[256];

static void check(const char *field, unsigned long seen, unsigned long wanted) {
    int n = snprintf(text, sizeof text, seen == wanted ? "%s %s right\n" : "%s %s differs\n", what, field);
    long written = write(1, text, n);
    (void)written;
}
static void handler(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (number == SIGSYS) {
        check("si_call_addr", (unsigned long)info->si_call_addr, (unsigned long)after_call);
        check("rip", registers[REG_RIP], (unsigned long)after_call);
        check("si_syscall", info->si_syscall, SYS_getsid);
        check("si_arch", info->si_arch, AUDIT_ARCH_X86_64);
        check("si_errno", info->si_errno, 77);
        check("rax", registers[REG_RAX], SYS_getsid);
        return;
    }
    check("rip", registers[REG_RIP], (unsigned long)address);
    /* A breakpoint's siginfo has no address (SI_KERNEL), a trap's the address. */
    if (info->si_code != SI_KERNEL) check("si_addr", (unsigned long)info->si_addr, (unsigned long)address);
    check("si_code", info->si_code, (unsigned long)(long)info->si_code);
    if (resume) registers[REG_RIP] = resume;
}
#define TRY(name, place, next, code) \
    do { what = name; address = place; resume = (unsigned long)(next); __asm__ volatile(code ::: "rax", "rcx", "rdx", "r11", "memory", "cc"); } while (0)

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    const int numbers[] = {SIGSYS, SIGILL, SIGFPE, SIGTRAP, SIGSEGV, SIGBUS};
    for (int i = 0; i < 6; i++) sigaction(numbers[i], &action, 0);
    struct filter filter = {.listed = SECCOMP_RET_TRAP | 77, .others = SECCOMP_RET_ALLOW};
    filter_add(&filter, SYS_getsid);
    if (filter_install(&filter)) return 2;
    what = "SIGSYS";
    __asm__ volatile("xor %%edi, %%edi\nmov %0, %%eax\nsyscall\n.globl after_call\nafter_call:" ::"i"(SYS_getsid) : "rax", "rdi", "rcx", "r11", "memory");
    TRY("SIGILL", at_ud2, at_ud2 + 2, ".globl at_ud2\nat_ud2: ud2");
    TRY("SIGFPE", at_div, at_div + 2, "xor %%ecx, %%ecx\nxor %%edx, %%edx\nmov $1, %%eax\n.globl at_div\nat_div: div %%ecx");
    TRY("SIGTRAP int3", after_int3, 0, "int3\n.globl after_int3\nafter_int3:");
    TRY("SIGSEGV hlt", at_hlt, at_hlt + 1, ".globl at_hlt\nat_hlt: hlt");
    /* A call of memory that is not executable: the address is the place itself. */
    char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    what = "SIGSEGV call";
    address = page + 16;
    __asm__ volatile("lea 1f(%%rip), %%rcx\nmov %%rcx, resume(%%rip)\njmp *%0\n1:" ::"r"(page + 16) : "rcx", "memory");
    return 0;
}
