//! A process with rights of its own does not follow an environment that may be somebody else's: neither where it
//! writes, nor what it reads, nor whether it is counted. What root itself asks for goes on working.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tests::artifacts::{self, Artifacts};
use tests::preloaded::shown;
use tests::skip::skip;
use tests::worker_of_user::{OTHER, Stage, finished, own, records, set_mode};

/// A machine with a conf of root's in /etc, and what a process left where that says.
struct Machine {
    etc: PathBuf,
    records: PathBuf,
    log: PathBuf,
}

impl Machine {
    fn new(stage: &Stage) -> Machine {
        let etc = stage.folder("etc", 0, 0, 0o755);
        let records = stage.folder("roots_records", 0, 0, 0o1777);
        let log = etc.join("log");
        let conf = format!("output_dir = {records:?}\nlog_level = \"warn\"\nlog_file = {log:?}\n");
        fs::create_dir(etc.join("sparkanalyzer")).expect("a directory");
        fs::write(etc.join("sparkanalyzer/sparkanalyzer.toml"), conf).expect("written");
        Machine { etc, records, log }
    }

    /// Runs a command where `/etc` is the machine's; `None` where there are no mount namespaces.
    fn run(&self, worker: &Command, before: &[&str]) -> Option<Output> {
        let mut command = Command::new("unshare");
        let script = format!("mount --bind {} /etc && exec \"$@\"", self.etc.display());
        command.args(["-m", "sh", "-c", &script, "sh"]).args(before);
        // The variables for the worker alone: those of the programs before it would count as its own.
        command.args(["env", "-i"]);
        for (name, value) in worker.get_envs() {
            let value = value.unwrap_or_default();
            command.arg(format!("{}={}", name.display(), value.display()));
        }
        command.arg(worker.get_program()).args(worker.get_args()).stdin(Stdio::null());
        let probe = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success()).then(|| finished(&mut command))
    }

    /// Empties what was left, and says how many record files and which log there were.
    fn left(&self) -> (usize, String) {
        let files = records(&self.records);
        for file in &files {
            fs::remove_file(file).expect("root may");
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let _ = fs::remove_file(&self.log);
        (files.len(), log)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

#[test]
fn roots_processes_follow_no_variable_of_others() {
    const NAME: &str = "roots_processes_follow_no_variable_of_others";
    let Some(artifacts) = artifacts::need(NAME) else { return };
    let Some(stage) = Stage::new(NAME, &artifacts) else { return };
    let machine = Machine::new(&stage);
    // A folder of the user's with one of root's in it, which the user can rename and replace.
    let eves = stage.folder("eves", OTHER, OTHER, 0o755);
    let inside = eves.join("roots");
    fs::create_dir(&inside).expect("a directory");
    let roots = stage.folder("roots", 0, 0, 0o755);
    let by_link = eves.join("link");
    std::os::unix::fs::symlink(&roots, &by_link).expect("a link");
    let eves_conf = eves.join("conf.toml");
    fs::write(&eves_conf, format!("output_dir = {roots:?}\n")).expect("written");
    let roots_conf = roots.join("conf.toml");
    fs::write(&roots_conf, format!("output_dir = {roots:?}\n")).expect("written");
    let (output_dir, log_file) = ("SPARKANALYZER_OUTPUT_DIR", "SPARKANALYZER_LOG_FILE");
    let conf = "SPARKANALYZER_CONF";
    let level = ("SPARKANALYZER_LOG_LEVEL", "debug");
    let (sudo, roots) = (("SUDO_UID", "12345"), text(&roots));
    let eves_log = eves.join("log");
    let outside = by_link.join("sub");
    for (variables, why) in [
        (vec![(output_dir, text(&inside))], "belongs to user 12345"),
        (vec![(output_dir, text(&outside))], "belongs to user 12345"),
        (vec![(conf, text(&eves_conf))], "belongs to user 12345"),
        (vec![(output_dir, roots), (log_file, text(&eves_log)), level], "SPARKANALYZER_LOG_FILE"),
        (vec![(output_dir, roots), sudo], "SUDO_UID"),
        (vec![(output_dir, roots), ("PKEXEC_UID", "12345")], "PKEXEC_UID"),
        (vec![(output_dir, roots), ("DOAS_USER", "eve")], "DOAS_USER"),
        (vec![(conf, text(&roots_conf)), sudo], "SUDO_UID"),
        (vec![("SPARKANALYZER_ROLES", "driver"), sudo], "SUDO_UID"),
        (vec![(output_dir, roots), ("SPARKANALYZER_TRACE", "0123456789abcdef"), sudo], "SUDO_UID"),
    ] {
        let mut worker = stage.worker(0);
        worker.envs(variables.iter().copied());
        let Some(output) = machine.run(&worker, &[]) else {
            return skip(NAME, "cannot make a mount namespace");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.lines().count() == 1 && said.contains(why), "{variables:?}: {said}");
        let (files, log) = machine.left();
        assert_eq!(files, 1, "{variables:?}: the conf in /etc says where: {log}");
        assert_eq!(log.lines().count(), 1, "{variables:?}: {log}");
        assert!(log.contains(why), "{variables:?}: {log}");
        let strays: Vec<_> = [&inside, Path::new(roots)].into_iter().flat_map(records).collect();
        assert!(strays.is_empty() && !eves_log.exists(), "{variables:?}: {strays:?}");
    }
    // A program without a role of ours is not counted because of such a variable.
    let mut program = Command::new(stage.path("life"));
    program.args(["writes", "3"]).env("LD_PRELOAD", stage.path("libshim.so"));
    program.env("SPARKANALYZER_TRACE", "0123456789abcdef").env("SUDO_UID", "12345");
    program.env(output_dir, roots);
    let output = machine.run(&program, &[]).expect("as before");
    assert!(output.stderr.is_empty(), "{}", shown(&output));
    let (files, log) = machine.left();
    assert_eq!(files + records(Path::new(roots)).len(), 0);
    assert_eq!(log.lines().count(), 1, "{log}");
    // Root's own variables are followed.
    for variables in [vec![], vec![("SUDO_UID", "0")]] {
        let mut worker = stage.worker(0);
        worker.envs(variables).env(output_dir, roots);
        machine.run(&worker, &[]).expect("as before");
        assert_eq!((machine.left().0, records(Path::new(roots)).len()), (0, 1));
        fs::remove_file(&records(Path::new(roots))[0]).expect("root may");
    }
    // Nor is a conf in /etc believed that others may have changed.
    set_mode(&machine.etc.join("sparkanalyzer/sparkanalyzer.toml"), 0o666);
    let mut worker = stage.worker(0);
    worker.env(output_dir, &inside);
    let output = machine.run(&worker, &[]).expect("as before");
    assert!(shown(&output).contains("others may write to it"), "{}", shown(&output));
    assert_eq!(machine.left(), (0, String::new()));
}

#[test]
fn capabilities_are_rights_of_ones_own_too() {
    const NAME: &str = "capabilities_are_rights_of_ones_own_too";
    let Some(artifacts) = artifacts::need(NAME) else { return };
    let Some(stage) = Stage::new(NAME, &artifacts) else { return };
    let machine = Machine::new(&stage);
    let own_folder = stage.folder("own", OTHER, OTHER, 0o755);
    let mut worker = stage.worker(0);
    worker.env("SPARKANALYZER_OUTPUT_DIR", &own_folder).env("SUDO_UID", "54321");
    let user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"];
    let capable = [&user[..], &["--inh-caps=+net_raw", "--ambient-caps=+net_raw"]].concat();
    let Some(_) = machine.run(&worker, &capable) else {
        return skip(NAME, "cannot make a mount namespace");
    };
    assert_eq!((machine.left().0, records(&own_folder).len()), (1, 0), "with a capability");
    machine.run(&worker, &user).expect("as before");
    assert_eq!((machine.left().0, records(&own_folder).len()), (0, 1), "without");
}

/// `analyzer trace` of `cat`; what it said and the JSON.
fn trace(
    artifacts: &Artifacts,
    stage: &Stage,
    user: u32,
    change: impl FnOnce(&mut Command),
) -> (Output, Value) {
    let mut command = Command::new(&artifacts.analyzer);
    command.args(["trace", "--json", "-", "--shim"]).arg(stage.path("libshim.so"));
    command.env_remove("SUDO_UID").stdin(Stdio::null()).uid(user).gid(user).current_dir("/");
    change(&mut command);
    command.args(["--", "sh", "-c", "cat /dev/null; :"]);
    let output = finished(&mut command);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, json)
}

fn assert_counted(what: &str, (output, json): (Output, Value)) {
    let counted = json["processes"].as_array().map_or(0, Vec::len);
    assert_eq!((counted, &json["complete"]), (2, &Value::Bool(true)), "{what}: {}", shown(&output));
}

#[test]
fn what_root_and_users_trace_themselves_is_counted() {
    const NAME: &str = "what_root_and_users_trace_themselves_is_counted";
    let Some(artifacts) = artifacts::need(NAME) else { return };
    let Some(stage) = Stage::new(NAME, &artifacts) else { return };
    let run = |user, change: &dyn Fn(&mut Command)| trace(&artifacts, &stage, user, change);
    assert_counted("root", run(0, &|_| ()));
    assert_counted("a user", run(OTHER, &|_| ()));
    // As sudo leaves it, in the user's home, with the user's conf that root names.
    let home = stage.folder("home", OTHER, OTHER, 0o755);
    let conf = home.join("conf.toml");
    fs::write(&conf, "snapshot_interval_ms = 20\n").expect("written");
    own(&conf, OTHER, OTHER);
    let by_sudo = |command: &mut Command| {
        command.env("SUDO_UID", "12345");
    };
    assert_counted("by sudo", run(0, &by_sudo));
    let out = home.join("out");
    let at_home = |command: &mut Command| {
        command.env("SUDO_UID", "12345").arg("--out").arg(&out).arg("--conf").arg(&conf);
    };
    assert_counted("by sudo at home", run(0, &at_home));
    assert_eq!(records(&out).len(), 2);
    let left = fs::read_dir(&out).expect("a directory").count();
    assert_eq!(left, 2, "the settings that it left are gone");
    assert_counted(
        "a link as --out",
        run(0, &|command| {
            let link = stage.path("link");
            let _ = std::os::unix::fs::symlink(&out, &link);
            command.arg("--out").arg(link);
        }),
    );
}

#[test]
fn root_of_a_user_namespace_is_counted() {
    const NAME: &str = "root_of_a_user_namespace_is_counted";
    let Some(artifacts) = artifacts::need(NAME) else { return };
    let Some(stage) = Stage::new(NAME, &artifacts) else { return };
    let unshare = ["-Ur", "--"];
    let probe = Command::new("unshare").args(unshare).arg("true").uid(OTHER).gid(OTHER).status();
    if !probe.is_ok_and(|status| status.success()) {
        return skip(NAME, "users cannot make user namespaces here");
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(&artifacts.analyzer).args(["trace", "--json", "-", "--shim"]);
    command.arg(stage.path("libshim.so")).args(["--", "sh", "-c", "cat /dev/null; :"]);
    command.stdin(Stdio::null()).uid(OTHER).gid(OTHER).current_dir("/");
    let output = finished(&mut command);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    assert_counted("in a namespace", (output, json));
    // Traced from outside, it has become root inside.
    let mut command = Command::new(&artifacts.analyzer);
    command.args(["trace", "--json", "-", "--shim"]).arg(stage.path("libshim.so"));
    command.args(["--", "unshare"]).args(unshare).args(["sh", "-c", "cat /dev/null; :"]);
    command.stdin(Stdio::null()).uid(OTHER).gid(OTHER).current_dir("/");
    let output = finished(&mut command);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let counted = json["processes"].as_array().map_or(0, Vec::len);
    assert_eq!((counted, &json["complete"]), (3, &Value::Bool(true)), "{}", shown(&output));
    // An executor in a rootless container, with a folder that root of the machine made for all.
    let folder = stage.folder("records", 0, 0, 0o1777);
    let worker = stage.worker(OTHER);
    let mut command = Command::new("unshare");
    command.args(unshare).arg(worker.get_program()).args(worker.get_args()).uid(OTHER).gid(OTHER);
    command.env_clear().env("LD_PRELOAD", stage.path("libshim.so"));
    command.env("SPARKANALYZER_OUTPUT_DIR", &folder).current_dir("/");
    let output = finished(&mut command);
    assert_eq!(records(&folder).len(), 1, "{}", shown(&output));
}

/// Only what nobody but root can have made is believed to be a trace's settings.
#[test]
fn settings_that_somebody_forged_are_not_believed() {
    const NAME: &str = "settings_that_somebody_forged_are_not_believed";
    let Some(artifacts) = artifacts::need(NAME) else { return };
    let Some(stage) = Stage::new(NAME, &artifacts) else { return };
    let id = "00112233445566778899aabbccddeeff";
    let folder = stage.folder("records", 0, 0, 0o1777);
    let name = folder.join(format!(".trace-{id}.toml"));
    let run = || {
        // Without a role of ours it is counted as a part of the trace or not at all.
        let mut program = Command::new(stage.path("life"));
        program.args(["writes", "3"]).env("LD_PRELOAD", stage.path("libshim.so"));
        program.env("SPARKANALYZER_OUTPUT_DIR", &folder).env("SPARKANALYZER_TRACE", id);
        finished(program.env("SUDO_UID", "12345"));
        let files = records(&folder);
        for file in &files {
            fs::remove_file(file).expect("root may");
        }
        files.len()
    };
    let conf = format!("output_dir = {folder:?}\ntracer = \"none\"\n");
    fs::write(&name, &conf).expect("written");
    set_mode(&name, 0o600);
    assert_eq!(run(), 1, "root's own");
    own(&name, OTHER, 0);
    assert_eq!(run(), 0, "another user's");
    own(&name, 0, 0);
    set_mode(&name, 0o622);
    assert_eq!(run(), 0, "writable by others");
    set_mode(&name, 0o600);
    fs::hard_link(&name, folder.join("second")).expect("root may");
    assert_eq!(run(), 0, "a second name: the first may be by somebody else");
    fs::remove_file(&name).expect("root may");
    std::os::unix::fs::symlink(folder.join("second"), &name).expect("a link");
    assert_eq!(run(), 0, "a link");
}
