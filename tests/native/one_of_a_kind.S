/* Instructions that fit no group: xlat, cpuid, rdtsc, xgetbv, nops of
   every length, prefetches, endbr64, ud-free odd prefixes, rdfsbase, cbw to cqo, lahf, sahf, movnti. */
/* @needs fsgsbase rdtscp */
    .globl pass
pass:
    push %rbx
    mov $6, %r8d
1:  endbr64
    lea table(%rip), %rbx
    mov $3, %al
    xlat
    movzbl %al, %eax
    add %rax, result(%rip)
    xor %eax, %eax
    xor %ecx, %ecx
    cpuid                           /* a barrier: serialises */
    add %rbx, result+8(%rip)
    rdtsc
    rdtscp
    xor %ecx, %ecx
    xgetbv
    add %eax, result+16(%rip)
    nop
    xchg %ax, %ax
    nopl (%rax)
    nopw 0x0(%rax,%rax,1)
    .byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x02, 0x00, 0x00
    prefetcht0 result(%rip)
    prefetchnta 0xbad(%rax)
    prefetchw result(%rip)
    movl $0x80, %eax
    cbtw
    cwtl
    cltq
    cqto
    cwtd
    cltd
    add %rax, result+24(%rip)
    add %rdx, result+32(%rip)
    movnti %rax, result+40(%rip)
    lea table(%rip), %rdx
    movzbl 1(%rdx), %edx
    add %rdx, result+48(%rip)
    ds mov table(%rip), %al         /* prefixes that mean nothing */
    rex.W nop
    pause
    rdfsbase %rax
    mov %fs:0, %rdx
    sub %rdx, %rax
    add %rax, result+56(%rip)
    movsbl table(%rip), %eax
    movslq result(%rip), %rdx
    clflush result(%rip)
    mov %cs, %eax
    mov %ds, %edx
    std
    cld
    dec %r8d
    jnz 1b
    pop %rbx
    ret
    .section .data.rel.ro, "aw"
    .balign 8
table:
    .byte 10, 20, 30, 40, 50
    .section .note.GNU-stack, "", @progbits
