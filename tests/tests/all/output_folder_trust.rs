//! The output folder may have been made by somebody else: who it must belong to, what may lie in its place, whose
//! group the files get, and whose files count against its limit.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use records::{Event, Segment, notice};
use tests::artifacts;
use tests::build::{Linking, Source};
use tests::program_file;
use tests::worker_of_user::{OTHER, Stage, finished, make_node, own, records};

/// The one line that says why nothing can be written.
fn assert_refused(stage: &Stage, user: u32, folder: &Path, why: &str) {
    let (said, files) = stage.run(user, folder, &[]);
    assert_eq!(files, 0, "{}: {said}", folder.display());
    assert_eq!(said.lines().count(), 1, "{}: {said}", folder.display());
    assert!(said.contains(why) && said.contains("output_dir"), "{why}: {said}");
}

#[test]
fn folders_that_others_can_change_are_refused() {
    let Some(artifacts) = artifacts::need("folders_that_others_can_change") else { return };
    let Some(stage) = Stage::new("folders_that_others_can_change", &artifacts) else { return };
    let folder = |name: &str, owner, mode| stage.folder(name, owner, 0, mode);
    let of_other = folder("of_other", OTHER, 0o755);
    assert_refused(&stage, 54321, &of_other, "belongs to user 12345");
    let sticky = folder("sticky_of_other", OTHER, 0o1777);
    assert_refused(&stage, 54321, &sticky, "belongs to user 12345");
    assert_refused(&stage, OTHER, &folder("for_all", 0, 0o777), "mode 777");
    assert_refused(&stage, OTHER, &folder("for_group", 0, 0o775), "mode 775");
    assert_refused(&stage, OTHER, &folder("own_for_all", OTHER, 0o777), "mode 777");
    assert_refused(&stage, OTHER, &folder("own_for_group", OTHER, 0o775), "mode 775");
    assert_refused(&stage, OTHER, &folder("of_root", 0, 0o755), "permission denied");
    assert_refused(&stage, OTHER, &stage.path("missing"), "permission denied");
}

#[test]
fn folders_of_root_and_of_ones_own_are_used() {
    let Some(artifacts) = artifacts::need("folders_that_are_used") else { return };
    let Some(stage) = Stage::new("folders_that_are_used", &artifacts) else { return };
    for (name, owner, mode, user) in [
        ("of_root", 0, 0o755, 0),
        ("own", OTHER, 0o750, OTHER),
        ("sticky", 0, 0o1777, OTHER),
        ("sticky_for_group", 0, 0o1777, 0),
    ] {
        let folder = stage.folder(name, owner, 0, mode);
        assert_eq!(stage.run(user, &folder, &[]), (String::new(), 1), "{name}");
    }
    // Made where it is missing, for this user alone.
    let made = stage.folder("above", OTHER, 0, 0o755).join("made");
    assert_eq!(stage.run(OTHER, &made, &[]), (String::new(), 1));
    let status = fs::metadata(&made).expect("made");
    assert_eq!((status.uid(), status.mode() & 0o7777), (OTHER, 0o750));
}

#[test]
fn what_is_no_folder_is_refused_and_named() {
    let Some(artifacts) = artifacts::need("what_is_no_folder") else { return };
    let Some(stage) = Stage::new("what_is_no_folder", &artifacts) else { return };
    let target = stage.folder("target", OTHER, 0, 0o755);
    for (name, to) in [("link", "target"), ("dangling", "nowhere")] {
        symlink(stage.path(to), stage.path(name)).expect("a link");
        assert_refused(&stage, OTHER, &stage.path(name), "it is a symbolic link");
    }
    // Behind a slash the kernel would follow it.
    assert_refused(&stage, OTHER, &stage.path("link/"), "it is a symbolic link");
    assert_refused(&stage, OTHER, &stage.path("link/."), "it is a symbolic link");
    assert_eq!(records(&target).len(), 0);
    assert!(!stage.path("nowhere").exists());
    make_node(&stage.path("fifo"), &["p"]);
    assert_refused(&stage, OTHER, &stage.path("fifo"), "it is a FIFO");
    make_node(&stage.path("device"), &["c", "1", "3"]);
    assert_refused(&stage, OTHER, &stage.path("device"), "it is a device");
    File::create(stage.path("file")).expect("a file");
    assert_refused(&stage, OTHER, &stage.path("file"), "it is a file");
    // A link further up is root's business.
    symlink(stage.path(""), stage.path("way")).expect("a link");
    assert_eq!(stage.run(OTHER, &stage.path("way/target"), &[]), (String::new(), 1));
}

#[test]
fn files_have_the_processs_group_whatever_the_folders_is() {
    let Some(artifacts) = artifacts::need("files_have_the_processs_group") else { return };
    let Some(stage) = Stage::new("files_have_the_processs_group", &artifacts) else { return };
    for (name, mode, user) in [("shared", 0o3777, OTHER), ("roots", 0o2755, 0)] {
        let folder = stage.folder(name, 0, 54321, mode);
        let log = folder.join("log");
        let settings = [
            ("SPARKANALYZER_LOG_LEVEL", "info"),
            ("SPARKANALYZER_LOG_FILE", log.to_str().expect("plain")),
        ];
        assert_eq!(stage.run(user, &folder, &settings), (String::new(), 1), "{name}");
        for file in [&records(&folder)[0], &log] {
            let status = fs::metadata(file).expect("a file");
            let found = (status.uid(), status.gid(), status.mode() & 0o7777);
            assert_eq!(found, (user, user, 0o640), "{name}: {}", file.display());
        }
    }
}

/// Whether a process finds its folder near the limit of a MiB.
fn is_limited(stage: &Stage, folder: &Path) -> bool {
    let mut steady = Command::new(stage.path("steady_work"));
    steady
        .arg("300")
        .env_clear()
        .env("LD_PRELOAD", stage.path("libshim.so"))
        .env("SPARKANALYZER_TRACE", "0123456789abcdef0123456789abcdef")
        .env("SPARKANALYZER_OUTPUT_DIR", folder)
        .env("SPARKANALYZER_TRACER", "none")
        .env("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "20")
        .env("SPARKANALYZER_MAX_BYTES_PER_DIRECTORY", "1048576")
        .uid(OTHER)
        .gid(OTHER);
    let before = records(folder);
    finished(&mut steady);
    let new: Vec<_> = records(folder).into_iter().filter(|file| !before.contains(file)).collect();
    assert_eq!(new.len(), 1);
    let bytes = fs::read(&new[0]).expect("reads");
    fs::remove_file(&new[0]).expect("root may");
    let segment = Segment::parse(&bytes).expect("a segment");
    let is_notice = |event: &Event<'_>| match event {
        Event::Notice { code, .. } => *code == notice::DIRECTORY_SIZE_LIMIT,
        _ => false,
    };
    segment.groups().any(|group| is_notice(&group.event))
}

#[test]
fn files_of_others_and_holes_do_not_fill_the_folder() {
    let Some(artifacts) = artifacts::need("files_of_others_and_holes") else { return };
    let Some(stage) = Stage::new("files_of_others_and_holes", &artifacts) else { return };
    let program = Source::named("steady_work.c").build(Linking::Pie);
    program_file::copy(&program, &stage.path("steady_work"));
    let folder = stage.folder("records", 0, 0, 0o1777);
    let file = |name: &str, owner: u32| {
        let path = folder.join(name);
        let file = File::create(&path).expect("a file");
        own(&path, owner, owner);
        (path, file)
    };
    // A hole of a TB, a big file of another user, and a link to one of ours elsewhere.
    file("evil.sar", 54321).1.set_len(1 << 40).expect("sparse");
    file("hole.sar", OTHER).1.set_len(1 << 40).expect("sparse");
    fs::write(file("big.sar", 54321).0, vec![1; 4 << 20]).expect("written");
    fs::write(stage.path("elsewhere"), vec![1; 4 << 20]).expect("written");
    own(&stage.path("elsewhere"), OTHER, OTHER);
    symlink(stage.path("elsewhere"), folder.join("link.sar")).expect("a link");
    assert!(!is_limited(&stage, &folder));
    // What is ours and takes space counts.
    let (own_file, _) = file("own.sar", OTHER);
    fs::write(&own_file, vec![1; 4 << 20]).expect("written");
    assert!(is_limited(&stage, &folder));
    // Once, whatever names others gave it: a hundredth of the limit does not become the whole.
    fs::write(&own_file, vec![1; 16 << 10]).expect("written");
    for number in 0..100 {
        fs::hard_link(&own_file, folder.join(format!("own{number}.sar"))).expect("root may");
    }
    assert!(!is_limited(&stage, &folder));
}
