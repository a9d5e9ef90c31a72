//! Whose a process's records are.
//!
//! # Design
//!
//! Everybody who may write to the folder of the records may write a file with any process's id, and the more
//! complete one of two files would stand. So what a process id stands for is bound at its first sight: its number,
//! start and node, as the headers tell, by what the store knows or else by the file that was there first; and the
//! owner of the files within one ingest. A file that says otherwise is left out, and it is said. Copies that root
//! or the user of the ingest has made are as good as the files.
//!
//! # Limitations
//!
//! Who can read a process's header and write as its user (or as root) can forge its records: a CRC finds damage, not
//! forgery.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use records::Header;

use crate::store::api::Taken;
use crate::text::field::known_id;

/// What headers say of a process that never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The process's number.
    pub pid: i64,
    /// When it started.
    pub start_real_ns: i64,
    /// Where.
    pub node: Option<String>,
}

impl Claim {
    /// Of a segment.
    pub fn of(header: &Header<'_>) -> Claim {
        Claim {
            pid: header.pid.into(),
            start_real_ns: header.start_real_ns as i64,
            node: known_id(header.node),
        }
    }

    /// What another one says otherwise.
    fn differs(&self, other: &Claim) -> Option<&'static str> {
        let is_same_node =
            self.node.as_ref().zip(other.node.as_ref()).is_none_or(|(one, other)| one == other);
        match (self.pid == other.pid, self.start_real_ns == other.start_real_ns, is_same_node) {
            (true, true, true) => None,
            (_, false, _) => Some("another start"),
            (false, ..) => Some("another process number"),
            (.., false) => Some("another node"),
        }
    }
}

/// Whose a file is, and since when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    since: SystemTime,
    uid: u32,
}

impl Owner {
    /// Of a file. Where a file system does not know when it was made, the last change is all there is.
    pub fn of(metadata: &Metadata) -> Owner {
        let since = metadata.created().or_else(|_| metadata.modified());
        Owner { since: since.unwrap_or(SystemTime::UNIX_EPOCH), uid: metadata.uid() }
    }

    /// Whether a copy of anybody's file may be this one's.
    fn is_trusted(self) -> bool {
        // SAFETY: it has no preconditions.
        self.uid == 0 || self.uid == unsafe { libc::geteuid() }
    }
}

/// Which of a process's files are its own, by what the store knows of it.
pub fn own<'f>(
    id: &str,
    files: impl Iterator<Item = (&'f Path, &'f Claim, Owner)> + Clone,
    stored: Option<&Claim>,
    taken: &mut Taken,
) -> Vec<&'f Path> {
    let first = files.clone().min_by_key(|(path, _, owner)| (*owner, *path));
    let Some((_, first, _)) = first else { return Vec::new() };
    let bound = stored.unwrap_or(first);
    let same = files.clone().filter(|(_, claim, _)| bound.differs(claim).is_none());
    let owner = same.filter(|(.., owner)| !owner.is_trusted()).map(|(.., owner)| owner).min();
    let mut own = Vec::new();
    for (path, claim, of) in files {
        let is_owners = of.is_trusted() || owner.is_none_or(|owner| owner.uid == of.uid);
        let otherwise = bound.differs(claim).or((!is_owners).then_some("another owner"));
        match otherwise {
            None => own.push(path),
            Some(what) => taken.left_out.push(format!(
                "{}: says that it is of process {id}, which has {what}; left out",
                path.display()
            )),
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_claim_stands_and_others_are_told() {
        let claim = |pid, start, node: &str| Claim {
            pid,
            start_real_ns: start,
            node: Some(node.to_owned()).filter(|node| !node.is_empty()),
        };
        let owner = |seconds, uid| Owner {
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            uid,
        };
        let real = claim(7, 100, "n");
        let run = |files: &[(&str, Claim, Owner)], stored: Option<&Claim>| {
            let mut taken = Taken::default();
            let files = files.iter().map(|(path, claim, owner)| (Path::new(*path), claim, *owner));
            let own = own("id", files, stored, &mut taken);
            let own: Vec<_> = own.iter().map(|path| path.display().to_string()).collect();
            (own.join(" "), taken.left_out.join("\n"))
        };
        let (own, told) = run(
            &[
                ("a", claim(7, 101, "n"), owner(9, 71)),
                ("b", real.clone(), owner(5, 70)),
                ("c", real.clone(), owner(6, 71)),
                ("d", claim(8, 100, "n"), owner(8, 70)),
                ("e", claim(7, 100, "m"), owner(8, 70)),
                ("f", claim(7, 100, ""), owner(8, 70)),
                ("root's copy", real.clone(), owner(1, 0)),
            ],
            None,
        );
        assert_eq!(own, "b f root's copy");
        for told_of in ["a: says", "another start", "another owner", "number", "another node"] {
            assert!(told.contains(told_of), "{told_of}: {told}");
        }
        // What the store knows stands, whatever was there first.
        let (own, _) = run(
            &[("forged", claim(7, 99, "n"), owner(1, 71)), ("real", real.clone(), owner(2, 70))],
            Some(&real),
        );
        assert_eq!(own, "real");
    }
}
