//! Link arguments of libshim.so, and the refusal of builds that would not give that file.
//!
//! The library must load into every process: no C runtime start files, no needed libraries, bound at
//! load, initialised before every other library. `src/lib.rs` says what may not be in it.

use std::{env, path::PathBuf};

const HOW: &str = "build it alone, with: cargo build -p shim --profile shim (or ./run build)";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    assert_or_refuse(
        target == "x86_64-unknown-linux-gnu",
        "libshim.so is for x86_64-unknown-linux-gnu only",
    );
    assert_or_refuse(
        profile().as_deref() == Some("shim"),
        "libshim.so has a cargo profile of its own (panic=abort, fat LTO)",
    );
    for argument in [
        "-nostdlib",
        "-nostartfiles",
        "-Wl,-z,initfirst",
        "-Wl,-z,now",
        "-Wl,-z,relro",
        "-Wl,-z,noexecstack",
        "-Wl,--as-needed",
        "-Wl,--gc-sections",
        "-Wl,--eh-frame-hdr",
        "-Wl,--hash-style=both",
        "-Wl,--build-id=sha1",
        "-Wl,-soname,libshim.so",
    ] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}

/// The cargo profile's folder: OUT_DIR is `<target>[/<triple>]/<profile>/build/shim-<hash>/out`.
fn profile() -> Option<String> {
    let out = PathBuf::from(env::var_os("OUT_DIR")?);
    Some(out.ancestors().nth(3)?.file_name()?.to_str()?.to_owned())
}

fn assert_or_refuse(holds: bool, why: &str) {
    if !holds {
        println!("cargo:error={why}; {HOW}");
        std::process::exit(1);
    }
}
