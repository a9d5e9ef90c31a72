/* Everything on which a single step is not an instruction. 32 instructions a pass. */
    .globl pass
pass:
    push %rbx                       /* 1 */
    mov %ss, %eax                   /* 2 */
    mov %eax, %ss                   /* 3: the trap comes after the next one */
    mov $5, %ebx                    /* 4 */
    add %ebx, %ebx                  /* 5 */
    pushf                           /* 6: TF must not show */
    pop %rax                        /* 7 */
    and $0x100, %eax                /* 8 */
    lea result(%rip), %rdx          /* 9 */
    add %rax, (%rdx)                /* 10: stays 0 */
    lea result+64(%rip), %rdi       /* 11 */
    mov $100, %ecx                  /* 12 */
    mov $0x77, %al                  /* 13 */
    rep stosb                       /* 14: 100 stops, one instruction */
    xor %ecx, %ecx                  /* 15 */
    rep stosb                       /* 16: no iteration, one instruction */
    mov $1, %ecx                    /* 17 */
    rep stosb                       /* 18: one iteration */
    lea result+64(%rip), %rdi       /* 19 */
    mov $-1, %rcx                   /* 20 */
    mov $0x77, %al                  /* 21 */
    repe scasb                      /* 22: ends by inequality, after 102 */
    mov %rcx, 8(%rdx)               /* 23 */
    mov $0x100000000, %rcx          /* 24 */
    addr32 rep stosb                /* 25: ECX is 0: no iteration */
    mov $0x5A, %al                  /* 26 */
    mov $39, %eax                   /* 27: getpid */
    syscall                         /* 28 */
    pushfq                          /* 29 */
    popfq                           /* 30 */
    pop %rbx                        /* 31 */
    ret                             /* 32 */
    .section .note.GNU-stack, "", @progbits
