/* Only in an executable at a fixed address: absolute 32-bit displacements, jump tables of 4-byte entries,
   push of an address, movabs loads. @fixed */
    .globl pass
pass:
    push %rbx
    mov $16, %ebx
1:  mov cell, %rax                  /* disp32, no base */
    addq $3, cell
    mov cell(, %rbx, 8), %rdx
    add %rdx, result
    movabs cell, %rax
    movabs %rax, result + 8
    mov %ebx, %eax
    and $3, %eax
    mov table(, %rax, 4), %eax
    jmp *%rax
2:  incq result + 16
    jmp 6f
3:  push $6f
    ret
4:  mov $5f, %eax
    call *%rax
    jmp 6f
5:  ret
6:  dec %ebx
    jnz 1b
    jmp *exit_through
7:  pop %rbx
    ret
    .data
cell:
    .quad 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
exit_through:
    .quad 7b
    .section .rodata
table:
    .long 2b, 3b, 4b, 6b
    .section .note.GNU-stack, "", @progbits
