//! The ten programs, and how they put themselves under a filter.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::guest::{self, Guest};

/// How a program can put itself under a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Never,
    /// `tests/guest/surroundings.h`, by a variable.
    Words,
    /// A filter as hexadecimal digits and flags, as two more arguments.
    Code,
}

pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) guest: Guest,
    pub(super) own: Own,
    /// Everything that it writes is the same each time.
    pub(super) is_steady: bool,
}

const PYTHON_UNDER_FILTER: &str = "\
import sys
if len(sys.argv) > 2:
    import ctypes, struct
    code = bytes.fromhex(sys.argv[1]); room = ctypes.create_string_buffer(code)
    head = struct.pack('HxxxxxxQ', len(code) // 8, ctypes.addressof(room))
    libc = ctypes.CDLL(None); libc.prctl(38, 1, 0, 0, 0)
    libc.syscall(317, 1, int(sys.argv[2]), head)
words = {}
for i in range(20000): words[i * 7919 % 1000] = words.get(i % 1000, 0) + i
print(len(words), sum(words.values()))
print(len(open('/etc/services').read()) > 0)
";

const PERL_UNDER_FILTER: &str = "\
if (@ARGV) { my $c = pack('H*', $ARGV[0]); syscall(157, 38, 1, 0, 0, 0); my $p = pack('SxxxxxxP', length($c) / 8, $c); \
syscall(317, 1, $ARGV[1] + 0, $p); } \
my %h; $h{$_ % 97} .= $_ for 1..3000; print length(join(',', map {\"$_$h{$_}\"} sort keys %h)), \"\\n\"; \
open(my $f, '<', '/etc/services') or print \"closed\\n\"; my $n = 0; $n++ while <$f>; print $n > 0 ? 'read' : 'nothing', \"\\n\";";

pub(super) fn programs(directory: &Path) -> Vec<Program> {
    let text = directory.join("text");
    let lines: String = (0..6000u32)
        .map(|i| format!("{} line {i}\n", i.wrapping_mul(2_654_435_761) % 9973))
        .collect();
    std::fs::write(&text, lines).expect("writes");
    let text = text.to_str().expect("UTF-8");
    let pipeline = format!(
        "sed -n 's/1/one/p' {text} | grep -c one; i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo $i; \
         cat {text} | sort -n | tail -n 2; false || echo or; (exit 3); echo $?"
    );
    let of = |name, path: &str, arguments: &[&str], own, is_steady| {
        let path = path.split(' ').map(PathBuf::from).find(|path| path.exists())?;
        Some(Program { name, guest: Guest::new(&path, arguments), own, is_steady })
    };
    let worker = guest::compile("worker");
    let worker = worker.to_str().expect("UTF-8");
    [
        of("shell", "/bin/sh", &["-c", &pipeline], Own::Never, true),
        of("gzip", "/usr/bin/gzip /bin/gzip", &["-n", "-c", text], Own::Never, true),
        of("python3", "/usr/bin/python3", &["-S", "-c", PYTHON_UNDER_FILTER], Own::Code, true),
        of("sort", "/usr/bin/sort", &["--parallel=2", "-n", text], Own::Never, true),
        of("threads", worker, &["threads"], Own::Words, true),
        of("signals", worker, &["signals"], Own::Words, true),
        of("children", worker, &["children"], Own::Words, true),
        of("java", "/usr/bin/java", &["-XX:TieredStopAtLevel=1", "-version"], Own::Never, false),
        of("perl", "/usr/bin/perl", &["-e", PERL_UNDER_FILTER], Own::Code, true),
        of("xz", "/usr/bin/xz", &["-T2", "-c", text], Own::Never, true),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A filter as the kernel wants it, in hexadecimal digits.
pub(super) fn code(calls: &BTreeSet<u64>, is_allow_list: bool, action: &str) -> String {
    const ALLOW: u32 = 0x7fff_0000;
    let action = match action {
        "kill_thread" => 0,
        "kill_process" => 0x8000_0000,
        "trap" => 0x0003_0000,
        errno => {
            0x0005_0000 | errno.strip_prefix("errno-").and_then(|n| n.parse().ok()).unwrap_or(1)
        }
    };
    let (listed, others) = if is_allow_list { (ALLOW, action) } else { (action, ALLOW) };
    let mut text = String::new();
    let mut step = |operation: u16, yes: u8, no: u8, value: u32| {
        let mut bytes = operation.to_le_bytes().to_vec();
        bytes.extend([yes, no]);
        bytes.extend(value.to_le_bytes());
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
    };
    // Load the number; for each of the list compare and return; return.
    step(0x20, 0, 0, 0);
    for call in calls {
        step(0x15, 0, 1, *call as u32);
        step(0x06, 0, 0, listed);
    }
    step(0x06, 0, 0, others);
    text
}
