//! Which files count: those below the directories that the settings name.

use alloc::{string::String, vec::Vec};

/// The chosen directories, without trailing slashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories(Vec<Vec<u8>>);

impl Directories {
    /// From the setting `directories`.
    pub fn new(paths: &[String]) -> Directories {
        Directories(
            paths.iter().map(|path| without_trailing_slashes(path.as_bytes()).to_vec()).collect(),
        )
    }

    /// Whether every file counts.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a file of this absolute path counts.
    pub fn contain(&self, path: &[u8]) -> bool {
        self.is_everything()
            || self.0.iter().any(|directory| {
                path.strip_prefix(directory.as_slice())
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            })
    }
}

fn without_trailing_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_components_only() {
        let directories = Directories::new(&["/data/".into(), "/var/log".into()]);
        assert!(directories.contain(b"/data/x") && directories.contain(b"/data"));
        assert!(directories.contain(b"/var/log/a/b"));
        assert!(!directories.contain(b"/database/x") && !directories.contain(b"/var/lo"));
        assert!(!directories.contain(b"pipe:[1]"));
    }

    #[test]
    fn none_chosen_means_all_and_the_root_is_everything() {
        assert!(Directories::default().contain(b"/anything"));
        assert!(Directories::new(&["/".into()]).contain(b"/anything"));
    }
}
