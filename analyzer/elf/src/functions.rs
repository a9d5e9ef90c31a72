//! Where the functions of a file are: from its symbols, from its unwinding table, from its sections.
//!
//! # Design
//!
//! Symbols may be stripped; the unwinding table (.eh_frame) is part of what is loaded, and says start and
//! size of every function that a compiler made. Assembly without it and without symbols is found as far as it
//! is a section of its own (.init, .plt) or the entry point. Ranges that overlap are cut at the next start, so
//! that nothing is counted twice.
//!
//! # Limitations
//!
//! What has neither symbol nor unwinding entry is not found: in stripped programs the few functions of the
//! compiler's start-up file (crtbegin.o), and assembly without CFI. `executable_bytes` shows how much that is.

use std::collections::BTreeMap;
use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, Pointer, UnwindSection};
use object::LittleEndian as LE;
use object::elf;
use object::read::ReadRef;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _};

use crate::layout::Layout;

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its address, without load bias.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its symbol as the file has it; of several for one address the most public one.
    pub symbol: Option<String>,
}

/// All functions, and how many bytes of code there are with and without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    /// In ascending order of addresses, without overlap.
    pub list: Vec<Function>,
    /// Bytes that are loaded to be executed.
    pub executable_bytes: u64,
}

#[derive(Default)]
struct Found {
    size: u64,
    symbol: Option<(Rank, String)>,
}

/// Global before weak before local; then the shorter name.
type Rank = (u8, usize);

/// Finds the functions.
pub fn find<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Functions {
    let ranges = executable(layout);
    let is_code = |address: &u64| range_of(&ranges, *address).is_some();
    let mut found: BTreeMap<u64, Found> = BTreeMap::new();
    for (address, size) in unwound(layout).into_iter().filter(|(address, _)| is_code(address)) {
        let known = found.entry(address).or_default();
        known.size = known.size.max(size);
    }
    for table in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
        add_symbols(layout, table, &is_code, &mut found);
    }
    let entry = layout.header.e_entry(LE);
    if is_code(&entry) && !is_covered(&found, entry) {
        found.entry(entry).or_default();
    }
    for section in layout.sections {
        let (address, flags) = (section.sh_addr(LE), section.sh_flags(LE).0);
        if flags & elf::SHF_EXECINSTR.0 != 0 && is_code(&address) && !is_covered(&found, address) {
            let name = String::from_utf8_lossy(layout.section_name(section)).into_owned();
            // Its first function, or all of it, in assembly without symbols.
            found.insert(address, Found { size: 0, symbol: Some(((3, 0), name)) });
        }
    }
    let executable_bytes = ranges.iter().map(|range| range.end - range.start).sum();
    Functions { list: cut(found, &ranges), executable_bytes }
}

/// Whether a function that begins at or before `address` reaches over it.
fn is_covered(found: &BTreeMap<u64, Found>, address: u64) -> bool {
    found.range(..=address).next_back().is_some_and(|(start, known)| {
        *start == address || start.saturating_add(known.size) > address
    })
}

/// The range that an address is in.
fn range_of(ranges: &[Range<u64>], address: u64) -> Option<&Range<u64>> {
    let place = ranges.partition_point(|range| range.end <= address);
    ranges.get(place).filter(|range| range.contains(&address))
}

/// Gives each function its end.
fn cut(found: BTreeMap<u64, Found>, ranges: &[Range<u64>]) -> Vec<Function> {
    let starts: Vec<u64> = found.keys().copied().collect();
    let nexts = starts.iter().skip(1).copied().chain([u64::MAX]);
    found
        .into_iter()
        .zip(nexts)
        .filter_map(|((address, known), next)| {
            let range = range_of(ranges, address)?;
            let limit = next.min(range.end) - address;
            let size = if known.size == 0 { limit } else { known.size.min(limit) };
            Some(Function { address, size, symbol: known.symbol.map(|(_, name)| name) })
        })
        .collect()
}

/// What is loaded to be executed: by the sections, which leave out the padding between them, else by the
/// segments. In ascending order, without overlap.
fn executable<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Vec<Range<u64>> {
    let Ok(loaded) = layout.loaded() else { return Vec::new() };
    let is_executable = |flags: u64| flags & elf::SHF_EXECINSTR.0 != 0;
    let segments = loaded
        .filter(|segment| segment.p_flags(LE).0 & elf::PF_X.0 != 0)
        .map(|segment| (segment.p_vaddr(LE), segment.p_filesz(LE)));
    let sections = layout.sections.iter().filter(|section| {
        is_executable(section.sh_flags(LE).0) && section.sh_type(LE) != elf::SHT_NOBITS
    });
    let mut places: Vec<(u64, u64)> =
        sections.map(|section| (section.sh_addr(LE), section.sh_size(LE))).collect();
    if places.is_empty() {
        places = segments.collect();
    }
    places.sort_unstable();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (address, size) in places {
        let start = address.max(ranges.last().map_or(0, |last| last.end));
        let Some(end) = address.checked_add(size).filter(|end| *end > start) else { continue };
        if layout.offset_of(start, end - start).is_some() {
            ranges.push(start..end);
        }
    }
    ranges
}

fn add_symbols<'data, R: ReadRef<'data>>(
    layout: &Layout<'data, R>,
    table: elf::SectionType,
    is_code: &impl Fn(&u64) -> bool,
    found: &mut BTreeMap<u64, Found>,
) {
    let Ok(sections) = layout.header.sections(LE, layout.data) else { return };
    let Ok(symbols) = sections.symbols(LE, layout.data, table) else { return };
    for symbol in symbols.iter() {
        let kind = symbol.st_type();
        let is_function = kind == elf::STT_FUNC || kind == elf::STT_GNU_IFUNC;
        let address = symbol.st_value(LE);
        if !is_function || symbol.st_shndx(LE) == elf::SHN_UNDEF || !is_code(&address) {
            continue;
        }
        let Ok(name) = symbol.name(LE, symbols.strings()) else { continue };
        let rank = match symbol.st_bind() {
            elf::STB_GLOBAL => 0,
            elf::STB_WEAK => 1,
            _ => 2,
        };
        let known = found.entry(address).or_default();
        if known.size == 0 {
            known.size = symbol.st_size(LE);
        }
        let rank = (rank, name.len());
        let is_better = |(other, text): &(Rank, String)| (rank, name) < (*other, text.as_bytes());
        if !name.is_empty() && known.symbol.as_ref().is_none_or(is_better) {
            known.symbol = Some((rank, String::from_utf8_lossy(name).into_owned()));
        }
    }
}

/// Starts and sizes from .eh_frame, up to the first damage.
fn unwound<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let Some((address, bytes)) = eh_frame(layout) else { return found };
    let frames = EhFrame::new(bytes, gimli::LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = frames.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(function) = partial.parse(EhFrame::cie_from_offset)
        {
            found.push((function.initial_address(), function.len()));
        }
    }
    found
}

/// Address and contents of .eh_frame: by its section, else by the header that unwinders look for.
fn eh_frame<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Option<(u64, &'data [u8])> {
    let by_name = layout.sections.iter().find(|one| layout.section_name(one) == b".eh_frame");
    if let Some(section) = by_name {
        let address = section.sh_addr(LE);
        return Some((address, layout.bytes_at(address, section.sh_size(LE))?));
    }
    let mut segments = layout.segments.iter();
    let header = segments.find(|segment| segment.p_type(LE) == elf::PT_GNU_EH_FRAME)?;
    let address = header.p_vaddr(LE);
    let bytes = layout.bytes_at(address, header.p_filesz(LE))?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(address);
    let parsed = EhFrameHdr::new(bytes, gimli::LittleEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(start) = parsed.eh_frame_ptr() else { return None };
    // It ends with a terminator, at the latest where its segment does.
    let loaded = layout.loaded().ok()?;
    let end = loaded.map(|s| (s.p_vaddr(LE), s.p_vaddr(LE) + s.p_filesz(LE)));
    let (_, end) = end.into_iter().find(|(from, to)| (*from..*to).contains(&start))?;
    Some((start, layout.bytes_at(start, end - start)?))
}
