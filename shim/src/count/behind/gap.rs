//! What cannot be seen of requests behind calls: told once for each reason.

use crate::record::recorder;
use core::sync::atomic::{AtomicU32, Ordering};
use records::notice;

/// Why something is not counted.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Gap {
    Polled,
    ForeignRing,
    UnknownKind,
    UnreadableRing,
    Overwritten,
    NoResult,
    Command,
    EqualKeys,
    RegisteredFile,
    NoMemory,
    ForeignContext,
    Destroyed,
}

impl Gap {
    const fn text(self) -> &'static str {
        match self {
            Gap::Polled => {
                "io_uring: a kernel thread takes the requests of a ring (SQPOLL), unseen"
            }
            Gap::ForeignRing => "io_uring: a ring that was not seen being made",
            Gap::UnknownKind => "io_uring: a ring of a kind that is not known",
            Gap::UnreadableRing => "io_uring: the memory of a ring cannot be read",
            Gap::Overwritten => "io_uring: results were overwritten before they were seen",
            Gap::NoResult => "io_uring: requests that want no result when they succeed",
            Gap::Command => {
                "io_uring: commands of drivers, or requests of a kind that is not known"
            }
            Gap::EqualKeys => "io_uring: requests of several kinds with the same user_data",
            Gap::RegisteredFile => "io_uring: a registered file of which nobody knows what it is",
            Gap::NoMemory => "io_uring or io_submit: no memory to keep requests in mind",
            Gap::ForeignContext => "io_submit: on a context that was not seen being made",
            Gap::Destroyed => "io_submit: a context was destroyed with requests on their way",
        }
    }

    /// Tells it, the first time.
    #[cold]
    pub fn tell(self) {
        static TOLD: AtomicU32 = AtomicU32::new(0);
        let bit = 1 << self as u32;
        if TOLD.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            recorder::notice(0, notice::PART_NOT_COUNTED, 0, 0, format_args!("{}", self.text()));
        }
    }
}
