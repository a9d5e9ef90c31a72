//! «Loads everywhere»: what libshim.so asks of a process that it is preloaded into, and what it leaves
//! alone where it has nothing to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::artifacts::{self, repository};
use tests::preloaded::{compile, counted, processes, shown};
use tests::skip::skip;

fn readelf(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("readelf").args(arguments).arg(file).output().expect("readelf");
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn asks_for_no_library_no_version_and_no_symbol() {
    let Some(artifacts) = artifacts::need("readelf") else { return };
    let dynamic = readelf(&["-dW"], &artifacts.shim);
    assert!(!dynamic.contains("NEEDED"), "{dynamic}");
    assert!(dynamic.contains("INITFIRST") && dynamic.contains("NOW"), "{dynamic}");
    assert!(!dynamic.contains("TEXTREL"), "{dynamic}");
    let versions = readelf(&["-VW"], &artifacts.shim);
    assert!(versions.contains("No version information"), "{versions}");
    let symbols = readelf(&["--dyn-syms", "-W"], &artifacts.shim);
    let strong: Vec<&str> =
        symbols.lines().filter(|line| line.contains(" UND ") && line.contains("GLOBAL")).collect();
    assert_eq!(strong, [""; 0], "strong undefined symbols");
    let segments = readelf(&["-lW"], &artifacts.shim);
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).expect("a stack segment");
    assert!(!stack.contains("RWE"), "{stack}");
    assert!(
        !segments.lines().any(|line| line.contains("LOAD") && line.contains("RWE")),
        "{segments}"
    );
}

/// What a preloaded library defines takes the place of everybody's: nothing but hooks may be in there.
#[test]
fn defines_hooks_and_nothing_else() {
    let Some(artifacts) = artifacts::need("exports") else { return };
    let symbols = readelf(&["--dyn-syms", "-W"], &artifacts.shim);
    let defined: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains("FUNC") || line.contains("OBJECT"))
        .filter(|line| !line.contains(" UND "))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert!(defined.contains(&"read") && defined.contains(&"Agent_OnLoad"), "{defined:?}");
    const OTHERS: [&str; 3] = ["Agent_OnLoad", "Agent_OnUnload", "__libc_start_main"];
    for name in &defined {
        let hook = name.trim_end_matches("64").trim_end_matches("64v2").trim_end_matches('2');
        assert!(
            OTHERS.contains(name) || HOOKED.contains(&hook),
            "{name} is exported and no hook: memcpy and the like would interpose libc's"
        );
    }
}

const HOOKED: [&str; 70] = [
    "open",
    "openat",
    "creat",
    "close",
    "read",
    "pread",
    "readv",
    "preadv",
    "write",
    "pwrite",
    "writev",
    "pwritev",
    "send",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "sendfile",
    "splice",
    "copy_file_range",
    "fork",
    "vfork",
    "execve",
    "execv",
    "execvp",
    "execvpe",
    "execl",
    "execlp",
    "execle",
    "fexecve",
    "execveat",
    "posix_spawn",
    "posix_spawnp",
    "_exit",
    "_Exit",
    "quick_exit",
    "unshare",
    "setns",
    "setuid",
    "setgid",
    "seteuid",
    "setegid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "initgroups",
    "setfsuid",
    "setfsgid",
    "capset",
    "prctl",
    "syscall",
    "waitpid",
    "wait4",
    "waitid",
    "pthread_setname_np",
    "sigaction",
    "signal",
    "mmap",
    "munmap",
    "mprotect",
    "pkey_mprotect",
    "mremap",
    "shmat",
    "dlclose",
    "clone",
];

/// The host's vector registers are saved only as far as the library's own code can touch them.
#[test]
fn touches_nothing_wider_than_xmm15() {
    let Some(artifacts) = artifacts::need("disassembly") else { return };
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", "-M", "intel"])
        .arg(&artifacts.shim)
        .output()
        .expect("objdump");
    assert!(output.status.success(), "{}", shown(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut instructions = 0;
    for line in text.lines() {
        let Some((_, instruction)) = line.split_once('\t') else { continue };
        instructions += 1;
        let (mnemonic, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
        let wide = operands.contains("ymm") || operands.contains("zmm") || operands.contains("tmm");
        let high = (16..32).any(|number| operands.contains(&format!("xmm{number}")));
        let vex = mnemonic.starts_with('v') && !["verr", "verw"].contains(&mnemonic);
        let x87 = operands.contains("st(") || operands.split([' ', ',']).any(is_mmx);
        // Saving and restoring the host's state is the engine's task; its own code is held to this.
        let state =
            ["xsave", "xrstor", "fxsave", "fxrstor"].iter().any(|m| mnemonic.starts_with(m));
        assert!(!(wide || high || vex || x87) || state, "{line}");
    }
    assert!(instructions > 10_000, "{instructions} instructions");
}

fn is_mmx(word: &str) -> bool {
    word.len() == 3 && word.starts_with("mm") && word.as_bytes()[2].is_ascii_digit()
}

fn run(command: &mut Command) -> Output {
    command.output().expect("starts")
}

/// Programs of the system, with the library beside them and bound at once: nothing differs.
#[test]
fn passive_in_ordinary_programs() {
    let Some(artifacts) = artifacts::need("passive") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let lines: [&[&str]; 8] = [
        &["/bin/true"],
        &["/bin/ls", "/usr"],
        &["bash", "-c", "for i in 1 2 3; do echo $i | cat; done; ls / | wc -l"],
        &["sh", "-c", "exit 7"],
        &[
            "env",
            "python3",
            "-c",
            "import os, subprocess; print(subprocess.check_output(['echo', 'x']))",
        ],
        &["sort", "/etc/passwd"],
        &["perl", "-e", "print 1 + 1"],
        &["git", "--version"],
    ];
    for line in lines {
        let native = Command::new(line[0]).args(&line[1..]).output();
        let Ok(native) = native else { continue };
        let output = run(Command::new(line[0])
            .args(&line[1..])
            .env("LD_PRELOAD", &artifacts.shim)
            .env("LD_BIND_NOW", "1")
            .env("SPARKANALYZER_OUTPUT_DIR", directory.path()));
        assert_eq!(output, native, "{line:?}: {}", shown(&output));
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
}

/// In a process without a role of ours: no thread, no file, no memory, no system call but the loader's.
#[test]
fn passive_means_nothing_at_all() {
    let Some(artifacts) = artifacts::need("passive_strace") else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("passive_means_nothing_at_all", "no strace: apt-get install strace");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let calls = |preload: Option<&Path>| {
        let log = directory.path().join("log");
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(&log);
        if let Some(preload) = preload {
            command.arg("-E").arg(format!("LD_PRELOAD={}", preload.display()));
        }
        let output = run(command.arg("/bin/true"));
        if !output.status.success() {
            return None;
        }
        let text = std::fs::read_to_string(&log).expect("strace's log");
        // Everything after the loader has mapped and protected all libraries: from munmap of its cache on.
        let after: Vec<String> = text
            .lines()
            .skip_while(|line| !line.contains("munmap("))
            .filter_map(|line| Some(line.split_whitespace().nth(1)?.split('(').next()?.to_owned()))
            .collect();
        Some(after)
    };
    let Some(native) = calls(None) else {
        return skip("passive_means_nothing_at_all", "strace cannot trace here");
    };
    assert_eq!(calls(Some(&artifacts.shim)), Some(native));
}

#[test]
fn a_broken_conf_is_said_once_and_counts_nothing() {
    let Some(artifacts) = artifacts::need("broken_conf") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let conf = directory.path().join("my.toml");
    std::fs::write(&conf, "# first\noutput_dri = \"/tmp\"\n").expect("writes");
    let records = directory.path().join("records");
    std::fs::create_dir(&records).expect("a directory");
    let output =
        run(counted(&artifacts, Path::new("/bin/true"), &records).env("SPARKANALYZER_CONF", &conf));
    assert!(output.status.success());
    let error = String::from_utf8(output.stderr).expect("text");
    let expected = format!(
        "{}:2: unknown key \"output_dri\" (did you mean \"output_dir\"?); nothing is counted\n",
        conf.display()
    );
    assert!(error.starts_with("sparkanalyzer[") && error.ends_with(&expected), "{error}");
    assert_eq!(error.lines().count(), 1);
    assert_eq!(processes(&records).len(), 0);
    // The same mistake says nothing where nothing would have been counted.
    let output = run(Command::new("/bin/true")
        .env("LD_PRELOAD", &artifacts.shim)
        .env("SPARKANALYZER_CONF", &conf));
    assert_eq!(output.stderr, b"");
}

/// AT_SECURE: real and effective user differ. The loader drops LD_PRELOAD then, but the library may still
/// be there, needed by the program itself.
#[test]
fn passive_where_user_and_effective_user_differ() {
    let Some(artifacts) = artifacts::need("secure") else { return };
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        return skip("passive_where_user_and_effective_user_differ", "needs root");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let shim_directory = artifacts.shim.parent().expect("a directory").to_str().expect("text");
    let program = compile(
        "gcc",
        "life.c",
        directory.path(),
        &[
            "-Wl,--no-as-needed",
            artifacts.shim.to_str().expect("text"),
            &format!("-Wl,-rpath,{shim_directory}"),
        ],
    );
    let records = directory.path().join("records");
    std::fs::create_dir(&records).expect("a directory");
    let start = |secure: bool| {
        use std::os::unix::process::CommandExt;
        let mut command = counted(&artifacts, &program, &records);
        command.env_remove("LD_PRELOAD").args(["writes", "3"]);
        // SAFETY: between fork and exec one system call is made and no memory is touched.
        unsafe {
            command.pre_exec(move || {
                if secure && libc::setresuid(65534, 0, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let output = run(&mut command);
        assert!(output.status.success(), "{}", shown(&output));
    };
    start(true);
    assert_eq!(processes(&records).len(), 0);
    start(false);
    assert_eq!(processes(&records).len(), 1, "counted where the users are the same");
}

/// glibc 2.31, where threads and dlsym live in libraries of their own.
#[test]
fn under_glibc_2_31() {
    let Some(artifacts) = artifacts::need("old_glibc") else { return };
    let cache = repository().join(".cache/glibc-2.31");
    let output = run(Command::new(repository().join("tests/debian_packages.sh"))
        .arg("bullseye")
        .arg(&cache)
        .args(["libc6", "libgcc-s1"]));
    if !output.status.success() {
        return skip("under_glibc_2_31", &format!("cannot be fetched: {}", shown(&output)));
    }
    let old = cache.join("lib/x86_64-linux-gnu");
    let file = |name: &str| old.join(name).to_str().expect("text").to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let build = |source: &str| -> PathBuf {
        compile(
            "gcc",
            source,
            directory.path(),
            &[
                "-nodefaultlibs",
                &file("libpthread.so.0"),
                &file("libc.so.6"),
                "/usr/lib/x86_64-linux-gnu/libc_nonshared.a",
                &file("ld-linux-x86-64.so.2"),
                "-lgcc",
                &format!("-Wl,--dynamic-linker={}", file("ld-linux-x86-64.so.2")),
                // DT_RPATH: libpthread loads libgcc_s by itself.
                &format!("-Wl,--disable-new-dtags,-rpath,{}", old.display()),
            ],
        )
    };
    let calls = build("calls.c");
    let work = directory.path().join("work");
    std::fs::create_dir(&work).expect("a directory");
    let life = build("life.c");
    let lives: [(&Path, &[&str], &str, u64); 6] = [
        (&calls, &[work.to_str().expect("text")], "file_read_bytes", 279),
        (&life, &["threads"], "file_write_calls", 10_000),
        (&life, &["cancellation"], "file_write_calls", 50),
        (&life, &["jumps"], "file_write_calls", 200),
        (&life, &["destructors"], "file_write_calls", 100),
        (&life, &["forks"], "file_write_calls", 26),
    ];
    for (program, arguments, metric, expected) in lives {
        let records = tempfile::tempdir().expect("a directory");
        let output = run(counted(&artifacts, program, records.path())
            .env("LD_BIND_NOW", "1")
            .args(arguments));
        assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
        let total: u64 =
            processes(records.path()).iter().map(|process| process.total(metric)).sum();
        assert_eq!(total, expected, "{arguments:?}");
    }
}
