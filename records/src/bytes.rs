//! Reading and writing little-endian fields at fixed offsets; out-of-range reads are zero.

use crate::write::TooSmall;

/// The `N` bytes at `at`, zero-filled past the end.
fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(bytes) = from.get(at..).map(|rest| &rest[..rest.len().min(N)]) {
        out[..bytes.len()].copy_from_slice(bytes);
    }
    out
}

pub(crate) fn u8_at(from: &[u8], at: usize) -> u8 {
    array::<1>(from, at)[0]
}

pub(crate) fn u16_at(from: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(from, at))
}

pub(crate) fn u32_at(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(from, at))
}

pub(crate) fn i32_at(from: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(array(from, at))
}

pub(crate) fn u64_at(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(from, at))
}

pub(crate) fn i64_at(from: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array(from, at))
}

pub(crate) fn id_at(from: &[u8], at: usize) -> [u8; 16] {
    array(from, at)
}

/// The text in a NUL-padded field of `len` bytes.
pub(crate) fn text_at(from: &[u8], at: usize, len: usize) -> &[u8] {
    let field = from.get(at..at + len).unwrap_or(&[]);
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

/// Stores `bytes` at `at`; the caller's fixed layout guarantees room.
pub(crate) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Stores `text` into a zeroed field of `len` bytes; says whether it had to be clipped.
///
/// An interior NUL ends the text, as it would for the reader.
pub(crate) fn put_text(into: &mut [u8], at: usize, len: usize, text: &[u8]) -> bool {
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    let kept = end.min(len);
    put(into, at, &text[..kept]);
    kept < end
}

/// Appends to a buffer and notices when it is too small.
pub(crate) struct Cursor<'b> {
    buf: &'b mut [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    pub(crate) fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooSmall> {
        let slot = self
            .at
            .checked_add(bytes.len())
            .and_then(|end| self.buf.get_mut(self.at..end))
            .ok_or(TooSmall)?;
        slot.copy_from_slice(bytes);
        self.at += bytes.len();
        Ok(())
    }

    /// Zero bytes up to the next multiple of `step`.
    pub(crate) fn pad_to_multiple(&mut self, step: usize) -> Result<(), TooSmall> {
        while !self.at.is_multiple_of(step) {
            self.push(&[0])?;
        }
        Ok(())
    }

    /// The bytes written so far, and the unused rest is not among them.
    pub(crate) fn written(&mut self) -> &mut [u8] {
        &mut self.buf[..self.at]
    }
}
