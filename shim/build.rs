//! Link arguments of libshim.so, and the refusal of builds that would not give that file.
//!
//! The library must load into every process: no C runtime start files, no needed libraries, bound
//! at load, initialised before every other library. `src/lib.rs` says what may not be in it.

use std::{env, path::PathBuf};

const HOW: &str = "build it alone, with: cargo build -p shim --profile shim (or ./run build)";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    assert_or_refuse(
        target == "x86_64-unknown-linux-gnu",
        "libshim.so is for x86_64-unknown-linux-gnu only",
    );
    let with_gum = env::var_os("CARGO_FEATURE_GUM").is_some();
    assert_or_refuse(
        profile().as_deref() == Some(if with_gum { "shim-gum" } else { "shim" }),
        "libshim.so has a cargo profile of its own (panic=abort, fat LTO)",
    );
    if with_gum {
        link_with_gum();
    } else {
        link_alone();
    }
    for argument in [
        "-Wl,-z,initfirst",
        "-Wl,-z,now",
        "-Wl,-z,relro",
        "-Wl,-z,noexecstack",
        "-Wl,--as-needed",
        "-Wl,--gc-sections",
        "-Wl,--eh-frame-hdr",
        "-Wl,--hash-style=both",
        "-Wl,--build-id=sha1",
    ] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}

fn link_alone() {
    for argument in ["-nostdlib", "-nostartfiles", "-Wl,-soname,libshim.so"] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}

/// frida-gum needs a C library; what it asks about the CPU is answered by gum-tracer.
fn link_with_gum() {
    for argument in [
        "-Wl,-soname,libshim_gum.so",
        "-Wl,--wrap=gum_query_cpu_features",
        "-Wl,--wrap=gum_module_find_export_by_name",
        "-lc",
        "-lpthread",
        "-ldl",
        "-lm",
        "-lrt",
        "-lresolv",
        "-lgcc_s",
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
