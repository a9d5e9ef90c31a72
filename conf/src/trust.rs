//! Whom the places that settings name must belong to before a process reads or writes there.
//!
//! # Design
//!
//! What anybody else can change is not used: a folder, a conf file or a log file belongs to root or to the
//! process's user, and nobody else may write to it. A sticky folder of root's or one's own may be everybody's: the
//! kernel lets nobody remove or rename another one's file there. Whoever uses a place looks at it through its
//! descriptor; [`path`] is for those who must know too that nobody can put another place under the same name.
//!
//! In a user namespace an owner who has no number in it is shown as [`UNMAPPED`]: root of the machine, or one
//! whom nobody inside can be. Such an owner counts as root for folders above, and for sticky ones.
//!
//! # Limitations
//!
//! Access control lists are seen as far as the mode shows them: a list that lets others write shows in the
//! group's bits.

use alloc::{vec, vec::Vec};
use core::fmt;

/// `S_IFMT` and the types of inode(7).
const TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const STICKY: u32 = 0o1000;
const GROUP_OR_WORLD: u32 = 0o022;
/// Whom the kernel shows where an owner has no number in this user namespace (`DEFAULT_OVERFLOWUID`).
pub const UNMAPPED: u32 = 65534;
/// The kernel's own limit on symbolic links in a path (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// What stat(2) says of a place, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub owner: u32,
    /// Whether the file system is mounted read-only: then nobody can write through it.
    pub is_read_only: bool,
}

/// For whom the places are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The effective user.
    pub user: u32,
    /// Whether this is a user namespace where not everybody has a number.
    pub is_in_namespace: bool,
}

/// Why a place is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is something else than what it should be, named by its type's bits.
    Kind(u32),
    /// It belongs to this user.
    Owner(u32),
    /// Others may write to it; its permissions.
    Mode(u32),
    /// Too many symbolic links, or a place that cannot be looked at.
    Hidden,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Kind(mode) => f.write_str(match mode & TYPE {
                FOLDER => "it is a folder",
                FILE => "it is a file",
                LINK => "it is a symbolic link",
                0o010_000 => "it is a FIFO",
                0o140_000 => "it is a socket",
                _ => "it is a device",
            }),
            Flaw::Owner(owner) => {
                write!(f, "it belongs to user {owner}, neither root nor the process's user")
            }
            Flaw::Mode(mode) => write!(f, "others may write to it (mode {:o})", mode & 0o7777),
            Flaw::Hidden => f.write_str("it cannot be looked at"),
        }
    }
}

impl Who {
    fn owns(&self, owner: u32) -> bool {
        owner == 0 || owner == self.user
    }

    /// As [`Who::owns`], or one whom nobody in this namespace can be.
    fn is_above(&self, owner: u32) -> bool {
        self.owns(owner) || (self.is_in_namespace && owner == UNMAPPED)
    }
}

/// Whether record files may be written into a folder.
pub fn folder(place: &Place, who: &Who) -> Result<(), Flaw> {
    if place.mode & TYPE != FOLDER {
        return Err(Flaw::Kind(place.mode));
    }
    let is_sticky = place.mode & STICKY != 0;
    let is_owned = who.owns(place.owner) || (is_sticky && who.is_above(place.owner));
    if !is_owned {
        return Err(Flaw::Owner(place.owner));
    }
    if place.mode & GROUP_OR_WORLD != 0 && !is_sticky {
        return Err(Flaw::Mode(place.mode));
    }
    Ok(())
}

/// Whether something is a regular file.
pub fn regular(place: &Place) -> Result<(), Flaw> {
    if place.mode & TYPE == FILE { Ok(()) } else { Err(Flaw::Kind(place.mode)) }
}

/// Whether messages may be appended to a file: others may write to it, as to every log of several users.
pub fn log_file(place: &Place, who: &Who) -> Result<(), Flaw> {
    regular(place)?;
    if who.owns(place.owner) { Ok(()) } else { Err(Flaw::Owner(place.owner)) }
}

/// Whether a file says what a process with rights of its own does.
pub fn orders(place: &Place, who: &Who) -> Result<(), Flaw> {
    regular(place)?;
    if !who.is_above(place.owner) {
        return Err(Flaw::Owner(place.owner));
    }
    if place.mode & GROUP_OR_WORLD != 0 && !place.is_read_only {
        return Err(Flaw::Mode(place.mode));
    }
    Ok(())
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Missing,
    /// It cannot be looked at.
    Unknown,
    /// A symbolic link: its owner, and where it leads.
    Link(u32, Vec<u8>),
    /// Anything else.
    Place(Place),
}

/// Whether nobody but root and the user can change what an absolute path leads to: each folder on the way, and the
/// last part. What is missing is for whoever may write to the folder above, which was looked at.
///
/// # Errors
/// Where somebody can, and how.
pub fn path(
    path: &[u8],
    who: &Who,
    mut look: impl FnMut(&[u8]) -> Look,
) -> Result<(), (Vec<u8>, Flaw)> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect()
    };
    // The last one is the next one; the empty one is the root itself.
    let mut ahead = parts(path);
    ahead.push(Vec::new());
    let mut now: Vec<u8> = Vec::new();
    let mut links = 0;
    let mut is_root = true;
    while let Some(part) = ahead.pop() {
        if !is_root && (part.is_empty() || part == b".") {
            continue;
        }
        if part == b".." {
            let end = now.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            now.truncate(end);
            continue;
        }
        is_root = false;
        let mut next = now.clone();
        next.push(b'/');
        next.extend_from_slice(&part);
        match look(&next) {
            Look::Missing => return Ok(()),
            Look::Unknown => return Err((next, Flaw::Hidden)),
            Look::Link(owner, target) => {
                links += 1;
                if !who.is_above(owner) {
                    return Err((next, Flaw::Owner(owner)));
                }
                if links > MOST_LINKS {
                    return Err((next, Flaw::Hidden));
                }
                if target.first() == Some(&b'/') {
                    now.clear();
                }
                ahead.extend(parts(&target));
            }
            Look::Place(place) => {
                if !who.is_above(place.owner) {
                    return Err((next, Flaw::Owner(place.owner)));
                }
                let is_shared = place.mode & TYPE == FOLDER && place.mode & STICKY != 0;
                let is_writable = place.mode & GROUP_OR_WORLD != 0 && !place.is_read_only;
                if is_writable && !is_shared {
                    return Err((next, Flaw::Mode(place.mode)));
                }
                now = if part.is_empty() { vec![] } else { next };
            }
        }
    }
    Ok(())
}

/// A variable that says that another user's environment came along, as sudo(8), pkexec(1) and doas(1) leave it for
/// the program that they start as root; `value` finds a variable.
pub fn other_user<'v>(value: impl Fn(&str) -> Option<&'v [u8]>) -> Option<&'static str> {
    ["SUDO_UID", "PKEXEC_UID", "DOAS_USER"]
        .into_iter()
        .find(|name| value(name).is_some_and(|user| !matches!(user, b"0" | b"root")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Who = Who { user: 0, is_in_namespace: false };
    const SPARK: Who = Who { user: 185, is_in_namespace: false };
    const GUEST: Who = Who { user: 0, is_in_namespace: true };

    fn of(owner: u32, mode: u32) -> Place {
        Place { mode, owner, is_read_only: false }
    }

    #[test]
    fn folders_of_others_and_for_others_are_refused() {
        let result = |owner, mode, who: &Who| folder(&of(owner, FOLDER | mode), who);
        assert_eq!(result(0, 0o755, &SPARK), Ok(()));
        assert_eq!(result(185, 0o750, &SPARK), Ok(()));
        assert_eq!(result(185, 0o750, &ROOT), Err(Flaw::Owner(185)));
        assert_eq!(result(1000, 0o755, &SPARK), Err(Flaw::Owner(1000)));
        assert_eq!(result(1000, 0o1777, &SPARK), Err(Flaw::Owner(1000)));
        assert_eq!(result(0, 0o1777, &SPARK), Ok(()));
        assert_eq!(result(0, 0o3777, &SPARK), Ok(()));
        for mode in [0o777, 0o775, 0o2770] {
            assert_eq!(result(0, mode, &SPARK), Err(Flaw::Mode(FOLDER | mode)));
            assert_eq!(result(185, mode, &SPARK), Err(Flaw::Mode(FOLDER | mode)));
        }
        assert_eq!(result(UNMAPPED, 0o1777, &GUEST), Ok(()));
        assert_eq!(result(UNMAPPED, 0o755, &GUEST), Err(Flaw::Owner(UNMAPPED)));
        assert_eq!(result(UNMAPPED, 0o1777, &ROOT), Err(Flaw::Owner(UNMAPPED)));
        assert_eq!(folder(&of(0, 0o010_644), &ROOT), Err(Flaw::Kind(0o010_644)));
    }

    #[test]
    fn files_are_regular_and_ours() {
        assert_eq!(log_file(&of(0, FILE | 0o666), &SPARK), Ok(()));
        assert_eq!(log_file(&of(1000, FILE | 0o666), &SPARK), Err(Flaw::Owner(1000)));
        assert_eq!(log_file(&of(0, 0o010_666), &ROOT), Err(Flaw::Kind(0o010_666)));
        assert_eq!(orders(&of(0, FILE | 0o644), &ROOT), Ok(()));
        assert_eq!(orders(&of(0, FILE | 0o664), &ROOT), Err(Flaw::Mode(FILE | 0o664)));
        assert_eq!(orders(&of(12345, FILE | 0o644), &ROOT), Err(Flaw::Owner(12345)));
        assert_eq!(orders(&of(UNMAPPED, FILE | 0o644), &GUEST), Ok(()));
        let read_only = Place { is_read_only: true, ..of(0, FILE | 0o666) };
        assert_eq!(orders(&read_only, &ROOT), Ok(()));
    }

    /// A machine's folders, by path.
    fn machine(path: &[u8]) -> Look {
        let folder = |owner, mode| Look::Place(of(owner, FOLDER | mode));
        match path {
            b"/" | b"/var" | b"/data" | b"/tmp/roots" | b"/data/lake" => folder(0, 0o755),
            b"/tmp" | b"/var/tmp" => folder(0, 0o1777),
            b"/shared" => folder(0, 0o777),
            b"/home" => folder(0, 0o755),
            b"/home/eve" | b"/tmp/eves" => folder(1000, 0o755),
            b"/home/eve/roots" => folder(0, 0o755),
            b"/var/data" => Look::Link(0, b"/data".to_vec()),
            b"/data/up" => Look::Link(0, b"../data/./lake".to_vec()),
            b"/data/to_eve" => Look::Link(0, b"../home/eve/x".to_vec()),
            b"/tmp/eves_link" => Look::Link(1000, b"/data".to_vec()),
            b"/data/loop" => Look::Link(0, b"loop".to_vec()),
            b"/data/hidden" => Look::Unknown,
            b"/mounted" => Look::Place(Place { is_read_only: true, ..of(0, FOLDER | 0o777) }),
            b"/mounted/conf" | b"/data/conf" => Look::Place(of(0, FILE | 0o644)),
            _ => Look::Missing,
        }
    }

    #[test]
    fn every_part_of_a_path_counts() {
        let way = |text: &str| {
            path(text.as_bytes(), &ROOT, machine)
                .map_err(|(place, flaw)| (String::from_utf8(place).unwrap(), flaw))
        };
        for good in [
            "/",
            "/data/lake",
            "//data/./lake/",
            "/var/data/lake",
            "/data/up",
            "/tmp/roots/not/yet",
            "/data/conf",
            "/mounted/conf",
        ] {
            assert_eq!(way(good), Ok(()), "{good}");
        }
        let owned = |place: &str| Err((place.to_owned(), Flaw::Owner(1000)));
        assert_eq!(way("/home/eve/roots"), owned("/home/eve"));
        assert_eq!(way("/home/eve/../../data"), owned("/home/eve"));
        assert_eq!(way("/tmp/eves"), owned("/tmp/eves"));
        assert_eq!(way("/tmp/eves_link/lake"), owned("/tmp/eves_link"));
        assert_eq!(way("/data/to_eve"), owned("/home/eve"));
        assert_eq!(way("/shared/x"), Err(("/shared".to_owned(), Flaw::Mode(FOLDER | 0o777))));
        assert_eq!(way("/data/hidden/x"), Err(("/data/hidden".to_owned(), Flaw::Hidden)));
        assert_eq!(way("/data/loop").map_err(|(_, flaw)| flaw), Err(Flaw::Hidden));
        let eve = Who { user: 1000, is_in_namespace: false };
        assert_eq!(path(b"/home/eve/roots", &eve, machine), Ok(()));
    }

    #[test]
    fn who_came_by_sudo_is_another_user() {
        let asked = |all: &'static [(&'static str, &'static [u8])]| {
            other_user(move |name| all.iter().find(|one| one.0 == name).map(|one| one.1))
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[("SUDO_UID", b"0"), ("DOAS_USER", b"root")]), None);
        assert_eq!(asked(&[("SUDO_UID", b"1000")]), Some("SUDO_UID"));
        assert_eq!(asked(&[("PKEXEC_UID", b"1000")]), Some("PKEXEC_UID"));
        assert_eq!(asked(&[("DOAS_USER", b"eve")]), Some("DOAS_USER"));
        assert_eq!(asked(&[("SUDO_UID", b"")]), Some("SUDO_UID"));
    }
}
