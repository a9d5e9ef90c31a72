//! Where the library writes and what it reads: folders and files of other users, links, pipes. None of them makes it hang, is
//! written to, or switches it off in silence; a program under it runs as natively.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::artifacts::{self, Artifacts};
use tests::guest::{self, End, Failures, Guest, Seen};
use tests::skip::skip;

/// A user who is nobody here.
const OTHER: u32 = 12345;

/// A program with the library preloaded as a service would have it: counted wholly, records to a folder.
fn counted(artifacts: &Artifacts, line: &str, folder: &Path, environment: &[(&str, &str)]) -> Seen {
    let mut guest = Guest::words(line).within(Duration::from_secs(20));
    guest = guest
        .with("LD_PRELOAD", artifacts.shim.to_str().expect("UTF-8"))
        .with("SPARKANALYZER_TRACE", "0123456789abcdef0123456789abcdef")
        .with("SPARKANALYZER_OUTPUT_DIR", folder.to_str().expect("UTF-8"));
    for (name, value) in environment {
        guest = guest.with(name, value);
    }
    guest.native()
}

/// Standard error but for the library's lines; those.
fn messages(seen: &Seen) -> (String, Vec<String>) {
    let text = String::from_utf8_lossy(&seen.stderr).into_owned();
    let (ours, own): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("sparkanalyzer["));
    (own.join("\n"), ours.into_iter().map(str::to_owned).collect())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Ran as natively; what was said.
fn unharmed(failures: &mut Failures, name: &str, line: &str, seen: &Seen) -> Vec<String> {
    let native = Guest::words(line).native();
    let (own, said) = messages(seen);
    let is_same =
        seen.end == native.end && seen.stdout == native.stdout && own.as_bytes() == native.stderr;
    failures.check(name, is_same, || {
        format!("natively {}\n    counted {}", native.shown(), seen.shown())
    });
    said
}

struct Place {
    _directory: tempfile::TempDir,
    parent: PathBuf,
}

/// A folder that all may enter, as /var/tmp.
fn place() -> Place {
    let directory = tempfile::tempdir().expect("a directory");
    let parent = directory.path().to_path_buf();
    std::fs::set_permissions(&parent, std::fs::Permissions::from_mode(0o1777))
        .expect("sets the mode");
    Place { _directory: directory, parent }
}

fn folder(path: &Path, owner: u32, group: u32, mode: u32) -> PathBuf {
    std::fs::create_dir(path).expect("makes a folder");
    chown(path, Some(owner), Some(group)).expect("gives it away");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("sets the mode");
    path.to_path_buf()
}

fn fifo(path: &Path) -> PathBuf {
    let status = Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(status.success());
    path.to_path_buf()
}

const LINE: &str = "/bin/sh -c true";

#[test]
fn folders_of_other_users_are_not_written_to() {
    const TEST: &str = "folders_of_other_users_are_not_written_to";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to give folders away");
    }
    let place = place();
    let mut failures = Failures::default();
    for (name, owner, group, mode) in [
        ("of another user", OTHER, 0, 0o755),
        ("of another user, open to all", OTHER, OTHER, 0o777),
        ("of another user, sticky", OTHER, OTHER, 0o1777),
        ("of another user, set-gid", OTHER, OTHER, 0o2775),
        ("of another user, closed", OTHER, OTHER, 0o700),
    ] {
        let folder = folder(&place.parent.join(name.replace([' ', ','], "-")), owner, group, mode);
        let seen = counted(&artifacts, LINE, &folder, &[]);
        let said = unharmed(&mut failures, name, LINE, &seen);
        let found = files_below(&folder);
        failures.check(name, found.is_empty(), || format!("records of root in it: {found:?}"));
        failures.check(name, said.len() == 1, || format!("one line should say so: {said:?}"));
    }
    // Root's own folders, also those that all may write to, as /var/tmp is.
    for (name, group, mode) in
        [("own", 0, 0o700), ("own, sticky", 0, 0o1777), ("own, for a group", 0, 0o750)]
    {
        let folder = folder(&place.parent.join(name.replace([' ', ','], "-")), 0, group, mode);
        let seen = counted(&artifacts, LINE, &folder, &[]);
        let said = unharmed(&mut failures, name, LINE, &seen);
        failures.check(name, !files_below(&folder).is_empty(), || "no record".to_owned());
        failures.check(name, said.is_empty(), || format!("says {said:?}"));
    }
    // A set-gid folder hands its group to what is made in it: records never get a group that is not the process's.
    let folder = folder(&place.parent.join("set-gid"), 0, OTHER, 0o2770);
    let seen = counted(&artifacts, LINE, &folder, &[]);
    unharmed(&mut failures, "set-gid", LINE, &seen);
    for file in files_below(&folder) {
        let group = file.metadata().map_or(0, |data| data.gid());
        failures.check("set-gid", group == 0, || format!("{} has group {group}", file.display()));
    }
    failures.finish();
}

#[test]
fn what_is_no_folder_is_not_written_to() {
    const TEST: &str = "what_is_no_folder_is_not_written_to";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to give links away");
    }
    let place = place();
    let mut failures = Failures::default();
    let victim = folder(&place.parent.join("victim"), 0, 0, 0o755);
    let link = place.parent.join("link");
    symlink(&victim, &link).expect("links");
    std::os::unix::fs::lchown(&link, Some(OTHER), Some(OTHER)).expect("gives it away");
    let pipe = fifo(&place.parent.join("pipe"));
    let file = place.parent.join("file");
    std::fs::write(&file, "mine").expect("writes");
    let dangling = place.parent.join("dangling");
    symlink(place.parent.join("not-there"), &dangling).expect("links");
    std::os::unix::fs::lchown(&dangling, Some(OTHER), Some(OTHER)).expect("gives it away");
    for (name, path) in [
        ("a link to a folder", &link),
        ("a pipe", &pipe),
        ("a file", &file),
        ("a dangling link", &dangling),
    ] {
        let seen = counted(&artifacts, LINE, path, &[]);
        let said = unharmed(&mut failures, name, LINE, &seen);
        failures.check(name, said.len() == 1, || format!("one line should say so: {said:?}"));
    }
    let found = files_below(&victim);
    failures.check("a link to a folder", found.is_empty(), || format!("followed: {found:?}"));
    failures.check("a dangling link", !place.parent.join("not-there").exists(), || {
        "made what it points to".to_owned()
    });
    failures.check("a file", std::fs::read(&file).is_ok_and(|text| text == b"mine"), || {
        "written to".to_owned()
    });
    failures.finish();
}

/// The first user makes the folder for itself; the next one's processes say once that they cannot write.
#[test]
fn who_cannot_write_says_so_once() {
    const TEST: &str = "who_cannot_write_says_so_once";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to become two users");
    }
    let place = place();
    let mut failures = Failures::default();
    let closed = folder(&place.parent.join("first"), 54321, 54321, 0o750);
    let line = "worker children";
    let as_user = Guest::words(line).under(&["gid=12345", "uid=12345"]);
    let mut guest = as_user.clone();
    guest = guest
        .with("LD_PRELOAD", artifacts.shim.to_str().expect("UTF-8"))
        .with("SPARKANALYZER_TRACE", "0123456789abcdef0123456789abcdef")
        .with("SPARKANALYZER_OUTPUT_DIR", closed.to_str().expect("UTF-8"));
    let (native, seen) = (as_user.native(), guest.native());
    let (own, said) = messages(&seen);
    failures.check(
        "as natively",
        seen.end == native.end && seen.stdout == native.stdout && own.is_empty(),
        || seen.shown(),
    );
    // The program and its child; and what ran before exec as root could not write there either.
    let mut processes: Vec<&str> = said.iter().filter_map(|line| line.split(']').next()).collect();
    let lines = processes.len();
    processes.dedup();
    failures.check("said", lines >= 1, || "nothing said".to_owned());
    failures.check("once per process", processes.len() >= lines.saturating_sub(1), || {
        format!("{said:?}")
    });
    failures.check(
        "names the folder",
        said.iter().all(|line| line.contains(closed.to_str().expect("UTF-8"))),
        || format!("{said:?}"),
    );
    failures.finish();
}

#[test]
fn pipes_as_conf_and_log() {
    const TEST: &str = "pipes_as_conf_and_log";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let place = place();
    let out = place.parent.join("out");
    std::fs::create_dir(&out).expect("makes a folder");
    let mut failures = Failures::default();
    let pipe = fifo(&place.parent.join("pipe"));
    let pipe = pipe.to_str().expect("UTF-8");
    let folder = place.parent.join("folder");
    std::fs::create_dir(&folder).expect("makes a folder");
    let folder = folder.to_str().expect("UTF-8");
    let level = ("SPARKANALYZER_LOG_LEVEL", "debug");
    for (name, environment) in [
        ("a pipe as conf", vec![("SPARKANALYZER_CONF", pipe)]),
        ("a pipe as log", vec![("SPARKANALYZER_LOG_FILE", pipe), level]),
        ("a folder as conf", vec![("SPARKANALYZER_CONF", folder)]),
        ("a folder as log", vec![("SPARKANALYZER_LOG_FILE", folder), level]),
        ("/dev/full as log", vec![("SPARKANALYZER_LOG_FILE", "/dev/full"), level]),
        ("/dev/zero as conf", vec![("SPARKANALYZER_CONF", "/dev/zero")]),
        ("/dev/tty as conf", vec![("SPARKANALYZER_CONF", "/dev/tty")]),
        ("/proc/self/mem as conf", vec![("SPARKANALYZER_CONF", "/proc/self/mem")]),
    ] {
        let seen = counted(&artifacts, LINE, &out, &environment);
        failures.check(name, seen.end != End::Hung, || "hangs".to_owned());
        unharmed(&mut failures, name, LINE, &seen);
    }
    failures.finish();
}

/// What names and arguments of programs hold does not become lines of the log, or colours of a terminal.
#[test]
fn log_lines_are_escaped() {
    let Some(artifacts) = artifacts::need("log_lines_are_escaped") else { return };
    let place = place();
    let mut failures = Failures::default();
    let program = place.parent.join("true\u{1b}[31m\nsparkanalyzer[1]: forged");
    std::fs::copy("/bin/true", &program).expect("copies");
    let log = place.parent.join("log");
    let missing = place.parent.join("not\u{1b}[31m\nsparkanalyzer[1]: forged");
    std::fs::write(&missing, "in the folder's place").expect("writes");
    for folder in [place.parent.join("out"), missing] {
        let guest = Guest::new(&program, &["a\nb\u{1b}[0m"])
            .with("LD_PRELOAD", artifacts.shim.to_str().expect("UTF-8"))
            .with("SPARKANALYZER_TRACE", "0123456789abcdef0123456789abcdef")
            .with("SPARKANALYZER_OUTPUT_DIR", folder.to_str().expect("UTF-8"))
            .with("SPARKANALYZER_LOG_LEVEL", "debug")
            .with("SPARKANALYZER_LOG_FILE", log.to_str().expect("UTF-8"));
        let seen = guest.native();
        let mut text = std::fs::read(&log).unwrap_or_default();
        text.extend(&seen.stderr);
        let text = String::from_utf8_lossy(&text).into_owned();
        failures.check("something is logged", text.contains("sparkanalyzer["), || seen.shown());
        failures.check("no control bytes", !text.contains('\u{1b}'), || format!("{text:?}"));
        failures.check(
            "no forged line",
            !text.lines().any(|line| line.starts_with("sparkanalyzer[1]")),
            || format!("{text:?}"),
        );
    }
    failures.finish();
}

/// A log file that another user put there, or linked to what is root's, is not written to.
#[test]
fn log_files_of_other_users() {
    const TEST: &str = "log_files_of_other_users";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to give files away");
    }
    let place = place();
    let mut failures = Failures::default();
    let victim = place.parent.join("victim");
    std::fs::write(&victim, "mine\n").expect("writes");
    let link = place.parent.join("log");
    symlink(&victim, &link).expect("links");
    std::os::unix::fs::lchown(&link, Some(OTHER), Some(OTHER)).expect("gives it away");
    let environment = [
        ("SPARKANALYZER_LOG_FILE", link.to_str().expect("UTF-8")),
        ("SPARKANALYZER_LOG_LEVEL", "debug"),
    ];
    let seen = counted(&artifacts, LINE, &place.parent.join("out"), &environment);
    unharmed(&mut failures, "a link of another user", LINE, &seen);
    let text = std::fs::read_to_string(&victim).expect("reads");
    failures.check("a link of another user", text == "mine\n", || format!("followed: {text:?}"));
    failures.finish();
}

/// A sparse file of another user, a terabyte long and empty, must not use up what all record files may take.
#[test]
fn a_sparse_file_of_another_user() {
    const TEST: &str = "a_sparse_file_of_another_user";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to give files away");
    }
    let place = place();
    let mut failures = Failures::default();
    let out = folder(&place.parent.join("out"), 0, 0, 0o1777);
    let plain = counted(
        &artifacts,
        "fatal none 2000000000",
        &out,
        &[("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "50")],
    );
    let of_one: u64 =
        files_below(&out).iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    let name = files_below(&out)
        .first()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let Some(name) = name else { panic!("no record of the plain run: {}", plain.shown()) };
    for file in files_below(&out) {
        std::fs::remove_file(file).expect("removes");
    }
    // A name of the record files' form.
    let huge = out.join(name);
    let file = std::fs::File::create(&huge).expect("makes a file");
    file.set_len(1 << 40).expect("a sparse terabyte");
    chown(&huge, Some(OTHER), Some(OTHER)).expect("gives it away");
    let seen = counted(
        &artifacts,
        "fatal none 2000000000",
        &out,
        &[("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "50")],
    );
    failures.check("as natively", seen.end == plain.end && seen.stdout == plain.stdout, || {
        seen.shown()
    });
    let written: u64 = files_below(&out)
        .iter()
        .filter(|path| **path != huge)
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum();
    failures.check("snapshots", written * 2 > of_one, || {
        format!("{written} bytes of records, {of_one} without the file")
    });
    failures.finish();
}

/// A privileged process with a less privileged user's environment: a set-user-ID program under /etc/ld.so.preload.
#[test]
fn an_unprivileged_environment_leads_a_privileged_process_nowhere() {
    const TEST: &str = "an_unprivileged_environment_leads_a_privileged_process_nowhere";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, for a set-user-ID program");
    }
    let place = place();
    let parent = place.parent.to_str().expect("UTF-8");
    let out = folder(&place.parent.join("out"), OTHER, OTHER, 0o755);
    let program = place.parent.join("privileged");
    std::fs::copy("/usr/bin/id", &program).expect("copies");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755))
        .expect("sets the mode");
    let shim = place.parent.join("libshim.so");
    std::fs::copy(&artifacts.shim, &shim).expect("copies");
    std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).expect("sets the mode");
    // An /etc of its own, so that the machine's other programs see nothing of it.
    let script = format!(
        "set -e; mount -t tmpfs none /mnt; mkdir /mnt/upper /mnt/work; \
         mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc; \
         echo {parent}/libshim.so >/etc/ld.so.preload; \
         exec setpriv --reuid={OTHER} --regid={OTHER} --clear-groups env SPARKANALYZER_TRACE=0123456789abcdef0123456789abcdef \
         SPARKANALYZER_OUTPUT_DIR={parent}/out SPARKANALYZER_LOG_FILE={parent}/log SPARKANALYZER_LOG_LEVEL=debug {parent}/privileged -u"
    );
    let guest = Guest::new(Path::new("/usr/bin/unshare"), &["-m", "sh", "-c", &script]);
    let seen = guest.native();
    if seen.stdout != b"0\n" {
        return skip(
            TEST,
            &format!("no set-user-ID program under a preloaded library here: {}", seen.shown()),
        );
    }
    let of_root: Vec<_> = files_below(&out)
        .into_iter()
        .chain([place.parent.join("log")])
        .filter(|path| path.metadata().is_ok_and(|data| data.uid() == 0))
        .collect();
    assert!(of_root.is_empty(), "written by root: {of_root:?}");
    // The same program without the right is counted: the library was there to be led.
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
        .expect("sets the mode");
    let plain = guest.native();
    assert_eq!(plain.stdout, format!("{OTHER}\n").as_bytes(), "{}", plain.shown());
    assert!(!files_below(&out).is_empty(), "no record of the plain program: {}", plain.shown());
}
