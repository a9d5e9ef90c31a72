//! Programs that `trace` cannot count, and runs that cannot begin: message and exit code, and nothing was
//! started.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        tests::program_file::write(&path, content);
        path
    }

    /// Message, with the folder's random name replaced, and exit code of tracing a program.
    fn trace(&self, flags: &[&str], program: &Path) -> String {
        self.trace_by(&cargo_bin("analyzer"), flags, program)
    }

    /// The same by another copy of the analyzer.
    fn trace_by(&self, analyzer: &Path, flags: &[&str], program: &Path) -> String {
        let output = Command::new(analyzer)
            .current_dir(self.folder.path())
            .env_remove("LD_PRELOAD")
            .env_remove("SPARKANALYZER_SHIM")
            .args(["trace"])
            .args(flags)
            .arg("--")
            .arg(program)
            .output()
            .expect("starts");
        assert_eq!(output.stdout, b"", "nothing may have run");
        let message = String::from_utf8(output.stderr).expect("UTF-8");
        let message = message.replace(self.folder.path().to_str().expect("UTF-8"), "DIR");
        format!("{message}exit code {}", output.status.code().expect("not killed"))
    }
}

/// The bytes of a small dynamic program with some header bytes replaced.
fn altered(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut program = fs::read("/bin/true").expect("Debian has it");
    for (place, value) in changes {
        program[*place] = *value;
    }
    program
}

/// An ELF header and one PT_LOAD segment, of this type.
fn without_loader(file_type: u8) -> Vec<u8> {
    let mut program = altered(&[(16, file_type)]);
    let table = u64::from_le_bytes(program[32..40].try_into().expect("8 bytes")) as usize;
    let count = usize::from(u16::from_le_bytes([program[56], program[57]]));
    for segment in 0..count {
        let at = table + 56 * segment;
        // PT_INTERP becomes PT_NULL.
        if program[at] == 3 {
            program[at] = 0;
        }
    }
    program
}

#[test]
fn a_missing_program() {
    let place = Place::new();
    insta::assert_snapshot!(place.trace(&[], Path::new("no-such-program")), @r"
    error: no-such-program: not found in PATH
    exit code 5
    ");
    insta::assert_snapshot!(place.trace(&["--best-effort"], Path::new("./none")), @r"
    error: ./none: not found
    exit code 5
    ");
}

#[test]
fn a_file_that_may_not_be_executed() {
    let place = Place::new();
    let file = place.put("plain", b"#!/bin/sh\necho ran\n");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("own file");
    insta::assert_snapshot!(place.trace(&[], &file), @r"
    error: DIR/plain: cannot be executed: no permission to execute it
    exit code 5
    ");
    insta::assert_snapshot!(place.trace(&[], place.folder.path()), @r"
    error: DIR: cannot be executed: it is a directory
    exit code 5
    ");
}

#[test]
fn a_static_program() {
    let place = Place::new();
    let program = place.put("static", &without_loader(2));
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/static: is statically linked: no dynamic loader that would preload a library
      --best-effort runs it uncounted
    exit code 5
    ");
}

#[test]
fn a_static_pie() {
    let place = Place::new();
    // /bin/true is a PIE: without its loader it is a static one.
    let program = place.put("static-pie", &without_loader(3));
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/static-pie: is statically linked (static PIE): no dynamic loader that would preload a library
      --best-effort runs it uncounted
    exit code 5
    ");
}

#[test]
fn a_32_bit_program() {
    let place = Place::new();
    // An ELF32 header for i386 with one program header, PT_LOAD.
    let mut program = vec![0; 52 + 32];
    program[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    for (place, value) in
        [(16, 2), (18, 3), (20, 1), (28, 52), (40, 52), (42, 32), (44, 1), (52, 1)]
    {
        program[place] = value;
    }
    let program = place.put("i386", &program);
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/i386: is a 32-bit program (i386); libshim.so is for 64-bit x86-64
      --best-effort runs it uncounted
    exit code 5
    ");
}

#[test]
fn a_program_for_another_processor() {
    let place = Place::new();
    let program = place.put("foreign", &altered(&[(18, 183)]));
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/foreign: is a program for AArch64; libshim.so is for x86-64
      --best-effort runs it uncounted
    exit code 5
    ");
}

/// A copy of a dynamic program that belongs to somebody else and has this bit; `None` if only root could
/// make it, or the folder is on a nosuid mount.
fn privileged(place: &Place, mode: u32) -> Option<PathBuf> {
    let program = place.put("privileged", &altered(&[]));
    let other = 65534;
    chown(&program, Some(other), Some(other)).ok()?;
    fs::set_permissions(&program, Permissions::from_mode(mode)).expect("root");
    Some(program)
}

#[test]
fn a_set_uid_program() {
    let place = Place::new();
    let Some(program) = privileged(&place, 0o4755) else {
        return tests::skip::skip("a_set_uid_program", "only root can make one");
    };
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/privileged: is set-uid (runs as user 65534): the dynamic loader ignores LD_PRELOAD for it
      --best-effort runs it uncounted
    exit code 5
    ");
}

#[test]
fn a_set_gid_program() {
    let place = Place::new();
    let Some(program) = privileged(&place, 0o2755) else {
        return tests::skip::skip("a_set_gid_program", "only root can make one");
    };
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/privileged: is set-gid (runs as group 65534): the dynamic loader ignores LD_PRELOAD for it
      --best-effort runs it uncounted
    exit code 5
    ");
}

#[test]
fn for_a_script_the_interpreter_counts() {
    let place = Place::new();
    place.put("static", &without_loader(2));
    let script = place.put("script", b"#!./static\necho ran\n");
    insta::assert_snapshot!(place.trace(&[], &script), @r"
    error: DIR/script: its interpreter is out of reach: ./static: is statically linked: no dynamic loader that would preload a library
      --best-effort runs it uncounted
    exit code 5
    ");
    let script = place.put("orphan", b"#!/no/such/interpreter\necho ran\n");
    insta::assert_snapshot!(place.trace(&["--best-effort"], &script), @r"
    error: DIR/orphan: its interpreter is out of reach: /no/such/interpreter: not found
    exit code 5
    ");
    let script = place.put("snake", b"#!./snake\necho ran\n");
    insta::assert_snapshot!(place.trace(&[], &script), @r"
    error: ./snake: more than 5 interpreters, one behind the other
    exit code 5
    ");
}

#[test]
fn damaged_headers() {
    let place = Place::new();
    let program = place.put("cut", &altered(&[])[..40]);
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/cut: is neither an ELF program nor a script: bad ELF headers: Invalid ELF header size or alignment
      --best-effort runs it uncounted
    exit code 5
    ");
    let program = place.put("binary", b"\x00\x01\x02\x03");
    insta::assert_snapshot!(place.trace(&[], &program), @r"
    error: DIR/binary: is neither an ELF program nor a script: its format is unknown
      --best-effort runs it uncounted
    exit code 5
    ");
}

#[test]
fn a_missing_library() {
    let place = Place::new();
    // Beside the one that was built the library may lie.
    let alone = place.folder.path().join("analyzer");
    tests::program_file::copy(&cargo_bin("analyzer"), &alone);
    let message = place.trace_by(&alone, &[], Path::new("/bin/true"));
    assert!(message.starts_with("error: libshim.so not found; looked for\n  DIR/"), "{message}");
    assert!(message.contains("--shim PATH or SPARKANALYZER_SHIM"), "{message}");
    assert!(message.ends_with("exit code 6"), "{message}");
}

#[test]
fn a_library_that_is_none() {
    let place = Place::new();
    place.put("text.so", b"not a library, but long enough to be one");
    insta::assert_snapshot!(place.trace(&["--shim", "text.so"], Path::new("/bin/true")), @r"
    error: text.so (--shim): not a library: no ELF magic
    exit code 6
    ");
}

/// A real shared library that is not the shim: enough to get past the search for it.
const ANY_LIBRARY: &str = "/lib/x86_64-linux-gnu/libm.so.6";

#[test]
fn an_output_folder_that_cannot_be_written() {
    let place = Place::new();
    let flags = ["--shim", ANY_LIBRARY, "--out", "/proc/no-such-folder"];
    insta::assert_snapshot!(place.trace(&flags, Path::new("/bin/true")), @r"
    error: /proc/no-such-folder: cannot be written: No such file or directory (os error 2)
    exit code 4
    ");
    place.put("file", b"in the way");
    let flags = ["--shim", ANY_LIBRARY, "--out", "file"];
    insta::assert_snapshot!(place.trace(&flags, Path::new("/bin/true")), @r"
    error: file: cannot be written: File exists (os error 17)
    exit code 4
    ");
    let flags = ["--shim", ANY_LIBRARY, "--json", "no/such/folder.json"];
    insta::assert_snapshot!(place.trace(&flags, Path::new("/bin/true")), @r"
    error: no/such/folder.json: No such file or directory (os error 2)
    exit code 4
    ");
}

#[test]
fn a_conf_file_with_a_wrong_key() {
    let place = Place::new();
    place.put("wrong.toml", b"# mine\noutput_dri = \"/tmp\"\n");
    let flags = ["--shim", ANY_LIBRARY, "--conf", "wrong.toml"];
    insta::assert_snapshot!(place.trace(&flags, Path::new("/bin/true")), @r#"
    error: DIR/wrong.toml:2: unknown key "output_dri" (did you mean "output_dir"?)
    exit code 3
    "#);
    let flags = ["--shim", ANY_LIBRARY, "--conf", "none.toml"];
    insta::assert_snapshot!(place.trace(&flags, Path::new("/bin/true")), @r"
    error: DIR/none.toml: No such file or directory (os error 2)
    exit code 3
    ");
}
