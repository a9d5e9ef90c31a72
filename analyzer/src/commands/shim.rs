//! Where `libshim.so` is.

use std::path::{Path, PathBuf};

use crate::commands::tracer::Tracer;
use crate::console::exit::{Exit, Failure};
use elf::{Image, Kind};

/// The variable that names the library.
const VARIABLE: &str = "SPARKANALYZER_SHIM";

/// The library's file name for a tracer.
fn name(tracer: Tracer) -> &'static str {
    if tracer == Tracer::Gum { "libshim_gum.so" } else { "libshim.so" }
}

/// How the library for a tracer is built.
fn how(tracer: Tracer) -> &'static str {
    if tracer == Tracer::Gum {
        "./run test-gum, with frida-gum's devkit (the command says how to get one)"
    } else {
        "./run build"
    }
}

/// Whether a program is a JVM's launcher.
pub fn is_java(program: &Path) -> bool {
    let real = program.canonicalize();
    let file = real.as_deref().unwrap_or(program).file_name();
    file.is_some_and(|file| file == "java")
}

/// Finds the library: as said on the command line, else as the variable says, else at its usual
/// places.
///
/// # Errors
/// When there is none, or when what is there cannot be preloaded; with the places that were tried.
pub fn find(said: Option<&Path>, tracer: Tracer) -> Result<PathBuf, Failure> {
    if let Some(path) = said {
        return check(path, "--shim");
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return check(Path::new(&path), VARIABLE);
    }
    let places = usual_places(name(tracer));
    match places.iter().find(|place| place.exists()) {
        Some(place) => check(place, "found"),
        None => {
            let tried: Vec<_> =
                places.iter().map(|place| format!("\n  {}", place.display())).collect();
            Err(Failure::new(
                Exit::Environment,
                format!(
                    "{} not found; looked for{}\n  name it by --shim PATH or {VARIABLE}, or build it: {}",
                    name(tracer),
                    tried.concat(),
                    how(tracer)
                ),
            ))
        }
    }
}

fn usual_places(name: &str) -> Vec<PathBuf> {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    let above = folder.parent().unwrap_or(folder);
    // Beside the analyzer, as built; as install.sh puts it; as packages do.
    vec![
        folder.join(name),
        above.join("lib").join(name),
        above.join("lib/sparkanalyzer").join(name),
    ]
}

fn check(path: &Path, origin: &str) -> Result<PathBuf, Failure> {
    let fail = |why: String| {
        Failure::new(Exit::Environment, format!("{} ({origin}): {why}", path.display()))
    };
    let full = path.canonicalize().map_err(|error| fail(error.to_string()))?;
    let file = elf::regular_file::open(&full).map_err(|error| fail(error.to_string()))?;
    let image = Image::read(file).map_err(|why| fail(format!("not a library: {why}")))?;
    if !image.is_x86_64() || image.kind != Kind::SharedObject {
        return Err(fail("not a shared library for x86-64".to_owned()));
    }
    // ld.so(8): the elements of LD_PRELOAD are separated by spaces or colons, and nothing can be
    // escaped.
    if full.as_os_str().as_encoded_bytes().iter().any(|byte| b" :".contains(byte)) {
        return Err(fail(
            "LD_PRELOAD takes no path with a space or a colon; copy it elsewhere".into(),
        ));
    }
    Ok(full)
}
