//! The files under test: `analyzer` and `libshim.so`.
//!
//! `./run test` names their directory in SPARKANALYZER_TEST_BIN. A plain `cargo test` takes them from
//! `target/release` if `./run build` made them before, and skips the tests that need them otherwise.

use std::path::{Path, PathBuf};

/// The pair of files that most suites need.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The command-line tool.
    pub analyzer: PathBuf,
    /// The library to preload.
    pub shim: PathBuf,
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf()
}

/// The directory of build output that this test executable itself came from (`target/release` or
/// `target/debug`).
pub(crate) fn own_target() -> Option<PathBuf> {
    // target/<profile>/deps/<test>-<hash>, or target/<profile>/<bin>
    let exe = std::env::current_exe().ok()?;
    let directory = exe.parent()?;
    let profile = if directory.ends_with("deps") { directory.parent()? } else { directory };
    Some(profile.to_path_buf())
}

/// Finds both files, or `None`.
pub fn find() -> Option<Artifacts> {
    let mut directories = Vec::new();
    if let Some(named) = std::env::var_os("SPARKANALYZER_TEST_BIN") {
        directories.push(PathBuf::from(named));
    } else {
        if let Some(own) = own_target() {
            directories.push(own.with_file_name("release"));
        }
        directories.push(repository().join("target/release"));
    }
    directories
        .into_iter()
        .map(|directory| Artifacts {
            analyzer: directory.join("analyzer"),
            shim: directory.join("libshim.so"),
        })
        .find(|artifacts| artifacts.analyzer.is_file() && artifacts.shim.is_file())
}

/// Finds both files; without them the test is skipped (`None`), under `./run test` it fails.
///
/// # Panics
/// When SPARKANALYZER_TEST_STRICT is set and a file is missing.
pub fn need(test: &str) -> Option<Artifacts> {
    let found = find();
    if found.is_none() {
        assert!(
            std::env::var_os("SPARKANALYZER_TEST_STRICT").is_none(),
            "{test}: analyzer and libshim.so are missing although ./run test built them"
        );
        crate::skip::skip(test, "no target/release/{analyzer,libshim.so}: ./run build first");
    }
    found
}
