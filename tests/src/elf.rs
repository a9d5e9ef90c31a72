//! The little that the stepper must know of an ELF file: its entry point and its symbols.
//!
//! Format: System V ABI, chapter 4 (ELF64, little-endian).

use std::collections::HashMap;
use std::path::Path;

/// Entry point and symbols of an executable, as addresses in the file (without load bias).
#[derive(Debug)]
pub struct Executable {
    /// `e_entry`.
    pub entry: u64,
    symbols: HashMap<String, u64>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, String> {
    let slice = bytes.get(at..at + N).ok_or_else(|| format!("ELF: nothing at {at:#x}"))?;
    Ok(slice.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

impl Executable {
    /// Reads the symbol table of a 64-bit little-endian ELF file.
    ///
    /// # Errors
    /// A line that says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(format!("{}: not a 64-bit little-endian ELF file", path.display()));
        }
        let section_headers = number::<8>(&bytes, 0x28)? as usize;
        let section_count = number::<2>(&bytes, 0x3c)? as usize;
        let section = |index: usize| section_headers + index * 64;
        let mut symbols = HashMap::new();
        for index in 0..section_count {
            let header = section(index);
            const SHT_SYMTAB: u64 = 2;
            if number::<4>(&bytes, header + 4)? != SHT_SYMTAB {
                continue;
            }
            let (offset, size) = (
                number::<8>(&bytes, header + 24)? as usize,
                number::<8>(&bytes, header + 32)? as usize,
            );
            let strings = section(number::<4>(&bytes, header + 40)? as usize);
            let names = number::<8>(&bytes, strings + 24)? as usize;
            for symbol in (offset..offset + size).step_by(24) {
                let name_at = names + number::<4>(&bytes, symbol)? as usize;
                let name: Vec<u8> =
                    bytes[name_at..].iter().copied().take_while(|byte| *byte != 0).collect();
                let section_index = number::<2>(&bytes, symbol + 6)?;
                if !name.is_empty() && section_index != 0 {
                    symbols.insert(
                        String::from_utf8_lossy(&name).into_owned(),
                        number::<8>(&bytes, symbol + 8)?,
                    );
                }
            }
        }
        Ok(Self { entry: number::<8>(&bytes, 0x18)?, symbols })
    }

    /// The largest address of a symbol: nothing of the file is mapped much beyond it.
    pub fn last_symbol(&self) -> u64 {
        self.symbols.values().copied().max().unwrap_or(0)
    }

    /// Address of a symbol that the file defines.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).copied()
    }
}
