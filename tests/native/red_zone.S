/* A leaf function that keeps its variables in the 128 bytes below the stack pointer, across branches,
   loops, indirect jumps and conditional moves: nothing of ours may write there. */
    .globl pass
pass:
    mov $30, %ecx
    mov %rdi, -8(%rsp)
    movq $0, -16(%rsp)
    movq $17, -128(%rsp)
    movups %xmm0, -48(%rsp)
1:  mov %rcx, -64(%rsp)
    test $1, %cl
    jz 2f
    add %rcx, -16(%rsp)
2:  lea 3f(%rip), %rax
    mov %rax, -72(%rsp)
    jmp *-72(%rsp)                  /* through the red zone itself */
3:  addq $3, -128(%rsp)
    mov -64(%rsp), %rcx
    loop 1b
    mov -8(%rsp), %rax
    add -16(%rsp), %rax
    add -128(%rsp), %rax
    add %rax, result(%rip)
    ret
    .section .note.GNU-stack, "", @progbits
