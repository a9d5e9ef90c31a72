/* Blocks that branch to themselves: jcc, loop, loope, loopne, jrcxz, jecxz, a jump to itself that
   another condition ends, one-instruction loops. */
    .globl pass
pass:
    mov $300, %ecx
1:  loop 1b                         /* one instruction, 300 times */
    mov $77, %ecx
2:  lea 3(%rax), %rax
    loop 2b
    mov $50, %ecx
    mov $20, %edx
3:  dec %edx
    loopne 3b                       /* ends by ZF after 20 */
    mov %rcx, result(%rip)
    mov $50, %ecx
    mov $30, %edx
4:  cmp %edx, %ecx
    loope 4b                        /* ends at once */
    mov %rcx, result+8(%rip)
    mov $9, %ecx
5:  cmp %eax, %eax
    loope 5b                        /* runs out */
    jrcxz 6f
    ud2
6:  mov $0x100000000, %rcx
    jecxz 7f                        /* only the low half is zero */
    ud2
7:  jrcxz 8f                        /* not taken */
    mov $0x100000004, %rcx
12: incq result+16(%rip)
    addr32 loop 12b                 /* only ECX counts: 4 rounds */
8:  mov $100, %eax
9:  sub $1, %eax
    jnz 9b
    mov $100, %eax
10: sub $1, %eax
    jae 10b                         /* borrow ends it: 101 times */
    mov %rax, result+24(%rip)
    mov $40, %eax
11: dec %eax                        /* leaves CF alone */
    jg 11b
    ret
    .section .note.GNU-stack, "", @progbits
