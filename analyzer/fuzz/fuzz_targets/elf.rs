//! Any bytes as an ELF file: reading, rewriting and inspecting never panic; what was rewritten can be read,
//! needs the new library first and otherwise what it needed before, and undoing it gives back the same bytes.
//!
//! Bytes that do not begin like an ELF file are a list of edits, three bytes each (place, value), to a small
//! well-formed one, so that hostile values reach every table.

#![no_main]

use std::io::Cursor;

use elf::layout::Layout;
use elf::plan::{self, Refusal};
use libfuzzer_sys::fuzz_target;
use object::LittleEndian as LE;
use object::elf::DT_NEEDED;
use object::read::{ReadCache, ReadRef};
use object::read::elf::ProgramHeader as _;

/// The library that is added.
const NAME: &[u8] = b"/opt/sparkanalyzer/lib/libshim.so";
/// Rewritten files larger than this (holes included) are not made.
const LARGE: u64 = 16 << 20;

fuzz_target!(|input: &[u8]| {
    if input.starts_with(b"\x7fELF") {
        try_one(input);
    } else {
        let mut file = specimen();
        for edit in input.chunks_exact(3) {
            let place = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
            let place = place % file.len();
            file[place] = edit[2];
        }
        try_one(&file);
    }
});

fn try_one(file: &[u8]) {
    let _ = elf::Image::read(Cursor::new(file));
    let cache = ReadCache::new(Cursor::new(file));
    let Ok(layout) = Layout::read(&cache) else { return };
    let _ = layout.contents_end();
    inspect(&layout);
    let Ok(plan) = plan::add_needed(&layout, NAME) else {
        let _ = plan::undo(&layout);
        return;
    };
    if plan.length() > LARGE {
        return;
    }
    let before = layout.dynamic().expect("read once already").expect("there");
    let made = plan.apply(file);
    let cache = ReadCache::new(Cursor::new(&made));
    let new = Layout::read(&cache).expect("its own work");
    let after = new.dynamic().expect("its own work").expect("still there");
    let mut needed = after.strings_of(DT_NEEDED);
    assert_eq!(needed.next(), Some(NAME));
    assert!(needed.eq(before.strings_of(DT_NEEDED)));
    assert_eq!(after.used, before.used + 1);
    let (old, new_places) = (places(&layout), places(&new));
    assert_eq!(old[..], new_places[..old.len()]);
    assert_eq!(new_places.len(), old.len() + 1);
    let again = plan::add_needed(&new, NAME);
    assert!(matches!(again, Err(Refusal::AlreadyDone { is_ours: true, .. })), "{again:?}");
    let back = plan::undo(&new).expect("its own work").apply(&made);
    assert!(back == file, "undo gives other bytes");
}

/// Everything that `analyzer inspect` reads.
fn inspect<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) {
    let _ = elf::facts::Facts::read(layout);
    let functions = elf::functions::find(layout);
    let mut end = 0;
    for function in &functions.list {
        assert!(function.address >= end, "functions overlap");
        end = function.address + function.size;
        if let Some(symbol) = &function.symbol {
            let _ = elf::code::demangle(symbol);
        }
    }
    let covered: u64 = functions.list.iter().map(|function| function.size).sum();
    assert!(covered <= functions.executable_bytes);
    let code = elf::code::read(layout, &functions, |_| {});
    assert_eq!(code.functions.len(), functions.list.len());
    assert!(code.total.instructions() + code.total.undecodable <= covered);
}

/// Address, offset and size of the loaded segments.
fn places<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Vec<(u64, u64, u64)> {
    let loaded = layout.loaded().expect("well-formed");
    loaded.map(|s| (s.p_vaddr(LE), s.p_offset(LE), s.p_memsz(LE))).collect()
}

/// A position-independent program of one loaded segment: strings, dynamic section, note, unwinding table,
/// code, symbols and section headers.
fn specimen() -> Vec<u8> {
    const SEGMENTS: usize = 6;
    let mut file = vec![0; 64 + SEGMENTS * 56];
    let put = |file: &mut Vec<u8>, align: usize, bytes: &[u8]| -> (u64, u64) {
        file.resize(file.len().next_multiple_of(align), 0);
        file.extend(bytes);
        ((file.len() - bytes.len()) as u64, bytes.len() as u64)
    };
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let interpreter = put(&mut file, 1, b"/lib64/ld-linux-x86-64.so.2\0");
    let strings = put(&mut file, 1, b"\0libc.so.6\0libm.so.6\0main\0");
    let note = put(&mut file, 4, b"\x04\0\0\0\x04\0\0\0\x03\0\0\0GNU\0\x12\x34\x56\x78");
    // jmp over two bytes, lock add [rax], gs-free code, syscall, ret.
    let code = put(&mut file, 16, b"\xeb\x02\x90\x90\xf0\x48\x01\x18\xf3\xa4\x0f\x05\xc3");
    let symbol = |name: u32, kind: u8| {
        let mut symbol = name.to_le_bytes().to_vec();
        symbol.extend([kind, 0, 3, 0]);
        symbol.extend(words(&[code.0, code.1]));
        symbol
    };
    let symbols = put(&mut file, 8, &[vec![0; 24], symbol(21, 0x12)].concat());
    // A CIE of augmentation "zR" with PC-relative 4-byte pointers, one FDE, a terminator.
    let mut frames = vec![
        16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0, 0, 0, 16, 0, 0, 0, 24, 0, 0, 0,
    ];
    let frames_at = file.len().next_multiple_of(8) as u64;
    frames.extend((code.0.wrapping_sub(frames_at + 28) as u32).to_le_bytes());
    frames.extend((code.1 as u32).to_le_bytes());
    frames.extend([0; 8]);
    let frames = put(&mut file, 8, &frames);
    let dynamic = words(&[
        1, 1, 1, 11, 5, strings.0, 10, strings.1, 6, symbols.0, 11, 24, 0x6fff_fffb, 0x0800_0000, 0, 0, 0, 0,
    ]);
    let dynamic = put(&mut file, 8, &dynamic);
    let names = put(&mut file, 1, b"\0.dynstr\0.dynamic\0.text\0.dynsym\0.eh_frame\0.shstrtab\0");
    let section = |name: u32, kind: u32, flags: u64, place: (u64, u64), link: u32, size: u64| {
        let mut section = [name.to_le_bytes(), kind.to_le_bytes()].concat();
        section.extend(words(&[flags, place.0, place.0, place.1]));
        section.extend([link.to_le_bytes(), 0u32.to_le_bytes()].concat());
        section.extend(words(&[1, size]));
        section
    };
    let sections = [
        vec![0; 64],
        section(1, 3, 2, strings, 0, 0),
        section(9, 6, 3, dynamic, 1, 16),
        section(18, 1, 6, code, 0, 0),
        section(24, 11, 2, symbols, 1, 24),
        section(32, 1, 2, frames, 0, 0),
        section(42, 3, 0, names, 0, 0),
    ];
    let sections = put(&mut file, 8, &sections.concat());
    let whole = (0, file.len() as u64);
    let segment = |kind: u32, flags: u32, place: (u64, u64), align: u64| {
        let mut segment = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        segment.extend(words(&[place.0, place.0, place.0, place.1, place.1, align]));
        segment
    };
    let segments = [
        segment(6, 4, (64, SEGMENTS as u64 * 56), 8),
        segment(3, 4, interpreter, 1),
        segment(1, 7, whole, 4096),
        segment(2, 6, dynamic, 8),
        segment(4, 4, note, 4),
        segment(0x6474_e550, 4, frames, 4),
    ];
    file[64..64 + SEGMENTS * 56].copy_from_slice(&segments.concat());
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut header = [3u16.to_le_bytes(), 62u16.to_le_bytes()].concat();
    header.extend(1u32.to_le_bytes());
    header.extend(words(&[code.0, 64, sections.0]));
    header.extend(0u32.to_le_bytes());
    header.extend([64u16, 56, SEGMENTS as u16, 64, 7, 6].map(u16::to_le_bytes).as_flattened());
    file[16..64].copy_from_slice(&header);
    file
}
