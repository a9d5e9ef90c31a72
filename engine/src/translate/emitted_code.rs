//! What the translator emits for the shapes that matter, as text: whoever changes it sees the change in a diff.
//!
//! A line that begins with `;` is the application's instruction, the lines below it what stands for it.

use std::boxed::Box;
use std::format;
use std::string::{String, ToString};

use iced_x86::{
    Decoder, DecoderOptions, FastFormatter, Instruction, OpKind, Register, SymbolResolver,
    SymbolResult,
};

use crate::cache::address_space::AddressSpace;
use crate::cache::fragment::Fragment;
use crate::isa::x86_64::context::{disp, spill};
use crate::isa::x86_64::emit::ibl::{Comparison, Lookups};
use crate::isa::x86_64::exits::Way;
use crate::os::memory;
use crate::translate::translator::{Source, Translator};

/// Where the application's code lies: far from everything that the kernel places by itself.
const APPLICATION: u64 = 0x2a12_8765_4000;
const TO_ENGINE: u64 = 0x1000;
const MISS: u64 = 0x2000;
/// Bytes at an arena's beginning: a far jump.
const ROUTINES: u64 = 16;

/// Names for what the emitted code refers to.
#[derive(Clone, Copy)]
struct Names {
    fragment: Fragment,
    arena: u64,
    tables: [u64; 2],
}

impl Names {
    fn of_displacement(&self, displacement: u64) -> Option<String> {
        let counters = disp::counter(0) as u64;
        let named = [
            (disp::LOOKUP_TARGET, "lookup_target"),
            (disp::EXIT, "exit"),
            (disp::spill(spill::ANY), "spill_any"),
            (disp::spill(spill::FLAGS), "spill_flags"),
            (disp::spill(spill::RAX), "spill_rax"),
            (disp::spill(spill::RDX), "spill_rdx"),
        ];
        let name = named.iter().find(|(at, _)| *at as u64 == displacement);
        name.map(|(_, name)| (*name).to_string()).or_else(|| {
            (displacement >= counters).then(|| {
                format!("counter_{}", (displacement - counters) / 8 - u64::from(self.fragment.slot))
            })
        })
    }

    fn of_address(&self, address: u64) -> String {
        let Fragment { host, host_len, .. } = self.fragment;
        if address.wrapping_sub(host) <= u64::from(host_len) {
            format!("here_{:x}", address - host)
        } else if address.wrapping_sub(APPLICATION) < 0x10000 {
            format!("application_{:x}", address - APPLICATION)
        } else if address.wrapping_sub(self.arena) < ROUTINES {
            "dispatcher".to_string()
        } else if address.wrapping_sub(self.arena) < 0x1000 {
            format!("pad_{:x}", address - self.arena - ROUTINES)
        } else {
            "cold".to_string()
        }
    }
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _: u32,
        operand: Option<u32>,
        address: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        let name = match instruction.op_kind(operand?) {
            OpKind::NearBranch64 => self.of_address(address),
            OpKind::Memory if instruction.is_ip_rel_memory_operand() => self.of_address(address),
            OpKind::Memory if address == self.tables[0] => "targets".to_string(),
            OpKind::Memory if address == self.tables[1] => "returns".to_string(),
            OpKind::Memory if instruction.memory_segment() == Register::GS => {
                self.of_displacement(address)?
            }
            _ => return None,
        };
        Some(SymbolResult::with_string(address, name))
    }
}

/// The translation of one block of `source`, for a CPU of AMD's.
fn emitted(source: &[u8], memory: Source, pad: Option<Way>) -> String {
    emitted_for(Lookups { shift: 4, comparison: Comparison::CrcAndLoop }, source, memory, pad)
}

fn emitted_for(lookups: Lookups, source: &[u8], memory: Source, pad: Option<Way>) -> String {
    let page =
        memory::map_anonymous(APPLICATION as usize, 4096, memory::PROT_READ | memory::PROT_WRITE)
            .unwrap();
    assert_eq!(page as u64, APPLICATION, "the address is free in a test's process");
    // SAFETY: a fresh page.
    unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), page as *mut u8, source.len()) };
    let mut translator =
        Translator::new(TO_ENGINE, |_| MISS, lookups, AddressSpace::under(None)).unwrap();
    let end = APPLICATION + source.len() as u64;
    // SAFETY: the page was filled just now.
    let fragment = unsafe { translator.translate(APPLICATION, end, memory, pad) }.unwrap();
    let fragment = translator.fragments.as_slice()[fragment as usize];
    let arena = translator.cache.spans().next().unwrap().base;
    let names = Names {
        fragment,
        arena,
        tables: translator.targets.each_ref().map(|targets| u64::from(targets.table())),
    };
    let mut text = String::new();
    let mut places = translator.places_of(&fragment).iter();
    let mut place = places.next();
    let mut theirs = Decoder::with_ip(64, source, APPLICATION, DecoderOptions::NONE);
    let mut formatter = FastFormatter::try_with_options(Some(Box::new(names))).unwrap();
    let mut from = fragment.host;
    if pad.is_some() {
        from = arena + ROUTINES;
    }
    let len = (fragment.host + u64::from(fragment.host_len) - from) as usize;
    // SAFETY: the fragment and its pad, in the arena.
    let code = unsafe { core::slice::from_raw_parts(from as *const u8, len) };
    for instruction in &mut Decoder::with_ip(64, code, from, DecoderOptions::NONE) {
        let at = instruction.ip().wrapping_sub(fragment.host);
        while place.is_some_and(|next| u64::from(next.host) == at) {
            if !theirs.can_decode() {
                theirs.set_position(0).unwrap(); // the next copy of a loop
                theirs.set_ip(APPLICATION);
            }
            text += "; ";
            formatter.format(&theirs.decode(), &mut text);
            text += "\n";
            place = places.next();
        }
        formatter.format(&instruction, &mut text);
        text += "\n";
    }
    // SAFETY: nothing refers to the page any more.
    unsafe { memory::unmap(page, 4096) };
    text
}

/// One test, because all shapes want the same address.
#[test]
fn shapes() {
    // add edi, esi; lea eax, [rdi+1]; jne +16
    insta::assert_snapshot!(
        "dead flags, conditional branch",
        emitted(&[0x01, 0xf7, 0x8d, 0x47, 1, 0x75, 0x10], Source::Stable, None)
    );
    // mov rdi, rax; call +32
    insta::assert_snapshot!(
        "dead register, call",
        emitted(&[0x48, 0x89, 0xc7, 0xe8, 32, 0, 0, 0], Source::Stable, None)
    );
    // pop rbx; ret
    insta::assert_snapshot!("return", emitted(&[0x5b, 0xc3], Source::Stable, None));
    // mov [rdi], rsi; jmp +5
    insta::assert_snapshot!(
        "register put aside",
        emitted(&[0x48, 0x89, 0x37, 0xeb, 5], Source::Stable, None)
    );
    // jmp rax, an indirect branch's target itself
    insta::assert_snapshot!(
        "indirect jump with a pad",
        emitted(&[0xff, 0xe0], Source::Stable, Some(Way::Jump))
    );
    for (name, shift, comparison) in [
        ("indirect jump with a pad, other CPUs", 4, Comparison::Crc),
        ("indirect jump with a pad, without BMI2 and SSE4.2", 0, Comparison::Difference),
    ] {
        let lookups = Lookups { shift, comparison };
        insta::assert_snapshot!(
            name,
            emitted_for(lookups, &[0xff, 0xe0], Source::Stable, Some(Way::Jump))
        );
    }
    // jmp r11
    insta::assert_snapshot!(
        "indirect jump, a new register",
        emitted(&[0x41, 0xff, 0xe3], Source::Stable, None)
    );
    // call [rip+64]
    insta::assert_snapshot!(
        "indirect call through memory",
        emitted(&[0xff, 0x15, 64, 0, 0, 0], Source::Stable, None)
    );
    // rep movsq; loop -2
    insta::assert_snapshot!(
        "rep, loop",
        emitted(&[0xf3, 0x48, 0xa5, 0xe2, 0xfe], Source::Stable, None)
    );
    // xor eax, eax; mov [rip+100], eax; syscall
    insta::assert_snapshot!(
        "rip-relative, system call",
        emitted(&[0x31, 0xc0, 0x89, 5, 100, 0, 0, 0, 0x0f, 5], Source::Stable, None)
    );
    // dec rcx; jne -5, a loop of one block, to which another returns
    insta::assert_snapshot!(
        "loop of one block with a pad",
        emitted(&[0x48, 0xff, 0xc9, 0x75, 0xfb], Source::Stable, Some(Way::Return))
    );
    // mov eax, 7; ret, in memory that may change
    insta::assert_snapshot!(
        "changing code",
        emitted(&[0xb8, 7, 0, 0, 0, 0xc3], Source::Changing, None)
    );
    // mov [rdi], eax; ret, there: the block ends behind the store
    insta::assert_snapshot!(
        "changing code that stores",
        emitted(&[0x89, 0x07, 0xc3], Source::Changing, None)
    );
    // The same in guarded memory: the way to the dispatcher while its page is open, and the block goes on behind the store.
    insta::assert_snapshot!(
        "guarded code that stores",
        emitted(&[0x89, 0x07, 0xc3], Source::Guarded, None)
    );
}
