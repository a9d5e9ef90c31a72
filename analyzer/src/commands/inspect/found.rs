//! What was found in a file.

use std::path::PathBuf;

use elf::code::Code;
use elf::facts::Facts;
use elf::functions::Functions;
use elf::{Image, OutOfReach};

/// What is known of a file.
pub struct Inspected {
    pub path: PathBuf,
    pub length: u64,
    pub mode: u32,
    pub image: Image,
    /// Why `analyzer trace` refuses it.
    pub trace: Result<(), OutOfReach>,
    /// Why `analyzer rewrite` refuses it.
    pub rewrite: Result<(), String>,
    /// What only 64-bit x86-64 files are asked.
    pub contents: Option<Contents>,
}

pub struct Contents {
    pub facts: Facts,
    pub functions: Functions,
    pub code: Code,
}
