//! What a 64-bit x86-64 file says about itself beyond its kind.

use std::path::PathBuf;

use object::LittleEndian as LE;
use object::elf;
use object::read::ReadRef;
use object::read::elf::{ProgramHeader as _, SectionHeader as _};

use crate::layout::Layout;
use crate::plan;

/// How much of its relocated data is read-only after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relro {
    /// Nothing.
    None,
    /// All but what lazy binding writes.
    Partial,
    /// Everything: functions are bound at the start.
    Full,
}

impl Relro {
    /// `none`, `partial` or `full`.
    pub fn name(self) -> &'static str {
        match self {
            Relro::None => "none",
            Relro::Partial => "partial",
            Relro::Full => "full",
        }
    }
}

/// The facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The library's own name.
    pub soname: Option<String>,
    /// Libraries that it needs, in order.
    pub needed: Vec<String>,
    /// Where it looks for them first.
    pub run_path: Vec<PathBuf>,
    /// The build id, in hexadecimal digits.
    pub build_id: Option<String>,
    /// Whether every indirect branch goes to an `endbr64` (CET).
    pub has_branch_tracking: bool,
    /// Whether it runs with a shadow stack (CET).
    pub has_shadow_stack: bool,
    /// Read-only relocations.
    pub relro: Relro,
    /// Whether it asks for an executable stack.
    pub has_executable_stack: bool,
    /// Whether it has variables of each thread.
    pub has_thread_local: bool,
    /// Whether it has a section table.
    pub has_sections: bool,
    /// Whether it has symbols beyond those of dynamic linking: not stripped.
    pub has_symbols: bool,
    /// Whether it has debugging information.
    pub has_debug_info: bool,
    /// Whether `analyzer rewrite` made it.
    pub is_rewritten: bool,
}

impl Facts {
    /// Gathers them.
    ///
    /// # Errors
    /// A text that says what is wrong with the file.
    pub fn read<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Result<Facts, String> {
        let dynamic = layout.dynamic()?;
        let texts = |tag| {
            let found = dynamic.iter().flat_map(move |dynamic| dynamic.strings_of(tag));
            found.map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>()
        };
        let value = |tag| dynamic.and_then(|dynamic| dynamic.value(tag)).unwrap_or(0);
        let binds_now = value(elf::DT_FLAGS) & elf::DF_BIND_NOW.0 != 0
            || value(elf::DT_FLAGS_1) & elf::DF_1_NOW.0 != 0
            || dynamic.is_some_and(|dynamic| dynamic.value(elf::DT_BIND_NOW).is_some());
        let segment = |kind| layout.segments.iter().find(|segment| segment.p_type(LE) == kind);
        let relro = match segment(elf::PT_GNU_RELRO) {
            None => Relro::None,
            Some(_) if binds_now => Relro::Full,
            Some(_) => Relro::Partial,
        };
        let stack = segment(elf::PT_GNU_STACK);
        let (mut build_id, mut features) = (None, 0);
        for note in layout.notes() {
            if note.owner == elf::ELF_NOTE_GNU && note.kind == elf::NT_GNU_BUILD_ID.0 {
                build_id = Some(note.contents.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            for property in note.properties.into_iter().flatten().map_while(Result::ok) {
                if property.pr_type() == elf::GNU_PROPERTY_X86_FEATURE_1_AND {
                    features |= property.data_u32(LE).unwrap_or(0);
                }
            }
        }
        let has_section = |named: &[u8]| {
            layout.sections.iter().any(|section| layout.section_name(section).starts_with(named))
        };
        let run_path = [texts(elf::DT_RUNPATH), texts(elf::DT_RPATH)].concat();
        Ok(Facts {
            soname: texts(elf::DT_SONAME).pop(),
            needed: texts(elf::DT_NEEDED),
            run_path: run_path.iter().flat_map(|list| list.split(':')).map(PathBuf::from).collect(),
            build_id,
            has_branch_tracking: features & elf::GNU_PROPERTY_X86_FEATURE_1_IBT != 0,
            has_shadow_stack: features & elf::GNU_PROPERTY_X86_FEATURE_1_SHSTK != 0,
            relro,
            has_executable_stack: stack.is_none_or(|stack| stack.p_flags(LE).0 & elf::PF_X.0 != 0),
            has_thread_local: segment(elf::PT_TLS).is_some(),
            has_sections: !layout.sections.is_empty(),
            has_symbols: layout.sections.iter().any(|one| one.sh_type(LE) == elf::SHT_SYMTAB),
            has_debug_info: has_section(b".debug_info") || has_section(b".zdebug_info"),
            is_rewritten: matches!(plan::find_mark(layout), Ok(Some(_))),
        })
    }
}
