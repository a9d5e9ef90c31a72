//! System calls as strace saw them, put beside what the engine counted in the very same run.
//!
//! # What the log proves
//! strace writes the address of every call (`-i`). Once the preloaded library's constructor runs, a counted call of the
//! application comes from the engine's system call instruction, or it escaped. Calls from elsewhere in the library
//! are its own; a child made by vfork runs natively until it executes (a notice says so), and a new program's calls
//! before the constructor belong to the dynamic loader.

use std::collections::{BTreeMap, HashMap};

/// Calls, bytes and errors of one kind of call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many returned.
    pub calls: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// How many failed.
    pub errors: u64,
}

/// What a log holds.
#[derive(Debug, Default)]
pub struct Log {
    /// Sums by operation: `open`, `close`, `read`, `write`, `send`, `recv`.
    pub sums: BTreeMap<&'static str, Sum>,
    /// Lines of calls that the application made beside the engine.
    pub escaped: Vec<String>,
}

/// The calls to be traced: the counted ones, and those that make processes and map the library.
pub const TRACED: &str = "open,openat,openat2,creat,close,read,pread64,readv,preadv,preadv2,write,pwrite64,writev,\
     pwritev,pwritev2,sendto,sendmsg,recvfrom,recvmsg,sendfile,splice,copy_file_range,mmap,execve,execveat,fork,vfork,\
     clone,clone3";

/// A program in a process, from its execve on.
#[derive(Debug, Clone, Copy, Default)]
struct Image {
    /// The library's descriptor while the loader maps it, and where it lies.
    descriptor: Option<i64>,
    library: Option<u64>,
    /// The constructor has begun.
    begun: bool,
    /// In a child of vfork.
    borrowed: bool,
}

/// The operations of a call, and whether its result is a number of bytes.
fn operations(name: &str) -> (&'static [&'static str], bool) {
    match name {
        "open" | "openat" | "openat2" | "creat" => (&["open"], false),
        "close" => (&["close"], false),
        "read" | "pread64" | "readv" | "preadv" | "preadv2" => (&["read"], true),
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => (&["write"], true),
        "sendto" | "sendmsg" => (&["send"], true),
        "recvfrom" | "recvmsg" => (&["recv"], true),
        "sendfile" | "splice" | "copy_file_range" => (&["read", "write"], true),
        _ => (&[], false),
    }
}

/// Reads what `strace -f -i -s 0 -e trace=TRACED -o` wrote. `instruction` is the offset in the library behind the
/// engine's SYSCALL, `length` the library's size in memory.
///
/// # Panics
/// When a line is not of the form that strace writes.
pub fn read(text: &str, instruction: u64, length: u64) -> Log {
    let mut log = Log::default();
    let mut images: HashMap<u32, Image> = HashMap::new();
    let mut unfinished: HashMap<u32, String> = HashMap::new();
    let children = children(text);
    for line in text.lines() {
        let (pid, rest) = line.split_once(' ').expect("a process id");
        let pid: u32 = pid.parse().expect("a number");
        let Some((address, call)) =
            rest.trim_start().strip_prefix('[').and_then(|r| r.split_once("] "))
        else {
            continue; // +++ exited +++
        };
        let address = u64::from_str_radix(address, 16).unwrap_or(0);
        if !images.contains_key(&pid) {
            let image = match children.get(&pid) {
                Some((parent, borrowed)) => {
                    let of_parent = images.get(parent).copied().unwrap_or_default();
                    Image { borrowed: *borrowed || of_parent.borrowed, ..of_parent }
                }
                None => Image::default(),
            };
            images.insert(pid, image);
        }
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, start.to_owned());
            continue;
        }
        let whole = match call.split_once(" resumed>") {
            // A thread that executes goes on under its process's number.
            Some((head, end)) => {
                unfinished.remove(&pid).unwrap_or_else(|| format!("{}(", &head[5..])) + end
            }
            None => call.to_owned(),
        };
        let (Some((name, _)), Some((_, result))) =
            (whole.split_once('('), whole.rsplit_once(" = "))
        else {
            continue;
        };
        let Ok(result) = result.split(' ').next().expect("a word").parse_result() else {
            continue; // interrupted, and made again
        };
        let image = images.get_mut(&pid).expect("inserted above");
        if name.starts_with("execve") {
            if result == 0 {
                *image = Image::default();
            }
            continue;
        }
        if name.starts_with("open") && whole.contains("libshim.so\"") && image.library.is_none() {
            image.descriptor = Some(result);
        }
        if name == "mmap" {
            let descriptor = whole.split(", ").nth(4).and_then(|word| word.parse().ok());
            if image.library.is_none() && descriptor.is_some() && descriptor == image.descriptor {
                image.library = Some(result as u64);
            }
            continue;
        }
        let Some(library) = image.library else { continue };
        let offset = address.wrapping_sub(library);
        let ours = offset < length;
        image.begun |= ours;
        if offset == instruction {
            let (operations, moves_bytes) = operations(name);
            for operation in operations {
                let sum = log.sums.entry(operation).or_default();
                sum.calls += 1;
                sum.errors += u64::from(result < 0);
                sum.bytes += if moves_bytes && result > 0 { result as u64 } else { 0 };
            }
        } else if image.begun && !ours && !image.borrowed && !operations(name).0.is_empty() {
            log.escaped.push(line.to_owned());
        }
    }
    log
}

/// By child: its parent, and whether it runs in the parent's memory while that waits.
fn children(text: &str) -> HashMap<u32, (u32, bool)> {
    let mut children = HashMap::new();
    let mut started: HashMap<u32, bool> = HashMap::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let Ok(pid) = pid.parse() else { continue };
        let Some((_, call)) = rest.split_once("] ") else { continue };
        let call = call.strip_prefix("<... ").unwrap_or(call);
        if !["fork", "vfork", "clone"].iter().any(|name| call.starts_with(name)) {
            continue;
        }
        let borrowed = call.starts_with("vfork") || call.contains("CLONE_VFORK");
        let borrowed = borrowed || started.get(&pid).copied().unwrap_or(false);
        if call.ends_with("<unfinished ...>") {
            started.insert(pid, borrowed);
        } else if let Some((_, result)) = call.rsplit_once(" = ") {
            started.remove(&pid);
            if let Ok(child) = result.trim().parse() {
                children.insert(child, (pid, borrowed));
            }
        }
    }
    children
}

trait Returned {
    fn parse_result(&self) -> Result<i64, std::num::ParseIntError>;
}

impl Returned for str {
    /// A decimal number, or a hexadecimal one as mmap returns.
    fn parse_result(&self) -> Result<i64, std::num::ParseIntError> {
        match self.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).map(u64::cast_signed),
            None => self.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_with_a_child_and_an_escape() {
        let text = "\
10 [0000000000001000] execve(\"/bin/x\", [], 0x0) = 0
10 [0000000000001001] openat(AT_FDCWD, \"/lib/libshim.so\", O_RDONLY|O_CLOEXEC) = 3
10 [0000000000001002] mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3, 0) = 0x700000
10 [0000000000001003] close(3) = 0
10 [0000000000700010] close(5) = -1 EBADF (Bad file descriptor)
10 [0000000000700020] read(4, \"\"..., 10) = 7
10 [0000000000700020] read(4,  <unfinished ...>
10 [0000000000700020] <... read resumed>\"\"..., 10) = 0
10 [0000000000700020] read(4, \"\"..., 10) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
10 [0000000000700030] vfork( <unfinished ...>
11 [0000000000009000] close(4) = 0
11 [0000000000009000] execve(\"/bin/y\", [], 0x0) = 0
10 [0000000000700030] <... vfork resumed>) = 11
11 [0000000000009000] close(4) = 0
10 [0000000000700020] openat(AT_FDCWD, \"/z\", O_RDONLY) = -1 ENOENT (No such file or directory)
10 [0000000000009000] write(1, \"\"..., 5) = 5
10 [????????????????] +++ exited with 0 +++
";
        let log = read(text, 0x20, 0x1000);
        assert_eq!(log.sums["read"], Sum { calls: 2, bytes: 7, errors: 0 });
        assert_eq!(log.sums["open"], Sum { calls: 1, bytes: 0, errors: 1 });
        assert!(!log.sums.contains_key("close"));
        assert_eq!(log.escaped.len(), 1, "{:?}", log.escaped);
        assert!(log.escaped[0].contains("write"));
    }
}
