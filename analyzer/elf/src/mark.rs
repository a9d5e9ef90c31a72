//! The note that a rewritten file carries: that it was rewritten, and how to undo it.
//!
//! # Format
//!
//! An ELF note (System V ABI, "Note Section") of the owner `sparkanalyzer`, type 1. Its contents are
//! little-endian: a CRC-32 of all that follows, the format's version (4 bytes each), the length of the original and of
//! the rewritten file (8 bytes each), and the changed places: offset in the file (8 bytes), length
//! (4 bytes), the bytes before and after the change. The library looks for this note too: a process with a
//! rewritten file in it is counted (`shim/guest/src/rewritten.rs`).

use crate::plan::Patch;

/// The note's owner.
pub const OWNER: &[u8] = b"sparkanalyzer";
/// The note's type.
pub const KIND: u32 = 1;
/// The version of the note's contents.
const VERSION: u32 = 1;

/// What the note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The original file's length.
    pub original_length: u64,
    /// The rewritten file's length.
    pub rewritten_length: u64,
    /// The changes within the original's length.
    pub patches: Vec<Patch>,
}

impl Mark {
    /// The whole note, header included.
    pub fn note(&self) -> Vec<u8> {
        let mut contents = vec![0; 4];
        contents.extend(VERSION.to_le_bytes());
        contents.extend(self.original_length.to_le_bytes());
        contents.extend(self.rewritten_length.to_le_bytes());
        for patch in &self.patches {
            contents.extend(patch.offset.to_le_bytes());
            contents.extend((patch.new.len() as u32).to_le_bytes());
            contents.extend(&patch.old);
            contents.extend(&patch.new);
        }
        let sum = crc32fast::hash(&contents[4..]);
        contents[..4].copy_from_slice(&sum.to_le_bytes());
        let mut note = Vec::with_capacity(contents.len() + 32);
        // The name's length includes a NUL; name and contents are padded to 4 bytes.
        for word in [OWNER.len() as u32 + 1, contents.len() as u32, KIND] {
            note.extend(word.to_le_bytes());
        }
        note.extend(OWNER);
        note.resize(note.len() / 4 * 4 + 4, 0);
        note.extend(contents);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    }

    /// Reads the note's contents.
    ///
    /// # Errors
    /// A text that says what is wrong with them.
    pub fn read(contents: &[u8]) -> Result<Mark, String> {
        let (sum, mut rest) = split::<4>(contents)?;
        if crc32fast::hash(rest) != u32::from_le_bytes(sum) {
            return Err("the note of the rewriting is damaged".to_owned());
        }
        let mut next = Fields(&mut rest);
        let version = next.u32()?;
        if version != VERSION {
            return Err(format!(
                "rewritten by another version (note version {version}, this is {VERSION})"
            ));
        }
        let (original_length, rewritten_length) = (next.u64()?, next.u64()?);
        let mut patches = Vec::new();
        while !next.0.is_empty() {
            let (offset, length) = (next.u64()?, next.u32()? as usize);
            patches.push(Patch { offset, old: next.bytes(length)?, new: next.bytes(length)? });
        }
        Ok(Mark { original_length, rewritten_length, patches })
    }
}

struct Fields<'a, 'b>(&'a mut &'b [u8]);

impl Fields<'_, '_> {
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, String> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut_off)?;
        *self.0 = rest;
        Ok(taken.to_vec())
    }

    fn u32(&mut self) -> Result<u32, String> {
        let (bytes, rest) = split(self.0)?;
        *self.0 = rest;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, String> {
        let (bytes, rest) = split(self.0)?;
        *self.0 = rest;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), String> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest)).ok_or_else(cut_off)
}

fn cut_off() -> String {
    "the note of the rewriting is cut off".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            lengths in any::<(u64, u64)>(),
            places in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<(u8, u8)>(), 0..20)), 0..5),
            damaged in any::<prop::sample::Index>(),
        ) {
            let patches = places.into_iter().map(|(offset, bytes)| {
                let (old, new) = bytes.into_iter().unzip();
                Patch { offset, old, new }
            });
            let mark = Mark {
                original_length: lengths.0,
                rewritten_length: lengths.1,
                patches: patches.collect(),
            };
            let note = mark.note();
            let head = 12 + 16;
            let length = u32::from_le_bytes(note[4..8].try_into().expect("four bytes")) as usize;
            let contents = &note[head..head + length];
            prop_assert_eq!(Mark::read(contents), Ok(mark));
            let mut other = contents.to_vec();
            let place = damaged.index(other.len());
            other[place] ^= 0x10;
            prop_assert!(Mark::read(&other).is_err());
            prop_assert!(Mark::read(&contents[..place]).is_err());
        }
    }
}
