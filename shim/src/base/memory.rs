//! The functions that rustc's generated code calls by name, hidden inside the library.
//!
//! rustc exports each `no_mangle` function of a cdylib, and an exported `memcpy` would take the place of
//! libc's in the whole process; so these are assembly with hidden visibility. They touch xmm0 and xmm1
//! only. Copies up to 512 bytes go 16 bytes a step, longer ones by `rep movsb`.
//!
//! The precompiled `core` and `alloc` are built for unwinding, so their unwinding tables name a personality
//! routine, and their landing pads `_Unwind_Resume`. Nothing unwinds in here (`panic=abort`): the routine
//! lets an unwinder of the host pass by (`_URC_CONTINUE_UNWIND`), the other is never reached.

use core::arch::global_asm;

global_asm!(
    r#"
    .macro SPARK_HIDDEN name
    .globl \name
    .hidden \name
    .type \name,@function
    .p2align 4
    \name:
    .cfi_startproc
    .endm

    .macro SPARK_END name
    .cfi_endproc
    .size \name, .-\name
    .endm

    .text
    SPARK_HIDDEN memmove
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx
    jae memcpy              // no overlap, or the destination lies below: forward is right
    mov rax, rdi
    cmp rdx, 8
    jb 2f
1:  mov rcx, [rsi + rdx - 8]
    mov [rdi + rdx - 8], rcx
    sub rdx, 8
    cmp rdx, 8
    jae 1b
2:  test rdx, rdx
    jz 4f
3:  movzx ecx, byte ptr [rsi + rdx - 1]
    mov [rdi + rdx - 1], cl
    dec rdx
    jnz 3b
4:  ret
    SPARK_END memmove

    // Forward only: memmove relies on it where the destination lies below the source.
    SPARK_HIDDEN memcpy
    mov rax, rdi
    cmp rdx, 512
    ja 5f
    cmp rdx, 16
    jb 2f
1:  movups xmm0, [rsi]
    movups [rdi], xmm0
    add rsi, 16
    add rdi, 16
    sub rdx, 16
    cmp rdx, 16
    jae 1b
2:  cmp edx, 8
    jb 3f
    mov r8, [rsi]
    mov [rdi], r8
    add rsi, 8
    add rdi, 8
    sub edx, 8
3:  test edx, edx
    jz 6f
4:  movzx r8d, byte ptr [rsi]
    mov [rdi], r8b
    inc rsi
    inc rdi
    dec edx
    jnz 4b
    ret
5:  mov rcx, rdx
    rep movsb
6:  ret
    SPARK_END memcpy

    SPARK_HIDDEN memset
    mov r8, rdi
    movzx eax, sil
    cmp rdx, 512
    ja 3f
    movabs rcx, 0x0101010101010101
    imul rax, rcx
    cmp rdx, 8
    jb 2f
1:  mov [rdi], rax
    add rdi, 8
    sub rdx, 8
    cmp rdx, 8
    jae 1b
2:  test edx, edx
    jz 4f
5:  mov [rdi], al
    inc rdi
    dec edx
    jnz 5b
    jmp 4f
3:  mov rcx, rdx
    rep stosb
4:  mov rax, r8
    ret
    SPARK_END memset

    .globl bcmp
    .hidden bcmp
    .set bcmp, memcmp
    SPARK_HIDDEN memcmp
    cmp rdx, 8
    jb 2f
1:  mov rax, [rdi]
    mov rcx, [rsi]
    cmp rax, rcx
    jne 4f
    add rdi, 8
    add rsi, 8
    sub rdx, 8
    cmp rdx, 8
    jae 1b
2:  test rdx, rdx
    jz 5f
3:  movzx eax, byte ptr [rdi]
    movzx ecx, byte ptr [rsi]
    sub eax, ecx
    jnz 6f
    inc rdi
    inc rsi
    dec rdx
    jnz 3b
5:  xor eax, eax
6:  ret
4:  bswap rax               // the first differing byte becomes the most significant one
    bswap rcx
    cmp rax, rcx
    sbb eax, eax
    or eax, 1
    ret
    SPARK_END memcmp

    SPARK_HIDDEN strlen
    xor eax, eax
1:  cmp byte ptr [rdi + rax], 0
    je 2f
    inc rax
    jmp 1b
2:  ret
    SPARK_END strlen

    SPARK_HIDDEN rust_eh_personality
    mov eax, 8
    ret
    SPARK_END rust_eh_personality

    SPARK_HIDDEN _Unwind_Resume
    ud2
    SPARK_END _Unwind_Resume

    .purgem SPARK_HIDDEN
    .purgem SPARK_END
"#
);
