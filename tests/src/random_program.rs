//! Random programs for the oracle: assembler text with blocks, flags, memory, stack, calls and jumps of all
//! kinds, that always ends and prints what it computed.
//!
//! # Design
//! Blocks only jump forward, inside one counted loop, so every program ends. Registers start with the round's
//! number mixed in; at the end all of them, the flags and the data area go into `result`. r15 counts the
//! loop, r14 points to the data area, rsp is the stack's: everything else is fair game.

use std::fmt::Write;

const REGISTERS: [[&str; 4]; 12] = [
    ["rax", "eax", "ax", "al"],
    ["rcx", "ecx", "cx", "cl"],
    ["rdx", "edx", "dx", "dl"],
    ["rbx", "ebx", "bx", "bl"],
    ["rsi", "esi", "si", "sil"],
    ["rdi", "edi", "di", "dil"],
    ["r8", "r8d", "r8w", "r8b"],
    ["r9", "r9d", "r9w", "r9b"],
    ["r10", "r10d", "r10w", "r10b"],
    ["r11", "r11d", "r11w", "r11b"],
    ["r12", "r12d", "r12w", "r12b"],
    ["r13", "r13d", "r13w", "r13b"],
];
const CONDITIONS: [&str; 16] =
    ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];
const SUFFIXES: [&str; 4] = ["q", "l", "w", "b"];
const BLOCKS: u64 = 14;

/// xorshift64*, Vigna 2016: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    fn register(&mut self, width: usize) -> String {
        format!("%{}", REGISTERS[self.below(12) as usize][width])
    }

    /// An operand in the data area, by base, base and index, or RIP.
    fn memory(&mut self) -> String {
        match self.below(4) {
            0 => format!("{}(%r14)", self.below(64) * 8),
            1 => format!("{}(%r14, %r15, 8)", self.below(32) * 8),
            2 => format!("data+{}(%rip)", self.below(500)),
            _ => format!("0x{:x}(%r14)", 128 + self.below(300)),
        }
    }
}

/// The text of the program that `seed` stands for.
pub fn assembler(seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = format!("/* seed {seed} */\n    .globl pass\npass:\n");
    for register in ["rbx", "rbp", "r12", "r13", "r14", "r15"] {
        let _ = writeln!(text, "    push %{register}");
    }
    text += "    sub $8, %rsp\n    lea data(%rip), %r14\n    mov $9, %r15d\n    add $17, %rdi\n";
    for [register, ..] in REGISTERS {
        if register != "rdi" {
            let _ = writeln!(text, "    imul ${}, %rdi, %{register}", 3 + random.below(1 << 30));
        }
    }
    text += "    vzeroall\nround:\n";
    for block in 0..BLOCKS {
        let _ = writeln!(text, "block_{block}:");
        for _ in 0..1 + random.below(9) {
            instruction(&mut random, &mut text);
        }
        end_of_block(&mut random, &mut text, block);
    }
    let _ =
        writeln!(text, "block_{BLOCKS}:\n    dec %r15\n    jnz round\n    pushfq\n    pop %rbp");
    text += "    and $0x8d5, %ebp\n    add %rbp, result(%rip)\n";
    for (index, [register, ..]) in REGISTERS.iter().enumerate() {
        let _ = writeln!(text, "    xor %{register}, result+{}(%rip)", 8 + index * 8);
    }
    for register in 0..4 {
        let _ = writeln!(text, "    vmovdqu %ymm{register}, result+{}(%rip)", 128 + register * 32);
    }
    text += "    mov $64, %ecx\n    lea data(%rip), %rsi\n1:  add (%rsi, %rcx, 8), %rax\n    rol $7, %rax\n";
    text += "    loop 1b\n    add %rax, result+104(%rip)\n    add $8, %rsp\n    vzeroupper\n";
    for register in ["r15", "r14", "r13", "r12", "rbp", "rbx"] {
        let _ = writeln!(text, "    pop %{register}");
    }
    text += "    ret\nleaf:\n    adc $3, %rax\n    mov %rax, -24(%rsp)\n    ret\n\
             deeper:\n    push %rcx\n    call leaf\n    pop %rcx\n    ret\n";
    text += "    .section .data.rel.local, \"aw\"\n    .balign 8\nfunctions:\n    .quad leaf, deeper\nblocks:\n";
    for block in 0..=BLOCKS {
        let _ = writeln!(text, "    .quad block_{block}");
    }
    text += "    .data\n    .balign 64\ndata:\n    .skip 2048\n    .section .note.GNU-stack, \"\", @progbits\n";
    text
}

fn instruction(random: &mut Random, text: &mut String) {
    let width = random.below(4) as usize;
    let suffix = SUFFIXES[width];
    let (a, b) = (random.register(width), random.register(width));
    let (wide, other) = (random.register(0), random.register(0));
    let memory = random.memory();
    let condition = random.one_of(&CONDITIONS);
    let two = random.one_of(&["add", "adc", "sub", "sbb", "and", "or", "xor", "cmp", "test"]);
    let one = random.one_of(&["inc", "dec", "neg", "not"]);
    let shift = random.one_of(&["shl", "shr", "sar", "rol", "ror", "rcl", "rcr"]);
    // Flags that an instruction leaves undefined are made defined by a following test.
    let line = match random.below(30) {
        0..=3 => format!("{two}{suffix} {a}, {b}"),
        4 | 5 => format!("{two}{suffix} {a}, {memory}"),
        6 if two != "test" => format!("{two}{suffix} {memory}, {a}"),
        7 => format!("{two}{suffix} ${}, {memory}", random.below(120)),
        8 => format!("{one}{suffix} {a}"),
        9 => format!("{one}{suffix} {memory}"),
        10 => format!("{shift}{suffix} ${}, {a}\n    test {wide}, {other}", 1 + random.below(7)),
        11 => format!("set{condition} {}", random.register(3)),
        12 => format!("set{condition} {memory}"),
        13 => format!("cmov{condition} {wide}, {other}"),
        14 => format!("cmov{condition} {memory}, {wide}"),
        15 => format!("imul {wide}, {other}\n    test {wide}, {other}"),
        16 => format!("lea {}({wide}, {other}, 4), {wide}", random.below(4000)),
        17 => format!("push {wide}\n    pushq {memory}\n    pop {other}\n    pop {wide}"),
        18 => "pushfq\n    popfq".to_owned(),
        19 => format!("bt ${}, {wide}\n    adc $0, {other}", random.below(64)),
        20 => format!("lock xadd {wide}, {memory}"),
        21 => format!("xchg {wide}, {memory}"),
        22 => format!("mov ${}, %ecx\n    lea 512(%r14), %rdi\n    rep stosb", random.below(20)),
        23 => format!(
            "mov ${}, %ecx\n    lea 600(%r14), %rdi\n    lea 16(%r14), %rsi\n    cmp %rcx, %rcx\n    repe cmpsb",
            random.below(20)
        ),
        24 => format!("movzbl {memory}, {}", random.register(1)),
        25 => format!("vpaddd {memory}, %ymm{0}, %ymm{0}", random.below(4)),
        26 => format!("vmovdqu %ymm{}, {memory}", random.below(4)),
        27 => format!("vmovq {wide}, %xmm4\n    vpbroadcastq %xmm4, %ymm{}", random.below(4)),
        28 => {
            format!("mov {wide}, -{0}(%rsp)\n    mov -{0}(%rsp), {other}", 8 + random.below(14) * 8)
        }
        _ => format!("mov {wide}, {memory}"),
    };
    let _ = writeln!(text, "    {line}");
}

fn end_of_block(random: &mut Random, text: &mut String, block: u64) {
    let forward = block + 1 + random.below(BLOCKS - block);
    let condition = random.one_of(&CONDITIONS);
    let line = match random.below(8) {
        0..=2 => format!("j{condition} block_{forward}"),
        3 => format!("jmp block_{forward}"),
        4 => format!("jmp *blocks+{}(%rip)", forward * 8),
        5 => "call leaf".to_owned(),
        6 => format!("call *functions+{}(%rip)", random.below(2) * 8),
        _ => format!(
            "lea block_{forward}(%rip), %rbp\n    j{condition} block_{forward}\n    jmp *%rbp"
        ),
    };
    let _ = writeln!(text, "    {line}");
}
