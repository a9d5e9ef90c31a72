/* Flags that are set in one block and used in another: through jumps, calls, returns, indirect jumps,
   and instructions that change only some of them. A counter update must not touch them. */
    .globl pass
pass:
    push %rbx
    push %r12
    mov $25, %ebx
    lea result(%rip), %r12
1:  cmp $12, %ebx
    jmp 2f                          /* flags live across a jump */
2:  setb (%r12)
    seta 1(%r12)
    call 3f                         /* across a call */
    adc $0, %rax                    /* CF comes from the callee */
    add %rax, 8(%r12)
    lea 5f(%rip), %rcx
    cmp %ebx, %edi
    jmp *%rcx                       /* across an indirect jump */
3:  setbe 2(%r12)
    mov $7, %eax
    sub %rbx, %rax
    ret                             /* across a return */
5:  setl 3(%r12)
    jl 6f
    jmp 7f                          /* one compare, branches in three blocks */
6:  jmp 7f
7:  je 8f
    jb 8f
    incq 16(%r12)                   /* keeps CF, changes the rest */
    jc 8f
    incq 24(%r12)
8:  stc
    inc %rax                        /* CF stays set over the block's end */
    jmp 9f
9:  jnc 10f
    incq 32(%r12)
10: bt %rbx, %rax                   /* only CF defined; ZF of before stays */
    jmp 11f
11: setc 40(%r12)
    xor %eax, %eax                  /* ZF = PF = 1 */
    jmp 12f
12: jp 13f
    ud2
13: lahf
    movzwl %ax, %eax
    add %rax, 48(%r12)
    mov $0x7fffffff, %eax
    add $1, %eax                    /* OF = SF = AF = 1 */
    jmp 14f
14: jno 15f
    js 16f
15: ud2
16: pushfq
    popq %rax
    and $0x8d5, %eax
    add %rax, 56(%r12)
    sahf
    jmp 17f
17: cmc
    jmp 18f
18: sbb %rax, %rax
    add %rax, 64(%r12)
    dec %ebx
    jnz 1b
    pop %r12
    pop %rbx
    ret
    .section .note.GNU-stack, "", @progbits
