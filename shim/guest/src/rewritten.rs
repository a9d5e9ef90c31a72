//! Whether a loaded object was made to need this library by `analyzer rewrite`: it carries a note
//! that says so.
//!
//! Format: ELF notes (System V ABI, "Note Section"); the owner is written by
//! `analyzer/elf/src/mark.rs`.

/// The note's owner, with its NUL.
const OWNER: &[u8] = b"sparkanalyzer\0";
/// The note's type.
const KIND: u32 = 1;

/// Whether this note segment begins with the mark, as the segment that the rewriter adds does.
pub fn is_mark(notes: &[u8]) -> bool {
    let word = |place: usize| {
        let bytes = notes.get(4 * place..4 * place + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    word(0) == Some(OWNER.len() as u32) && word(2) == Some(KIND) && notes[12..].starts_with(OWNER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mark_is_one() {
        let mark = b"\x0e\0\0\0\x04\0\0\0\x01\0\0\0sparkanalyzer\0\0\0abcd";
        assert!(is_mark(mark));
        for (place, value) in [(0, 13), (8, 2), (12, b'S')] {
            let mut other = mark.to_vec();
            other[place] = value;
            assert!(!is_mark(&other), "{place}");
        }
        for length in 0..26 {
            assert!(!is_mark(&mark[..length]), "{length}");
        }
        assert!(!is_mark(b"\x04\0\0\0\x10\0\0\0\x05\0\0\0GNU\0"));
    }
}
