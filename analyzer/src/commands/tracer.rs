//! What counts, and what switches it off.

/// While this file exists the shim is passive in every process of the machine.
pub const KILL_SWITCH: &str = "/etc/sparkanalyzer/disable";

/// What counts instructions, memory accesses and barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tracer {
    /// The built-in binary translator: everything is counted
    Engine,
    /// frida-gum's Stalker, by libshim_gum.so: for native programs, to compare
    Gum,
    /// Nothing: system calls only, at native speed
    None,
}

impl Tracer {
    /// The name in the conf file and in the records.
    pub fn name(self) -> &'static str {
        match self {
            Tracer::Engine => "engine",
            Tracer::Gum => "gum",
            Tracer::None => "none",
        }
    }
}
