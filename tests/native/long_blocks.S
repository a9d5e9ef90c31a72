/* Blocks far longer than any buffer of a translator: 6000 instructions without a branch, 2000 memory
   accesses without one, then 500 blocks of one conditional branch each. */
    .globl pass
pass:
    xor %eax, %eax
    .rept 3000
    add $3, %eax
    rol $1, %rax
    .endr
    mov %rax, result(%rip)
    lea result+8(%rip), %rdx
    .rept 1000
    add %rax, (%rdx)
    xor (%rdx), %rax
    .endr
    mov %rdi, %rcx
    .set number, 0
    .rept 500
    bt $(number & 63), %rax
    jc 1f
    inc %rcx
1:
    .set number, number + 1
    .endr
    mov %rcx, result+16(%rip)
    ret
    .section .note.GNU-stack, "", @progbits
