/* A loop of known length: 3 + 2 * 1000 instructions a pass, none of which touches memory but ret. */
    .globl pass
pass:
    mov $1000, %ecx
1:  dec %ecx
    jnz 1b
    mov %edi, %eax
    ret
    .section .note.GNU-stack, "", @progbits
