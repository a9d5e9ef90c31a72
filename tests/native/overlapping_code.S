/* Jumps into the middle of instructions and of blocks that were entered from the top before. */
    .globl pass
pass:
    mov $20, %ecx
    xor %eax, %eax
1:  test $1, %cl
    jnz inside                      /* enters the block below at its third instruction */
    inc %eax
    lea 2(%rax), %rax
inside:
    lea 5(%rax), %rax
    test $2, %cl
    jz 2f
    jmp 2f + 1                      /* behind the opcode byte: another stream of instructions */
2:  .byte 0x48, 0x05, 0x04, 0x05, 0x90, 0x90    /* add $0x90900504, %rax; from the second byte: add $0x90900504, %eax */
    add %rax, result(%rip)
    dec %ecx
    jnz 1b
    mov %rax, result+8(%rip)
    ret
    .section .note.GNU-stack, "", @progbits
