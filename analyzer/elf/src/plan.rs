//! What must change in a file so that it needs one more library; nothing is written here.
//!
//! # Design
//!
//! The dynamic loader takes the names of needed libraries from the dynamic section and its string table.
//! The string table has no room, so a copy with one more name goes to a new segment behind the end of the
//! file, together with a longer program header table, which has no room either, and a [`Mark`] that says
//! how to undo it all. In the original part of the file these places change, and nothing moves:
//!
//! - file header: where the program headers are, and how many;
//! - dynamic section: one more entry, before the other needed libraries, so that the symbols of the new one
//!   come first, as those of a preloaded library do; address and size of the string table;
//! - section headers, where they exist: place and size of the string table.
//!
//! Linkers leave free entries in the dynamic section. Where there is none, a copy of the section goes to
//! the new segment, which is then writable, because the loader stores addresses there.
//!
//! The new segment's address and offset differ by as much as the first segment's. Kernels before Linux 5.18
//! tell a program that its headers are at the first segment's start plus their *file* offset (`AT_PHDR`), and
//! only so is that true. A file gets a hole for it, as large as its zero-initialised memory; where that were
//! more than 256 MiB, the newer kernel is needed.
//!
//! # Alternatives
//!
//! Moving sections out of the way at the front, as patchelf does with programs, changes every address below,
//! cannot be undone, and needs sections. Room inside the last page of a segment is enough for small programs
//! alone. `object`'s build module lays out the whole file anew, and keeps nothing that has no section.

use object::elf::{self, FileHeader64, SectionHeader64};
use object::read::ReadRef;
use object::read::elf::{Dyn as _, ProgramHeader as _, SectionHeader as _};
use object::{I64, LittleEndian as LE, U32, U64, pod};
use std::mem::offset_of;

use crate::layout::{Dynamic, Entry, Layout, MAX_SEGMENTS, PAGE, Segment};
use crate::mark::{self, Mark};

/// The library's own name, by which it is known to the dynamic loader.
pub const SHIM_NAME: &[u8] = b"libshim.so";

/// The longest path that the kernel takes (`PATH_MAX`, with its NUL).
const MAX_PATH: usize = 4096;

/// The largest hole that a file gets so that its program headers are found by kernels before Linux 5.18.
const MAX_HOLE: u64 = 256 << 20;

/// One changed place within the length of the original file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where in the file.
    pub offset: u64,
    /// The bytes in the original.
    pub old: Vec<u8>,
    /// The bytes in the rewritten file; as many.
    pub new: Vec<u8>,
}

/// What makes one file out of another: changed places, then bytes behind the end, or a shorter length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The changed places.
    pub patches: Vec<Patch>,
    /// Where the new file's own bytes begin: the rest of the old one is kept up to here.
    pub kept: u64,
    /// The file offset of [`Self::appended`]; from [`Self::kept`] to here is a hole.
    pub offset: u64,
    /// The bytes at the new end.
    pub appended: Vec<u8>,
    /// The address of those bytes in memory; 0 when there are none.
    pub address: u64,
    /// Whether a program of this layout starts on kernels from Linux 5.18 on only.
    pub needs_linux_5_18: bool,
    /// Whether the dynamic section had no free entry, and was copied to the new segment.
    pub moves_dynamic: bool,
}

/// Why a file is not rewritten. The texts are clauses about the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No ELF file, or one whose headers contradict themselves.
    #[error("its headers cannot be trusted: {0}")]
    Malformed(String),
    /// Of another processor or word size.
    #[error("is not for 64-bit x86-64, which libshim.so is for")]
    Foreign,
    /// An object file or a core dump.
    #[error("is neither a program nor a shared library")]
    NotLoadable,
    /// Without a dynamic loader.
    #[error("is statically linked: no dynamic loader would load a needed library")]
    Static,
    /// The dynamic loader, which loads itself without needed libraries.
    #[error("is the dynamic loader itself")]
    Loader,
    /// The library to add.
    #[error("is libshim.so itself")]
    Shim,
    /// It needs the library already.
    #[error("needs {needed} already{}", if *.is_ours { "; analyzer rewrite --undo takes it out" } else { "" })]
    AlreadyDone {
        /// The library as the file names it.
        needed: String,
        /// Whether `analyzer rewrite` put it there.
        is_ours: bool,
    },
    /// No rewritten file was to be undone.
    #[error("was not rewritten by analyzer rewrite")]
    NotRewritten,
    /// Rewritten, and changed by something else afterwards.
    #[error("was changed after it was rewritten, at file offset {0:#x}: undo that first")]
    ChangedSince(u64),
    /// A section that vouches for the file's bytes.
    #[error("carries a signature or checksum that would no longer hold: {0}")]
    Signed(String),
    /// It runs with other rights than its caller's.
    #[error(
        "is {0}: the dynamic loader trusts what it needs, and libshim.so counts nothing there; --allow-setuid does it nevertheless"
    )]
    Privileged(&'static str),
    /// Something is glued to the program, which probably looks for it at its own end.
    #[error(
        "has {0} bytes behind its ELF contents, which it may look for at its own end (an archive?)"
    )]
    Trailing(u64),
    /// The name of the library cannot stand in the file.
    #[error("cannot be made to need {0:?}: a path of 1 to 4095 bytes without NUL is expected")]
    BadName(String),
    /// No room for more program headers.
    #[error("has {0} program headers: the kernel takes no more")]
    TooManySegments(usize),
}

/// Sections whose contents vouch for the file, by name: Solaris elfsign, bsign, the integrity note of
/// libgcrypt and gnutls (`.note.fdo.integrity`), AppImage's digest and signature, prelink's checksums.
const VOUCHING: [&[u8]; 10] = [
    b".SUNW_signature",
    b"signature",
    b".signature",
    b".sig",
    b".note.fdo.integrity",
    b".hmac",
    b".sha256_sig",
    b".digest_md5",
    b".gnu.prelink_undo",
    b".checksum",
];

/// Entries whose value is a place in the string table.
const TEXTS: [elf::DynamicTag; 6] = [
    elf::DT_NEEDED,
    elf::DT_SONAME,
    elf::DT_RPATH,
    elf::DT_RUNPATH,
    elf::DT_AUXILIARY,
    elf::DT_FILTER,
];

/// The plan for making a file need the library `name`, before all others.
///
/// # Errors
/// The reason why it cannot be done.
pub fn add_needed<'data, R: ReadRef<'data>>(
    layout: &Layout<'data, R>,
    name: &[u8],
) -> Result<Plan, Refusal> {
    if name.is_empty() || name.len() >= MAX_PATH || name.contains(&0) {
        return Err(Refusal::BadName(String::from_utf8_lossy(name).into_owned()));
    }
    let dynamic = rewritable(layout)?;
    let new_count = layout.segments.len() + 2;
    if new_count > MAX_SEGMENTS {
        return Err(Refusal::TooManySegments(layout.segments.len()));
    }
    let malformed = |why: &str| Refusal::Malformed(why.to_owned());

    // Where the new segment lies.
    let loaded = layout.loaded().map_err(Refusal::Malformed)?;
    let first = loaded.clone().next().ok_or_else(|| malformed("nothing in it is loaded"))?;
    let bias = first.p_vaddr(LE).wrapping_sub(first.p_offset(LE));
    let memory_end = loaded.map(|segment| segment.p_vaddr(LE) + segment.p_memsz(LE)).max();
    let memory_end = memory_end.unwrap_or(0);
    // A first segment that lies higher in the file than in memory makes the bias negative.
    let from_memory = (memory_end as i64).checked_sub(bias as i64).unwrap_or(0).max(0) as u64;
    let old_end = layout.length.next_multiple_of(PAGE);
    let hole_is_small = from_memory.saturating_sub(old_end) <= MAX_HOLE;
    let offset =
        if hole_is_small { from_memory.next_multiple_of(PAGE).max(old_end) } else { old_end };
    let address =
        if hole_is_small { offset.wrapping_add(bias) } else { memory_end.next_multiple_of(PAGE) };
    if address < memory_end || address.checked_add(1 << 32).is_none_or(|end| end > 1 << 47) {
        return Err(malformed("there is no room for a segment behind its last one"));
    }

    // What it holds: program headers, dynamic section, mark, strings.
    let moves_dynamic = dynamic.spare() == 0;
    let headers_size = new_count * size_of::<Segment>();
    let dynamic_at = headers_size.next_multiple_of(16);
    let entry_count = dynamic.used + 2;
    let dynamic_size = if moves_dynamic { entry_count * size_of::<Entry>() } else { 0 };
    let strings_size = dynamic.strings.len() + name.len() + 1;
    let entries =
        |strings_address: u64| new_entries(&dynamic, strings_address, strings_size as u64);

    let mark_at = dynamic_at + dynamic_size;
    let mut mark =
        Mark { original_length: layout.length, rewritten_length: 0, patches: Vec::new() };
    // Every patch has a length that is known before its contents are.
    let draft = |strings_at: usize| {
        let strings_address = address + strings_at as u64;
        patches(
            layout,
            &dynamic,
            &Place {
                offset,
                count: new_count as u16,
                entries: entries(strings_address),
                dynamic: moves_dynamic.then_some((dynamic_at as u64, address + dynamic_at as u64)),
                strings: (offset + strings_at as u64, strings_address, strings_size as u64),
            },
        )
    };
    mark.patches = draft(0)?;
    let strings_at = mark_at + mark.note().len();
    mark.patches = draft(strings_at)?;
    let size = strings_at + strings_size;
    mark.rewritten_length = offset + size as u64;
    let note = mark.note();

    let mut segments = layout.segments.to_vec();
    for segment in &mut segments {
        match segment.p_type(LE) {
            elf::PT_PHDR => move_to(segment, offset, address, headers_size as u64),
            elf::PT_DYNAMIC if moves_dynamic => {
                let moved = dynamic_at as u64;
                move_to(segment, offset + moved, address + moved, dynamic_size as u64);
            }
            _ => {}
        }
    }
    let last = segments.iter().rposition(|segment| segment.p_type(LE) == elf::PT_LOAD).unwrap_or(0);
    let writable = if moves_dynamic { elf::PF_W.0 } else { 0 };
    let flags = elf::ProgramFlags(elf::PF_R.0 | writable);
    segments.insert(last + 1, new_segment(elf::PT_LOAD, flags, PAGE, offset, address, size));
    let (note_offset, note_address) = (offset + mark_at as u64, address + mark_at as u64);
    segments.push(new_segment(elf::PT_NOTE, elf::PF_R, 4, note_offset, note_address, note.len()));

    let mut appended = pod::bytes_of_slice(&segments).to_vec();
    appended.resize(dynamic_at, 0);
    if moves_dynamic {
        appended.extend(pod::bytes_of_slice(&entries(address + strings_at as u64)));
    }
    appended.extend(&note);
    appended.extend(dynamic.strings);
    appended.extend(name);
    appended.push(0);
    Ok(Plan {
        patches: mark.patches,
        kept: layout.length,
        offset,
        appended,
        address,
        needs_linux_5_18: !hole_is_small,
        moves_dynamic,
    })
}

/// The plan for giving back the original of a rewritten file.
///
/// # Errors
/// The reason why it cannot be done.
pub fn undo<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Result<Plan, Refusal> {
    let mark = find_mark(layout)?.ok_or(Refusal::NotRewritten)?;
    if mark.rewritten_length != layout.length || mark.original_length > layout.length {
        return Err(Refusal::ChangedSince(layout.length.min(mark.rewritten_length)));
    }
    for patch in &mark.patches {
        let end = patch.offset.checked_add(patch.new.len() as u64);
        let found = layout.data.read_bytes_at(patch.offset, patch.new.len() as u64);
        if end.is_none_or(|end| end > mark.original_length) || found != Ok(&patch.new) {
            return Err(Refusal::ChangedSince(patch.offset));
        }
    }
    let back = |patch: Patch| Patch { offset: patch.offset, old: patch.new, new: patch.old };
    Ok(Plan {
        patches: mark.patches.into_iter().map(back).collect(),
        kept: mark.original_length,
        offset: mark.original_length,
        appended: Vec::new(),
        address: 0,
        needs_linux_5_18: false,
        moves_dynamic: false,
    })
}

/// What the mark of a rewritten file says.
///
/// # Errors
/// When there is one and it cannot be read.
pub fn find_mark<'data, R: ReadRef<'data>>(
    layout: &Layout<'data, R>,
) -> Result<Option<Mark>, Refusal> {
    let is_mark =
        |note: &crate::layout::Note<'_>| note.owner == mark::OWNER && note.kind == mark::KIND;
    let note = layout.notes().into_iter().find(is_mark);
    note.map(|note| Mark::read(note.contents).map_err(Refusal::Malformed)).transpose()
}

/// The dynamic section of a file that can be rewritten.
fn rewritable<'data, R: ReadRef<'data>>(
    layout: &Layout<'data, R>,
) -> Result<Dynamic<'data>, Refusal> {
    let file_type = layout.header.e_type.get(LE);
    if file_type != elf::ET_EXEC && file_type != elf::ET_DYN {
        return Err(Refusal::NotLoadable);
    }
    let dynamic = layout.dynamic().map_err(Refusal::Malformed)?.ok_or(Refusal::Static)?;
    let is_text = |entry: &&Entry| TEXTS.contains(&entry.d_tag(LE));
    let length = dynamic.strings.len() as u64;
    if dynamic.strings.last() != Some(&0)
        || dynamic.used().iter().filter(is_text).any(|entry| entry.d_val(LE) >= length)
    {
        return Err(Refusal::Malformed("a name of its dynamic section has no end".to_owned()));
    }
    let has_loader = layout.segments.iter().any(|segment| segment.p_type(LE) == elf::PT_INTERP);
    let flags = dynamic.value(elf::DT_FLAGS_1).unwrap_or(0);
    if !has_loader && (file_type == elf::ET_EXEC || flags & elf::DF_1_PIE.0 != 0) {
        return Err(Refusal::Static);
    }
    let own_name = dynamic.strings_of(elf::DT_SONAME).next().unwrap_or_default();
    if own_name.starts_with(b"ld-") || own_name.starts_with(b"ld.so") {
        return Err(Refusal::Loader);
    }
    if own_name == SHIM_NAME {
        return Err(Refusal::Shim);
    }
    let is_shim = |needed: &&[u8]| needed.rsplit(|&byte| byte == b'/').next() == Some(SHIM_NAME);
    let is_marked = find_mark(layout)?.is_some();
    if let Some(needed) = dynamic.strings_of(elf::DT_NEEDED).find(is_shim) {
        let needed = String::from_utf8_lossy(needed).into_owned();
        return Err(Refusal::AlreadyDone { needed, is_ours: is_marked });
    }
    if is_marked {
        let needed = "libshim.so under another name".to_owned();
        return Err(Refusal::AlreadyDone { needed, is_ours: true });
    }
    for section in layout.sections {
        let name = layout.section_name(section);
        if VOUCHING.contains(&name) && section.sh_size(LE) > 0 {
            return Err(Refusal::Signed(format!("section {}", String::from_utf8_lossy(name))));
        }
    }
    for (tag, name) in [(elf::DT_CHECKSUM, "DT_CHECKSUM"), (elf::DT_GNU_PRELINKED, "prelink")] {
        if dynamic.value(tag).is_some_and(|value| value != 0) {
            return Err(Refusal::Signed(format!("{name} in the dynamic section")));
        }
    }
    Ok(dynamic)
}

/// The entries with one more needed library, whose name stands at the end of the string table; a terminating
/// one at their end.
fn new_entries(dynamic: &Dynamic<'_>, strings_address: u64, strings_size: u64) -> Vec<Entry> {
    let entry = |tag, value| Entry { d_tag: I64::new(LE, tag), d_val: U64::new(LE, value) };
    let mut entries = dynamic.used().to_vec();
    for known in &mut entries {
        match known.d_tag(LE) {
            elf::DT_STRTAB => known.d_val.set(LE, strings_address),
            elf::DT_STRSZ => known.d_val.set(LE, strings_size),
            _ => {}
        }
    }
    let is_needed = |known: &Entry| known.d_tag(LE) == elf::DT_NEEDED;
    let place = entries.iter().position(is_needed).unwrap_or(0);
    entries.insert(place, entry(elf::DT_NEEDED, dynamic.strings.len() as u64));
    entries.push(entry(elf::DT_NULL, 0));
    entries
}

/// Where the new things are.
struct Place {
    /// File offset of the program headers.
    offset: u64,
    count: u16,
    entries: Vec<Entry>,
    /// Place in the segment and address of the dynamic section, if it moved.
    dynamic: Option<(u64, u64)>,
    /// File offset, address and size of the string table.
    strings: (u64, u64, u64),
}

/// The changes within the original's length.
fn patches<'data, R: ReadRef<'data>>(
    layout: &Layout<'data, R>,
    dynamic: &Dynamic<'data>,
    place: &Place,
) -> Result<Vec<Patch>, Refusal> {
    let mut patches = Vec::new();
    let mut change = |offset: u64, new: &[u8]| {
        let old = layout.data.read_bytes_at(offset, new.len() as u64);
        let old = old.map_err(|()| Refusal::Malformed(format!("it ends before {offset:#x}")))?;
        patches.push(Patch { offset, old: old.to_vec(), new: new.to_vec() });
        Ok(())
    };
    change(offset_of!(FileHeader64<LE>, e_phoff) as u64, &place.offset.to_le_bytes())?;
    change(offset_of!(FileHeader64<LE>, e_phnum) as u64, &place.count.to_le_bytes())?;
    let segment = &layout.segments[dynamic.segment];
    if place.dynamic.is_none() {
        change(segment.p_offset(LE), pod::bytes_of_slice(&place.entries))?;
    }
    for (index, section) in layout.sections.iter().enumerate() {
        let (kind, at) = (section.sh_type(LE), section.sh_addr(LE));
        let (offset, address, size) = match place.dynamic {
            _ if kind == elf::SHT_STRTAB && at == dynamic.strings_address => place.strings,
            Some((within, address)) if kind == elf::SHT_DYNAMIC && at == segment.p_vaddr(LE) => {
                (place.offset + within, address, size_of_val(&*place.entries) as u64)
            }
            _ => continue,
        };
        // sh_addr, sh_offset and sh_size stand side by side.
        let header =
            layout.header.e_shoff.get(LE) + (index * size_of::<SectionHeader64<LE>>()) as u64;
        let words = [address, offset, size].map(u64::to_le_bytes);
        change(header + offset_of!(SectionHeader64<LE>, sh_addr) as u64, words.as_flattened())?;
    }
    patches.sort_by_key(|patch| patch.offset);
    let end = |patch: &Patch| patch.offset + patch.new.len() as u64;
    let is_early = |patch: &&Patch| patch.offset < size_of::<FileHeader64<LE>>() as u64;
    let overlap = patches.windows(2).any(|pair| end(&pair[0]) > pair[1].offset);
    if overlap || patches.iter().filter(is_early).count() > 2 {
        return Err(Refusal::Malformed("its tables overlap each other".to_owned()));
    }
    Ok(patches)
}

fn new_segment(
    kind: elf::ProgramType,
    flags: elf::ProgramFlags,
    align: u64,
    offset: u64,
    address: u64,
    size: usize,
) -> Segment {
    let word = |value| U64::new(LE, value);
    Segment {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: word(offset),
        p_vaddr: word(address),
        p_paddr: word(address),
        p_filesz: word(size as u64),
        p_memsz: word(size as u64),
        p_align: word(align),
    }
}

fn move_to(segment: &mut Segment, offset: u64, address: u64, size: u64) {
    for (field, value) in [
        (&mut segment.p_offset, offset),
        (&mut segment.p_vaddr, address),
        (&mut segment.p_paddr, address),
        (&mut segment.p_filesz, size),
        (&mut segment.p_memsz, size),
    ] {
        field.set(LE, value);
    }
}

impl Plan {
    /// The new file's length.
    pub fn length(&self) -> u64 {
        self.offset + self.appended.len() as u64
    }

    /// The new file, made in memory from the old one. Files are rewritten by [`crate::rewrite`]; this is for
    /// those who try many small ones.
    pub fn apply(&self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original[..self.kept as usize].to_vec();
        for patch in &self.patches {
            let start = patch.offset as usize;
            bytes[start..start + patch.new.len()].copy_from_slice(&patch.new);
        }
        bytes.resize(self.offset as usize, 0);
        bytes.extend(&self.appended);
        bytes
    }
}
