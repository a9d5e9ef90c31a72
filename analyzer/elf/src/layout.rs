//! The parts of a 64-bit x86-64 ELF file: header, segments, sections, dynamic section.
//!
//! Only these tables are read, however large the file is, and nothing in them is trusted: what a caller
//! gets lies within the file and within the sizes that kernel and dynamic loader accept.
//!
//! # Limitations
//!
//! More than 65,535 sections or 1,170 segments are refused: the kernel takes no more segments, and no linker
//! makes programs of so many sections.

use object::elf::{self, Dyn64, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::read::{ReadRef, StringTable};
use object::{LittleEndian as LE, pod};

/// The file header of a 64-bit little-endian file.
pub type Header = FileHeader64<LE>;
/// A program header.
pub type Segment = ProgramHeader64<LE>;
/// A section header.
pub type Section = SectionHeader64<LE>;
/// An entry of the dynamic section.
pub type Entry = Dyn64<LE>;

/// Pages of x86-64; addresses and file offsets of a segment agree below it.
pub const PAGE: u64 = 4096;
/// The end of user space with 4-level page tables (Linux `Documentation/arch/x86/x86_64/mm.rst`).
const USER_SPACE: u64 = 1 << 47;
/// The most program headers that the kernel takes (Linux `fs/binfmt_elf.c`, `load_elf_phdrs`).
pub const MAX_SEGMENTS: usize = 65536 / size_of::<Segment>();
/// The largest dynamic section that is looked at; libxul.so's has some 2 KiB.
const MAX_DYNAMIC: u64 = 1 << 20;
/// The largest dynamic string table that is looked at; libLLVM's has some 10 MiB.
const MAX_STRINGS: u64 = 1 << 30;
/// The largest note segment that is looked at.
const MAX_NOTES: u64 = 1 << 16;

/// A file's tables.
#[derive(Clone, Copy)]
pub struct Layout<'data, R: ReadRef<'data>> {
    /// Where the file is read from.
    pub data: R,
    /// The file's length.
    pub length: u64,
    /// The file header.
    pub header: &'data Header,
    /// The program headers.
    pub segments: &'data [Segment],
    /// The section headers; none in a file whose section table was removed.
    pub sections: &'data [Section],
    names: StringTable<'data, R>,
}

/// The dynamic section, and the strings that its entries refer to.
#[derive(Clone, Copy, Debug)]
pub struct Dynamic<'data> {
    /// Its place among the program headers.
    pub segment: usize,
    /// All entries of the segment, those behind the terminating one included.
    pub entries: &'data [Entry],
    /// How many entries there are before the terminating one.
    pub used: usize,
    /// The address of the string table.
    pub strings_address: u64,
    /// The string table.
    pub strings: &'data [u8],
}

/// One note: its owner, type and contents.
#[derive(Debug)]
pub struct Note<'data> {
    /// Who defines the type, for example `GNU`.
    pub owner: &'data [u8],
    /// The type.
    pub kind: u32,
    /// The contents.
    pub contents: &'data [u8],
    /// The properties, in a note of GNU properties.
    pub properties: Option<object::read::elf::GnuPropertyIterator<'data, LE>>,
}

impl<'data, R: ReadRef<'data>> Layout<'data, R> {
    /// Reads the tables of a 64-bit x86-64 file.
    ///
    /// # Errors
    /// A text that says what is wrong with the file.
    pub fn read(data: R) -> Result<Self, String> {
        let describe = |error: object::read::Error| error.to_string();
        let length = data.len().map_err(|()| "its length is unknown".to_owned())?;
        let header = Header::parse(data).map_err(describe)?;
        if !header.is_little_endian() || header.e_machine.get(LE) != elf::EM_X86_64 {
            return Err("not a 64-bit x86-64 file".to_owned());
        }
        let count = usize::from(header.e_phnum.get(LE));
        if count > MAX_SEGMENTS {
            return Err(format!("{count} program headers"));
        }
        let segments = header.program_headers(LE, data).map_err(describe)?;
        // As the kernel does; a table of more sections than fit 16 bits would take its size from one of them.
        let sections = if header.e_shnum.get(LE) == 0 {
            &[]
        } else {
            header.section_headers(LE, data).map_err(describe)?
        };
        let names = match header.e_shstrndx.get(LE) {
            elf::SHN_UNDEF => StringTable::default(),
            _ => header.section_strings(LE, data, sections).map_err(describe)?,
        };
        Ok(Layout { data, length, header, segments, sections, names })
    }

    /// The loaded segments, checked: in ascending order, apart from each other, within the file and within
    /// user space, with addresses and offsets that agree within a page. The dynamic loader relies on that.
    ///
    /// # Errors
    /// A text that says which of them is wrong.
    pub fn loaded(
        &self,
    ) -> Result<impl Iterator<Item = &'data Segment> + Clone + use<'data, R>, String> {
        let loaded = self.segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD);
        let mut end = 0;
        for (place, segment) in loaded.clone().enumerate() {
            let (address, offset) = (segment.p_vaddr(LE), segment.p_offset(LE));
            let (in_file, in_memory) = (segment.p_filesz(LE), segment.p_memsz(LE));
            let file_end = offset.checked_add(in_file).filter(|end| *end <= self.length);
            let memory_end = address.checked_add(in_memory).filter(|end| *end <= USER_SPACE);
            let why = match (file_end, memory_end) {
                (None, _) => "reaches beyond the end of the file",
                (_, None) => "reaches beyond user space",
                _ if in_file > in_memory => "is larger in the file than in memory",
                _ if place > 0 && address < end => "begins before the end of the one before",
                _ if address % PAGE != offset % PAGE => {
                    "has an address and an offset that disagree"
                }
                (_, Some(memory_end)) => {
                    end = memory_end;
                    continue;
                }
            };
            return Err(format!("loaded segment {place} {why}"));
        }
        if end == 0 { Err("nothing in it is loaded".to_owned()) } else { Ok(loaded) }
    }

    /// The bytes that are loaded from the file at an address.
    pub fn bytes_at(&self, address: u64, size: u64) -> Option<&'data [u8]> {
        let offset = self.offset_of(address, size)?;
        self.data.read_bytes_at(offset, size).ok()
    }

    /// Where in the file `size` bytes at an address are loaded from.
    pub fn offset_of(&self, address: u64, size: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr(LE))?;
            let is_inside = segment.p_type(LE) == elf::PT_LOAD
                && within.checked_add(size)? <= segment.p_filesz(LE);
            is_inside.then(|| segment.p_offset(LE).checked_add(within))?
        })
    }

    /// The dynamic section; `None` in a file that has none.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn dynamic(&self) -> Result<Option<Dynamic<'data>>, String> {
        let is_dynamic = |segment: &Segment| segment.p_type(LE) == elf::PT_DYNAMIC;
        let Some(place) = self.segments.iter().position(is_dynamic) else {
            return Ok(None);
        };
        if self.segments.iter().filter(|segment| is_dynamic(segment)).count() > 1 {
            return Err("two dynamic sections".to_owned());
        }
        let segment = &self.segments[place];
        let size = segment.p_filesz(LE);
        if size > MAX_DYNAMIC
            || self.offset_of(segment.p_vaddr(LE), size) != Some(segment.p_offset(LE))
        {
            return Err("its dynamic section is not loaded from where it says".to_owned());
        }
        let bytes = self.data.read_bytes_at(segment.p_offset(LE), size);
        let bytes = bytes.map_err(|()| "its dynamic section lies outside the file".to_owned())?;
        let whole = size as usize / size_of::<Entry>();
        let (entries, _) = pod::slice_from_bytes::<Entry>(bytes, whole)
            .map_err(|()| "its dynamic section cannot be read".to_owned())?;
        let used = entries
            .iter()
            .position(|entry| entry.d_tag(LE) == elf::DT_NULL)
            .ok_or_else(|| "its dynamic section has no end".to_owned())?;
        let value =
            |tag| Some(entries[..used].iter().find(|entry| entry.d_tag(LE) == tag)?.d_val(LE));
        let (strings_address, strings) = match (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) {
            (Some(address), Some(size)) if size <= MAX_STRINGS => {
                let strings = self.bytes_at(address, size);
                (address, strings.ok_or_else(|| "its dynamic strings are not loaded".to_owned())?)
            }
            _ => return Err("its dynamic section names no string table".to_owned()),
        };
        Ok(Some(Dynamic { segment: place, entries, used, strings_address, strings }))
    }

    /// All notes of the note segments; those of a damaged segment end at the damage.
    pub fn notes(&self) -> Vec<Note<'data>> {
        let mut found = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.p_filesz(LE) <= MAX_NOTES) {
            let Ok(Some(notes)) = segment.notes(LE, self.data) else { continue };
            found.extend(notes.map_while(Result::ok).map(|note| Note {
                owner: note.name(),
                kind: note.n_type(LE).0,
                contents: note.desc(),
                properties: note.gnu_properties(LE),
            }));
        }
        found
    }

    /// A section's name; empty when it has none or one outside the name table.
    pub fn section_name(&self, section: &Section) -> &'data [u8] {
        self.names.get(section.sh_name(LE)).unwrap_or_default()
    }

    /// Where the last thing ends that a header speaks of; an archive glued to a program lies behind it.
    pub fn contents_end(&self) -> u64 {
        let table = |start: u64, count: usize, size: usize| {
            if count == 0 { 0 } else { start.saturating_add((count * size) as u64) }
        };
        let segments = self.segments.iter().map(|segment| segment.file_range(LE));
        let sections = self.sections.iter().filter_map(|section| section.file_range(LE));
        segments
            .chain(sections)
            .map(|(offset, size)| offset.saturating_add(size))
            .chain([
                table(self.header.e_phoff.get(LE), self.segments.len(), size_of::<Segment>()),
                table(self.header.e_shoff.get(LE), self.sections.len(), size_of::<Section>()),
            ])
            .max()
            .unwrap_or(0)
    }
}

impl<'data> Dynamic<'data> {
    /// The entries before the terminating one.
    pub fn used(&self) -> &'data [Entry] {
        &self.entries[..self.used]
    }

    /// Entries behind the terminating one that linkers leave for tools like this.
    pub fn spare(&self) -> usize {
        let is_free = |entry: &&Entry| entry.d_tag(LE) == elf::DT_NULL && entry.d_val(LE) == 0;
        self.entries[self.used + 1..].iter().take_while(is_free).count()
    }

    /// The value of the first entry of a kind.
    pub fn value(&self, tag: elf::DynamicTag) -> Option<u64> {
        Some(self.used().iter().find(|entry| entry.d_tag(LE) == tag)?.d_val(LE))
    }

    /// The strings of all entries of a kind, in their order; one outside the table is empty.
    pub fn strings_of(
        &self,
        tag: elf::DynamicTag,
    ) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        let strings = self.strings;
        self.used().iter().filter(move |entry| entry.d_tag(LE) == tag).map(move |entry| {
            let text = strings.get(entry.d_val(LE) as usize..).unwrap_or_default();
            &text[..text.iter().position(|&byte| byte == 0).unwrap_or(0)]
        })
    }
}
