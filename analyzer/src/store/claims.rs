//! Whose a process's records are.
//!
//! # Design
//!
//! Everybody who may write to the folder of the records may write a file with any process's id, and the more
//! complete one of two files would stand. So what a process id stands for is bound when the store takes it in: its number,
//! start and node, as the headers tell. A file that says otherwise later is left out, and it is said. Where files that come
//! together say different things of one process, or are of different users, none of them is taken: which one is right
//! cannot be seen from files (their order in time is anybody's to make, and copies have none). Copies that root or the user
//! of the ingest has made are as good as the files.
//!
//! # Limitations
//!
//! Who can read a process's header and write as its user (or as root) can forge its records: a CRC finds damage, not
//! forgery. Who can write to the folder can keep a process's records out of the first ingest, which is said.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
}

impl Owner {
    /// Of a file.
    pub fn of(metadata: &Metadata) -> Owner {
        Owner { uid: metadata.uid() }
    }

    /// Whether a copy of anybody's file may be this one's.
    fn is_trusted(self) -> bool {
        // SAFETY: it has no preconditions.
        self.uid == 0 || self.uid == unsafe { libc::geteuid() }
    }
}

/// Which of a process's files are its own, by what the store knows of it; all or none where it knows nothing.
pub fn own<'f>(
    id: &str,
    files: impl Iterator<Item = (&'f Path, &'f Claim, Owner)> + Clone,
    stored: Option<&Claim>,
    taken: &mut Taken,
) -> Vec<&'f Path> {
    let Some((_, first, _)) = files.clone().next() else { return Vec::new() };
    let bound = stored.unwrap_or(first);
    let is_bound = |claim: &Claim| bound.differs(claim).is_none();
    let mut owners = files.clone().filter(|(_, claim, of)| is_bound(claim) && !of.is_trusted());
    let owner = owners.next().map(|(.., of)| of);
    let have_owners = owners.any(|(.., of)| Some(of) != owner).then_some("another owner");
    let agree = files.clone().find_map(|(_, claim, _)| first.differs(claim)).or(have_owners);
    let mut own = Vec::new();
    for (path, claim, of) in files {
        let (otherwise, stands) = match (stored, agree) {
            (None, Some(what)) => (Some(what), "by another file"),
            _ => {
                let is_one_of_many = !of.is_trusted() && have_owners.is_some();
                let what = bound.differs(claim).or(have_owners.filter(|_| is_one_of_many));
                (what, "as is known")
            }
        };
        match otherwise {
            None => own.push(path),
            Some(what) => taken.left_out.push(format!(
                "{}: says that it is of process {id}, which has {what} {stands}; left out",
                path.display()
            )),
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pid: i64, start_real_ns: i64, node: &str) -> Claim {
        let node = Some(node.to_owned()).filter(|node| !node.is_empty());
        Claim { pid, start_real_ns, node }
    }

    /// The files that are the process's own, and what is told. A file is a path, a claim and its owner.
    fn run(files: &[(&str, Claim, u32)], stored: Option<&Claim>) -> (String, String) {
        let mut taken = Taken::default();
        let files =
            files.iter().map(|(path, claim, uid)| (Path::new(*path), claim, Owner { uid: *uid }));
        let own = own("id", files, stored, &mut taken);
        let own: Vec<_> = own.iter().map(|path| path.display().to_string()).collect();
        (own.join(" "), taken.left_out.join("\n"))
    }

    #[test]
    fn files_that_agree_are_taken() {
        let real = claim(7, 100, "n");
        let files =
            [("a", real.clone(), 70), ("b", claim(7, 100, ""), 70), ("root's copy", real, 0)];
        assert_eq!(run(&files, None), ("a b root's copy".to_owned(), String::new()));
    }

    #[test]
    fn of_files_that_differ_none_is_taken() {
        let real = claim(7, 100, "n");
        for (other, uid, what) in [
            (claim(7, 101, "n"), 71, "another start"),
            (claim(8, 100, "n"), 70, "another process number"),
            (claim(7, 100, "m"), 70, "another node"),
            (real.clone(), 71, "another owner"),
        ] {
            for turn in [false, true] {
                let mut files = [("real", real.clone(), 70), ("forged", other.clone(), uid)];
                if turn {
                    files.reverse();
                }
                let (own, told) = run(&files, None);
                assert_eq!(own, "", "{what}");
                assert!(told.contains("real: ") && told.contains("forged: "), "{told}");
                assert!(told.contains(what), "{what}: {told}");
            }
        }
    }

    #[test]
    fn what_the_store_knows_stands() {
        let real = claim(7, 100, "n");
        let files = [("forged", claim(7, 99, "n"), 71), ("real", real.clone(), 70)];
        let (own, told) = run(&files, Some(&real));
        assert_eq!(own, "real");
        assert!(told.contains("forged: ") && !told.contains("real: "), "{told}");
    }
}
