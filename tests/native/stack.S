/* push and pop of every operand kind, enter, leave, pushf, popf, rsp as an operand. */
    .globl pass
pass:
    push %rbp
    mov %rsp, %rbp
    push %rbx
    push %r12
    lea result(%rip), %rbx
    mov $12, %r12d
1:  push $-7
    push $0x12345678
    pushw $0x1234
    pushw %r12w
    popw %ax
    popw 8(%rbx)
    pop %rcx
    pop %rdx
    add %rcx, (%rbx)
    add %rdx, 16(%rbx)
    pushq (%rbx)
    popq 24(%rbx)
    push %rsp                       /* the value before the push */
    pop %rax
    sub %rsp, %rax
    add %rax, 32(%rbx)
    push %rbx
    push (%rsp)
    pop 8(%rsp)                     /* address counted after the pop's own increment */
    add $8, %rsp
    lea -64(%rsp), %rsp
    movq $91, (%rsp)
    popq (%rsp)                     /* to the slot behind */
    mov (%rsp), %rax
    add %rax, 40(%rbx)
    lea 56(%rsp), %rsp
    enter $48, $0
    mov %r12, -8(%rbp)
    mov -8(%rbp), %rax
    add %rax, 48(%rbx)
    leave
    enter $16, $2                   /* nested: copies a frame pointer */
    leave
    cmp $6, %r12
    pushfq
    pop %rax
    and $0x8d5, %eax
    add %rax, 56(%rbx)
    push %rax
    popfq
    adc $0, %rax
    add %rax, 64(%rbx)
    pushfw
    popfw
    mov %rsp, %rdx
    mov %rsp, %rsp
    push %rdx
    pop %rsp                        /* pop rsp: the value, not the increment */
    sub %rsp, %rdx
    add %rdx, 72(%rbx)
    push %fs
    pop %rax
    dec %r12d
    jnz 1b
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .section .note.GNU-stack, "", @progbits
