/* RIP-relative operands of every shape: loads, stores, read-modify-write, immediates behind the
   displacement, vectors, x87, calls and jumps through memory, lea, push and pop. */
    .globl pass
pass:
    push %rbx
    mov $15, %ebx
1:  mov cell(%rip), %rax
    add %rdi, cell(%rip)
    addl $0x11223344, cell+4(%rip)  /* displacement followed by a 4-byte immediate */
    addb $5, cell+1(%rip)           /* by a 1-byte immediate */
    cmpq $7, cell(%rip)
    adcq $1, result(%rip)
    imul $1000, cell(%rip), %rdx
    xor %rdx, result+8(%rip)
    movzbl cell+3(%rip), %ecx
    shlq $3, cell+8(%rip)
    btcq $17, cell+8(%rip)
    lock xaddq %rcx, cell+16(%rip)
    pushq cell+16(%rip)
    popq result+16(%rip)
    movups cell(%rip), %xmm1
    paddq cell(%rip), %xmm1
    pshufd $0x4e, cell(%rip), %xmm2
    pxor %xmm2, %xmm1
    movups %xmm1, result+32(%rip)
    fildll cell+8(%rip)
    fistpll result+48(%rip)
    lea 1b(%rip), %rax
    lea pass(%rip), %rcx
    sub %rcx, %rax
    add %rax, result+56(%rip)
    call *pointer(%rip)
    jmp *pointer+8(%rip)
    ud2
2:  cmpxchg %rdx, cell+24(%rip)
    setne result+64(%rip)
    xchg %rdx, cell+24(%rip)
    cmovne cell(%rip), %rdx
    add %rdx, result+72(%rip)
    mov %rdi, cell+100000(%rip)
    dec %ebx
    jnz 1b
    pop %rbx
    ret
called:
    incq result+80(%rip)
    ret
    .section .data.rel.local, "aw"
pointer:
    .quad called, 2b
    .data
    .balign 16
cell:
    .quad 3, 5, 7, 11
    .skip 100016
    .section .note.GNU-stack, "", @progbits
