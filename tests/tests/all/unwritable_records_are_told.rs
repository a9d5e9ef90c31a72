//! A process that should be counted and cannot write its records says so once, on standard error, with the remedy;
//! nobody else says anything.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::artifacts;
use tests::preloaded::shown;
use tests::skip::skip;
use tests::worker_of_user::{OTHER, Stage, finished, records};

#[test]
fn the_second_user_of_a_folder_is_told() {
    let Some(artifacts) = artifacts::need("the_second_user_of_a_folder") else { return };
    let Some(stage) = Stage::new("the_second_user_of_a_folder", &artifacts) else { return };
    // As /var/tmp: the first user makes the folder, for itself.
    let folder = stage.folder("tmp", 0, 0, 0o1777).join("records");
    assert_eq!(stage.run(OTHER, &folder, &[]), (String::new(), 1));
    for user in [54321, 54322] {
        let (said, files) = stage.run(user, &folder, &[]);
        assert_eq!((files, said.lines().count()), (1, 1), "user {user}: {said}");
        let remedy = format!("install -d -o root -m 1777 {}", folder.display());
        for words in ["sparkanalyzer[", "belongs to user 12345", &remedy, "output_dir"] {
            assert!(said.contains(words), "user {user}, {words}: {said}");
        }
    }
    // Once as well where it is in the log on standard error.
    let (said, _) = stage.run(54321, &folder, &[("SPARKANALYZER_LOG_LEVEL", "error")]);
    assert_eq!(said.lines().count(), 1, "{said}");
    // The remedy helps.
    let remedy = ["-d", "-o", "root", "-m", "1777"];
    assert!(Command::new("install").args(remedy).arg(&folder).status().expect("runs").success());
    assert_eq!(stage.run(54321, &folder, &[]), (String::new(), 2));
}

/// The folder that nobody named: the first who writes makes it, also where the second one is root.
#[test]
fn the_second_user_of_the_usual_folder_is_told() {
    const NAME: &str = "the_second_user_of_the_usual_folder_is_told";
    let Some(artifacts) = artifacts::need(NAME) else { return };
    let Some(stage) = Stage::new(NAME, &artifacts) else { return };
    let (var, etc) = (stage.folder("var", 0, 0, 0o1777), stage.folder("etc", 0, 0, 0o755));
    let run = |user: u32| {
        let mount = |from: &Path, to: &str| format!("mount --bind {} {to} && ", from.display());
        let script = mount(&var, "/var/tmp") + &mount(&etc, "/etc") + "exec \"$@\"";
        let worker = stage.worker(0);
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, "sh", "setpriv"]).args(ids);
        command.args(["--clear-groups", "env", "-i"]);
        command.arg(format!("LD_PRELOAD={}", stage.path("libshim.so").display()));
        command.arg(worker.get_program()).args(worker.get_args()).stdin(Stdio::null());
        String::from_utf8(finished(&mut command).stderr).expect("text")
    };
    let probe = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return skip(NAME, "cannot make a mount namespace");
    }
    assert_eq!(run(OTHER), "");
    assert_eq!(records(&var.join("sparkanalyzer")).len(), 1);
    for user in [54321, 0] {
        let said = run(user);
        assert_eq!(said.lines().count(), 1, "user {user}: {said}");
        let remedy = "install -d -o root -m 1777 /var/tmp/sparkanalyzer";
        assert!(said.contains("belongs to user 12345") && said.contains(remedy), "{user}: {said}");
    }
    assert_eq!(records(&var.join("sparkanalyzer")).len(), 1);
}

#[test]
fn who_is_not_to_be_counted_says_nothing() {
    let Some(artifacts) = artifacts::need("who_is_not_to_be_counted") else { return };
    let Some(stage) = Stage::new("who_is_not_to_be_counted", &artifacts) else { return };
    let folder = stage.folder("records", OTHER, 0, 0o750);
    for variable in [
        ("SPARKANALYZER_ENABLED", "off"),
        ("SPARKANALYZER_ROLES", "executor"),
        ("SPARKANALYZER_USERS", "12345"),
    ] {
        assert_eq!(stage.run(54321, &folder, &[variable]), (String::new(), 0), "{variable:?}");
    }
}

#[test]
fn a_full_disk_is_told() {
    let Some(artifacts) = artifacts::need("a_full_disk_is_told") else { return };
    let Some(stage) = Stage::new("a_full_disk_is_told", &artifacts) else { return };
    let folder = stage.folder("disk", 0, 0, 0o755);
    let disk = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k,mode=1777", "tmpfs"])
        .arg(&folder)
        .stderr(Stdio::null())
        .status();
    if !disk.is_ok_and(|status| status.success()) {
        return skip("a_full_disk_is_told", "a tmpfs cannot be mounted here");
    }
    let fill = fs::write(folder.join("hog"), vec![1; 1 << 20]);
    let result = stage.run(OTHER, &folder, &[]);
    let _ = Command::new("umount").arg("-l").arg(&folder).status();
    assert!(fill.is_err());
    let said = result.0;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("no space left on device"), "{said}");
}

/// Under `trace` the programs' output is not ours: the analyzer tells of them in its own place.
#[test]
fn processes_under_an_analyzer_say_nothing() {
    let Some(artifacts) = artifacts::need("children_of_a_trace") else { return };
    let Some(stage) = Stage::new("children_of_a_trace", &artifacts) else { return };
    let folder = stage.folder("records", 0, 0, 0o755);
    let script = "for i in 1 2 3 4; do \
                  setpriv --reuid 12345 --clear-groups sh -c '/bin/echo one; :'; done; exit 0";
    let output = finished(
        Command::new(&artifacts.analyzer)
            .args(["trace", "--tracer", "none", "--shim"])
            .arg(stage.path("libshim.so"))
            .arg("--out")
            .arg(&folder)
            .args(["--", "sh", "-c", script])
            .stdin(Stdio::null()),
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n".repeat(4));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("sparkanalyzer["), "{}", shown(&output));
    assert!(!records(&folder).is_empty(), "{}", shown(&output));
}

/// A trace that somebody makes by hand has no analyzer that tells: each process does, its children of fork do not.
#[test]
fn processes_without_an_analyzer_say_it_once_each() {
    let Some(artifacts) = artifacts::need("processes_without_an_analyzer") else { return };
    let Some(stage) = Stage::new("processes_without_an_analyzer", &artifacts) else { return };
    let folder = stage.folder("records", 0, 0, 0o755);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "(:); (:); /bin/echo one; (:)"])
        .env("LD_PRELOAD", stage.path("libshim.so"))
        .env("SPARKANALYZER_TRACE", "00112233445566778899aabbccddeeff")
        .env("SPARKANALYZER_TRACER", "none")
        .env("SPARKANALYZER_OUTPUT_DIR", folder)
        .uid(OTHER)
        .gid(OTHER);
    let output = finished(&mut command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 2, "the shell and echo: {}", shown(&output));
    assert!(said.lines().all(|line| line.contains("permission denied")), "{}", shown(&output));
}
