//! Asks the linker to keep one of several functions with the same code, where it can: polars has many
//! (1.4 MB of 40). Another linker than lld may not know the option, so it is tried on an empty program.

use std::path::Path;
use std::process::{Command, Stdio};

const OPTION: &str = "-Wl,--icf=all";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name| std::env::var(name).ok();
    let (Some(rustc), Some(out)) = (variable("RUSTC"), variable("OUT_DIR")) else { return };
    let program = Path::new(&out).join("empty.rs");
    if std::fs::write(&program, "fn main() {}").is_err() {
        return;
    }
    let mut command = Command::new(rustc);
    if let Some(linker) = variable("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={linker}"));
    }
    command
        .args(["-C", &format!("link-arg={OPTION}"), "-o"])
        .arg(program.with_extension(""))
        .arg(&program);
    if command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("cargo:rustc-link-arg-bins={OPTION}");
    }
}
