//! Keeps the tools out of libshim.so's cargo profile: built together, cargo would give the no_std library
//! the std features that the tools ask of shared crates.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // OUT_DIR is `<target>[/<triple>]/<profile>/build/tests-<hash>/out`.
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from);
    let profile = out.as_deref().and_then(|out| out.ancestors().nth(3)?.file_name());
    if profile.is_some_and(|profile| profile == "shim") {
        println!(
            "cargo:error=profile shim is for libshim.so alone; build it with: \
             cargo build -p shim --profile shim (or ./run build)"
        );
        std::process::exit(1);
    }
}
