/* Blocks and single instructions that cross page boundaries, at every offset of one instruction. */
    .globl pass
pass:
    push %rbx
    mov $8, %ebx
1:
    call crossing_0
    call crossing_1
    call crossing_2
    call crossing_3
    call crossing_4
    call crossing_5
    call crossing_6
    call crossing_7
    call crossing_8
    call crossing_9
    call crossing_10
    call crossing_11
    dec %ebx
    jnz 1b
    pop %rbx
    ret

    .macro crossing number
    .balign 4096, 0xcc
    .skip 4096 - 40, 0xcc
    .skip \number, 0xcc
crossing_\number:
    mov $7, %eax                    /* 5 */
    addq $0x11223344, result(%rip)  /* 11: the long one */
    adc $0, %eax                    /* 3 */
    test %eax, %eax                 /* 2 */
    jz 2f                           /* 2 */
    addl $0x55667788, result+8(%rip)
    movabs $0x1122334455667788, %rcx
    xor %rcx, result+16(%rip)
2:  add %rax, result+24(%rip)
    ret
    .endm
    crossing 0
    crossing 1
    crossing 2
    crossing 3
    crossing 4
    crossing 5
    crossing 6
    crossing 7
    crossing 8
    crossing 9
    crossing 10
    crossing 11
    .section .note.GNU-stack, "", @progbits
