//! What an executable file says about itself in its ELF header and program headers.
//!
//! Only these headers are read, however large the file is; nothing in them is trusted. Sizes and
//! types are checked against what the kernel accepts (Linux `fs/binfmt_elf.c`, `load_elf_phdrs` and
//! `load_elf_binary`).

use std::ffi::OsString;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};

/// The longest interpreter path that the kernel takes (`PATH_MAX`, with its NUL).
const MAX_INTERPRETER: u64 = 4096;

/// The largest program header table that the kernel takes.
const MAX_SEGMENT_TABLE: usize = 65536;

/// The largest dynamic section that is looked at; libxul.so's has some 2 KiB.
const MAX_DYNAMIC: u64 = 1 << 20;

/// How an ELF image comes to life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A program with an interpreter (`PT_INTERP`), position independent or not.
    Dynamic {
        /// Path of the dynamic loader.
        interpreter: PathBuf,
    },
    /// A program at a fixed address without an interpreter.
    Static,
    /// A position-independent program without an interpreter.
    StaticPie,
    /// A shared object that is not marked as a program.
    SharedObject,
    /// An object file or a core dump: not a program.
    NotAProgram,
}

/// The facts of one ELF file that decide who can run and count it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// How it comes to life.
    pub kind: Kind,
    /// True for `ELFCLASS64`.
    pub is_64_bit: bool,
    /// `e_machine`, for example 62 for x86-64.
    pub machine: u16,
}

impl Image {
    /// Reads the headers of `file`.
    ///
    /// # Errors
    /// A text that says what is wrong when the file is not ELF or its headers contradict
    /// themselves.
    pub fn read(file: impl Read + Seek) -> Result<Image, String> {
        let cache = ReadCache::new(file);
        let ident =
            cache.read_bytes_at(0, 16).map_err(|()| "shorter than an ELF header".to_owned())?;
        if !ident.starts_with(b"\x7fELF") {
            return Err("no ELF magic".to_owned());
        }
        match elf::FileClass(ident[4]) {
            elf::ELFCLASS32 => read_image::<elf::FileHeader32<object::Endianness>>(&cache),
            elf::ELFCLASS64 => read_image::<elf::FileHeader64<object::Endianness>>(&cache),
            other => Err(format!("unknown ELF class {}", other.0)),
        }
    }

    /// True when this is code for the processor family that `libshim.so` is built for.
    pub fn is_x86_64(&self) -> bool {
        self.is_64_bit && self.machine == elf::EM_X86_64.0
    }

    /// The usual name of its architecture (numbers from the ELF specification's registry).
    pub fn architecture(&self) -> String {
        let name = match self.machine {
            2 => "SPARC",
            3 => "i386",
            8 => "MIPS",
            20 => "PowerPC",
            21 => "PowerPC64",
            22 => "S/390",
            40 => "ARM",
            43 => "SPARC64",
            50 => "Itanium",
            62 if self.is_64_bit => "x86-64",
            62 => "x32, the 32-bit ABI of x86-64",
            183 => "AArch64",
            243 => "RISC-V",
            258 => "LoongArch",
            other => return format!("ELF machine {other}"),
        };
        name.to_owned()
    }
}

fn read_image<'data, Elf>(data: impl ReadRef<'data>) -> Result<Image, String>
where
    Elf: FileHeader<Endian = object::Endianness>,
{
    let describe = |error: object::read::Error| error.to_string();
    let header = Elf::parse(data).map_err(describe)?;
    let endian = header.endian().map_err(describe)?;
    let machine = header.e_machine(endian).0;
    let image = |kind| Image { kind, is_64_bit: header.is_type_64(), machine };
    let file_type = header.e_type(endian);
    if file_type != elf::ET_EXEC && file_type != elf::ET_DYN {
        return Ok(image(Kind::NotAProgram));
    }
    let table = usize::from(header.e_phnum(endian)) * size_of::<Elf::ProgramHeader>();
    if table == 0 || table > MAX_SEGMENT_TABLE {
        return Err(format!("a program header table of {table} bytes"));
    }
    let segments = header.program_headers(endian, data).map_err(describe)?;
    for segment in segments {
        if segment.p_type(endian) != elf::PT_INTERP {
            continue;
        }
        let (offset, size) = segment.file_range(endian);
        if !(2..=MAX_INTERPRETER).contains(&size) {
            return Err(format!("an interpreter path of {size} bytes"));
        }
        let path = data
            .read_bytes_at(offset, size)
            .map_err(|()| "its interpreter path lies outside the file".to_owned())?;
        let Some((0, path)) = path.split_last() else {
            return Err("its interpreter path has no end".to_owned());
        };
        let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
        let interpreter = PathBuf::from(OsString::from_vec(path[..end].to_vec()));
        return Ok(image(Kind::Dynamic { interpreter }));
    }
    if file_type == elf::ET_EXEC {
        return Ok(image(Kind::Static));
    }
    let mut is_pie = false;
    for segment in segments {
        if segment.p_type(endian) != elf::PT_DYNAMIC || segment.file_range(endian).1 > MAX_DYNAMIC {
            continue;
        }
        for entry in segment.dynamic(endian, data).map_err(describe)?.unwrap_or_default() {
            let value: u64 = entry.d_val(endian).into();
            is_pie |= entry.d_tag(endian) == elf::DT_FLAGS_1 && value & elf::DF_1_PIE.0 != 0;
        }
    }
    Ok(image(if is_pie { Kind::StaticPie } else { Kind::SharedObject }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A little-endian ELF64 file with one `PT_INTERP` (if given) or `PT_DYNAMIC` segment.
    fn elf64(file_type: u16, machine: u16, segment: (u32, &[u8])) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        file.extend(file_type.to_le_bytes());
        file.extend(machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        for word in [0x1000u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 1, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        file.extend(segment.0.to_le_bytes());
        file.extend(4u32.to_le_bytes());
        let size = segment.1.len() as u64;
        for word in [120, 120, 120, size, size, 1] {
            file.extend(u64::to_le_bytes(word));
        }
        file.extend(segment.1);
        file
    }

    fn read(file: &[u8]) -> Result<Image, String> {
        Image::read(Cursor::new(file))
    }

    #[test]
    fn kinds() {
        let dynamic = read(&elf64(2, 62, (3, b"/lib/ld.so\0"))).expect("well formed");
        assert_eq!(dynamic.kind, Kind::Dynamic { interpreter: "/lib/ld.so".into() });
        assert!(dynamic.is_x86_64());
        let load = (1, &b"code"[..]);
        assert_eq!(read(&elf64(2, 62, load)).expect("well formed").kind, Kind::Static);
        assert_eq!(read(&elf64(1, 62, load)).expect("well formed").kind, Kind::NotAProgram);
        assert_eq!(read(&elf64(3, 62, load)).expect("well formed").kind, Kind::SharedObject);
        let mut pie = 0x6fff_fffb_u64.to_le_bytes().to_vec();
        pie.extend(0x0800_0000_u64.to_le_bytes());
        assert_eq!(read(&elf64(3, 62, (2, &pie))).expect("well formed").kind, Kind::StaticPie);
        assert!(!read(&elf64(2, 183, load)).expect("well formed").is_x86_64());
    }

    #[test]
    fn contradictions_are_named() {
        assert_eq!(read(b"#!/bin/sh\n").expect_err("text"), "shorter than an ELF header");
        assert_eq!(read(&[b'x'; 64]).expect_err("text"), "no ELF magic");
        let unterminated = read(&elf64(2, 62, (3, b"/lib/ld.so"))).expect_err("no NUL");
        assert_eq!(unterminated, "its interpreter path has no end");
        let mut far = elf64(2, 62, (3, b"/lib/ld.so\0"));
        far[72..80].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(read(&far).expect_err("far"), "its interpreter path lies outside the file");
        let mut huge = elf64(2, 62, (3, b"/lib/ld.so\0"));
        huge[96..104].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(
            read(&huge).expect_err("huge"),
            format!("an interpreter path of {} bytes", u64::MAX)
        );
        let mut many = elf64(2, 62, (3, b"/lib/ld.so\0"));
        many[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(read(&many).expect_err("many"), "a program header table of 3669960 bytes");
    }

    #[test]
    fn this_very_test_program_is_dynamic() {
        let own = std::env::current_exe().expect("a path");
        let image = Image::read(std::fs::File::open(own).expect("readable")).expect("ELF");
        assert!(matches!(image.kind, Kind::Dynamic { .. }), "{image:?}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut file in prop::collection::vec(any::<u8>(), 0..512), elf: bool) {
            if elf && file.len() > 8 {
                file[..4].copy_from_slice(b"\x7fELF");
                file[4] = 1 + file[4] % 2;
                file[5] = 1 + file[5] % 2;
                file[6] = 1;
            }
            let _ = read(&file);
        }

        #[test]
        fn changed_headers_never_panic(
            changes in prop::collection::vec((0usize..160, any::<u8>()), 1..8),
            segment in prop::sample::select(vec![1u32, 2, 3]),
            cut in 0usize..200,
        ) {
            let mut file = elf64(3, 62, (segment, &[0x5a; 32]));
            for (place, value) in changes {
                if let Some(byte) = file.get_mut(place) {
                    *byte = value;
                }
            }
            file.truncate(cut.max(16));
            let _ = read(&file);
        }
    }
}
