//! What the tracer has to tell becomes notices in the records.

use crate::{
    base::{file, text::Text, tracer::Thread},
    count::descriptors,
    record::{events, recorder, threads},
};
use core::fmt;
use engine::Notice;
use records::notice;

/// Writes a notice.
pub fn write(thread: &Thread, notice: Notice, at: u64, detail: u64) {
    if !thread.is_followed() || notice == Notice::ThreadNotFollowed {
        descriptors::give_up();
    }
    let listed = threads::current();
    if let Some(here) = listed
        && !thread.is_followed()
    {
        here.shared.set_released();
        threads::watch_end(here);
    }
    let tid = listed.map_or(0, |here| here.shared.tid);
    let tell = |code, a, text: fmt::Arguments<'_>| recorder::notice(tid, code, a, detail, text);
    match notice {
        Notice::Untranslatable => {
            let why = match detail {
                1 => "not known to the decoder",
                2 => "uses GS, which the engine needs",
                4 => "enters a restartable sequence (rseq), which only runs natively",
                _ => "of a kind that is not translated",
            };
            tell(notice::THREAD_RELEASED, at, format_args!("instruction {why}"));
        }
        Notice::NotExecutable => {
            tell(
                notice::THREAD_RELEASED,
                at,
                format_args!("branch to memory that is not executable"),
            );
        }
        Notice::MemoryLimit => {
            tell(notice::MEMORY_LIMIT, detail, format_args!("the engine's memory is used up"));
        }
        Notice::MemoryRefused => {
            let why = match detail {
                1 | 13 => {
                    "code may not be made here (PR_SET_MDWE, MemoryDenyWriteExecute or a security module)"
                }
                12 => "the address space (ulimit -v, RLIMIT_AS) or the system's memory is used up",
                _ => "the kernel refuses",
            };
            tell(
                notice::THREAD_RELEASED,
                at,
                format_args!("no memory for translations: {why} (errno {detail})"),
            );
        }
        Notice::ThreadNotFollowed if detail != 0 => tell(
            notice::PART_NOT_COUNTED,
            at,
            format_args!("a thread or process was made in a way that cannot be followed: {detail}"),
        ),
        Notice::ThreadNotFollowed => {
            tell(notice::THREAD_NOT_FOLLOWED, at, format_args!("no memory to follow a new thread"));
        }
        Notice::VforkChild => spawned(detail as u32, tell),
        Notice::SignalHandler => tell(
            notice::PART_NOT_COUNTED,
            at,
            format_args!("the handler of signal {detail}, and it sees addresses of the tracer"),
        ),
        Notice::ChangedCode => {
            tell(notice::THREAD_RELEASED, at, format_args!("code changed that was translated"));
        }
    }
}

/// A vfork-like child has executed another program (or ended): the parent runs again.
fn spawned(pid: u32, tell: impl Fn(u16, u64, fmt::Arguments<'_>)) {
    let link = Text::<32>::new(format_args!("/proc/{pid}/exe"));
    let mut path = [0u8; 224];
    tell(notice::VFORK_CHILD, u64::from(pid), format_args!("ran natively until it executed"));
    events::spawned(pid, file::read_link(link.as_c_str(), &mut path).unwrap_or_default());
}
