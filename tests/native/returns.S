/* Returns that are not to the last call: push and ret, ret imm16, a call that never returns, rep ret,
   a return address that the callee changes, call to the next instruction. */
    .globl pass
pass:
    push %rbx
    mov $20, %ebx
1:  lea 2f(%rip), %rax
    push %rax
    ret                             /* a jump in disguise */
    ud2
2:  mov $3, %edx
    push %rdx
    push %rdx
    call takes_two
    call skips_bytes
    .byte 0x0f, 0x0b, 0x0f, 0x0b    /* never executed: the callee returns behind them */
    call 3f                         /* call next: the address of the code itself */
3:  pop %rax
    lea 3b(%rip), %rcx
    sub %rcx, %rax
    add %rax, result(%rip)
    call 4f
    ud2
4:  add $8, %rsp                    /* a call that never returns */
    call rep_ret
    call far_away
    dec %ebx
    jnz 1b
    pop %rbx
    ret
takes_two:
    mov 8(%rsp), %rax
    add 16(%rsp), %rax
    add %rax, result+8(%rip)
    ret $16
skips_bytes:
    addq $4, (%rsp)
    ret
rep_ret:
    incq result+16(%rip)
    rep ret
    .section .text.far, "ax", @progbits
    .balign 4096
    .skip 5 * 4096, 0xcc
far_away:
    incq result+24(%rip)
    bnd ret
    .section .note.GNU-stack, "", @progbits
