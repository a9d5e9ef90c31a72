//! Children whose records cannot be made in the usual way: they live as natively, and either they are counted or `complete`
//! is not true.

use std::path::Path;

use tests::artifacts;
use tests::guest::{self, ANY, Failures, Guest, compare};
use tests::skip::skip;

#[test]
fn children_of_all_kinds() {
    const TEST: &str = "children_of_all_kinds";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let mut failures = Failures::default();
    for kind in [
        "nofile",
        "fsize",
        "killed",
        "kills-itself",
        "vfork",
        "spawn",
        "spawn-clean",
        "shared",
        "filter",
        "clean",
        "strict",
        "clone3",
        "user",
    ] {
        let line = format!("hidden_children {kind}");
        // A child that goes on in its parent's memory counts as a thread of it.
        let processes = if kind == "shared" { 1 } else { 2 };
        failures.add(&line, compare(&artifacts, &Guest::words(&line), ANY.processes(processes)));
    }
    let program = guest::compile_with("static_child", &["-static"]);
    let words = ["static", program.to_str().expect("UTF-8")];
    let guest = Guest::new(&guest::compile("hidden_children"), &words);
    failures.add("a static child", compare(&artifacts, &guest, ANY.processes(2)));
    if guest::is_root() {
        for (kind, processes) in [("uid", 2), ("chroot", 2), ("deep", 3)] {
            let line = format!("hidden_children {kind}");
            failures
                .add(&line, compare(&artifacts, &Guest::words(&line), ANY.processes(processes)));
        }
    } else {
        skip(TEST, "needs root for children that drop privileges or change their root");
    }
    failures.finish();
}

/// A namespace of mounts with a tmpfs where the records are.
#[test]
fn an_output_folder_that_a_child_hides() {
    const TEST: &str = "an_output_folder_that_a_child_hides";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to mount");
    }
    let mut failures = Failures::default();
    let hidden = tempfile::tempdir().expect("a directory");
    for place in ["/tmp", hidden.path().to_str().expect("UTF-8")] {
        let guest = Guest::new(&guest::compile("hidden_children"), &["tmpfs", place]);
        failures.add(place, compare(&artifacts, &guest, ANY.processes(2)));
    }
    failures.finish();
}

#[test]
fn a_sandbox_with_its_own_tmp() {
    const TEST: &str = "a_sandbox_with_its_own_tmp";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if guest::program("bwrap").is_none() {
        return skip(TEST, "bwrap is not installed (apt-get install bubblewrap)");
    }
    let inside = [
        "--ro-bind",
        "/",
        "/",
        "--unshare-all",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/tmp",
    ];
    let mut failures = Failures::default();
    // bwrap, its first process in the namespace, and the shell; then the shell's children.
    for (script, processes) in [
        ("exit 6", 3),
        ("echo in bwrap; ls /tmp | wc -l; exit 6", 5),
        ("cat /etc/hostname | wc -c; sleep 1; exit 6", 6),
    ] {
        let mut arguments = inside.to_vec();
        arguments.extend(["sh", "-c", script]);
        let guest = Guest::new(Path::new("/usr/bin/bwrap"), &arguments);
        if guest.native().end != guest::End::Code(6) {
            return skip(TEST, "bwrap cannot make its namespaces here");
        }
        failures.add(script, compare(&artifacts, &guest, ANY.processes(processes)));
    }
    failures.finish();
}

/// Programs that the distribution has for it: unshare, setpriv, chroot, env -i, su.
#[test]
fn programs_that_change_their_surroundings() {
    const TEST: &str = "programs_that_change_their_surroundings";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let mut failures = Failures::default();
    let root = guest::is_root();
    for (line, needs_root) in [
        ("env -i /bin/echo a", false),
        ("env -u LD_PRELOAD /bin/echo a", false),
        ("setsid -w /bin/echo a", false),
        ("nohup /bin/echo a", false),
        ("timeout 5 /bin/echo a", false),
        ("prlimit --nofile=3:3 /bin/echo a", false),
        ("unshare -Ur /bin/echo a", false),
        ("unshare -Urm --mount-proc -pf /bin/cat /proc/self/stat", false),
        ("setpriv --reuid=12345 --regid=12345 --clear-groups /bin/echo a", true),
        ("setpriv --no-new-privs --bounding-set=-all /bin/echo a", true),
        ("chroot --userspec=12345:12345 / /bin/echo a", true),
        ("unshare -m /bin/sh -c true", true),
        ("nsenter -t 1 -m /bin/echo a", true),
        ("setarch -R /bin/echo a", false),
        ("chrt -b 0 /bin/echo a", false),
        ("ionice -c 3 /bin/echo a", false),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(program), true) = (guest::program(words[0]), root || !needs_root) else {
            skip(
                TEST,
                &format!(
                    "{line}: {}",
                    if needs_root && !root { "needs root" } else { "is not installed" }
                ),
            );
            continue;
        };
        let guest = Guest::new(&program, &words[1..]);
        if line.contains("/proc/self/stat") {
            // Numbers in it vary; that there is output is enough.
            let traced = guest.traced(&artifacts);
            failures.check(
                line,
                traced.seen.end == guest.native().end && traced.seen.stdout.starts_with(b"1 (cat)"),
                || format!("{}; {}", traced.seen.shown(), traced.remarks()),
            );
            continue;
        }
        failures.add(line, compare(&artifacts, &guest, ANY));
    }
    failures.finish();
}
