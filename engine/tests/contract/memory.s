# Memory functions without a vector register, for processes that share them between an engine and the code it
# follows: an engine promises to touch xmm0-15 alone, and the C library's functions may use wider ones.
    .globl memcpy
    .globl memmove
    .globl memset
    .globl memcmp
    .globl bcmp
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
memmove:
    mov rax, rdi
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jae memcpy
    mov rcx, rdx
    lea rdi, [rdi+rdx-1]
    lea rsi, [rsi+rdx-1]
    std
    rep movsb
    cld
    ret
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
bcmp:
memcmp:
    mov rcx, rdx
    xor eax, eax
    test rcx, rcx
    repe cmpsb
    je 2f
    movzx eax, byte ptr [rdi-1]
    movzx ecx, byte ptr [rsi-1]
    sub eax, ecx
2:
    ret
