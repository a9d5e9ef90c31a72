//! Every setting of the preloaded shim: one table, from which file and environment are read.
//!
//! # How it is parsed in a `no_std` process, and why
//!
//! The shim has no std, and the file is read at the start of a host's process, so the parser must need
//! nothing but an allocator. The `toml` crate without its `std` and `serde` features is that: `DeTable`
//! gives keys and values with their byte spans (hence the line numbers of messages), and a table of
//! settings is matched by hand ([`value`]). A parser of our own would be smaller but would read another
//! language than users know; serde would hide where an error is.
//!
//! # Order
//!
//! Defaults, then the file, then `SPARKANALYZER_<KEY>` in the environment. A list in the environment is
//! separated by commas. A key that does not exist, a value of the wrong type or out of range is an
//! [`Error`] that names the place; the shim is passive then.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::string::String;

pub mod load;
mod nearest;
pub mod settings;
pub mod trust;
pub mod value;

pub use load::{Error, load};
pub use settings::{SETTINGS, Setting, Settings, document};

/// Where the file is looked for unless `SPARKANALYZER_CONF` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/sparkanalyzer/sparkanalyzer.toml";
/// A file of settings has at most so many bytes: the shim reads no more.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// What the environment's names of settings start with.
pub const ENVIRONMENT_PREFIX: &str = "SPARKANALYZER_";

/// The file in a trace's folder in which its settings are, for processes that cannot believe their environment;
/// `None` if this is no name of a trace.
pub fn trace_settings_file(id: &str) -> Option<String> {
    const LONGEST: usize = 64;
    let is_plain = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_name = is_plain && (1..=LONGEST).contains(&id.len());
    is_name.then(|| alloc::format!(".trace-{id}.toml"))
}

/// In the environment of a trace's processes: the analyzer tells of those that cannot write, and they need not.
pub const REPORTER: &str = "SPARKANALYZER_REPORTER";
