//! When the application finds no address space that it would have found without the engine.
//!
//! # Design
//! A program with a limit (RLIMIT_AS, RLIMIT_DATA) may need nearly all of it. What the kernel refuses it because of what the
//! engine has is asked for once more after the engine has given its code up; the threads run natively from then on, with a
//! notice. A call that would have been refused anyway changes nothing: allocators ask for more than there is and go on with less.

use core::sync::atomic::Ordering;

use crate::contract::Call;
use crate::isa::x86_64::context::ThreadState;
use crate::os::syscall::nr;
use crate::os::{process, procfs};
use crate::run::engine::Engine;

/// Bytes of address space, as the kernel counts them.
struct Taken {
    all: u64,
    /// Writable memory of the process's own.
    data: u64,
}

impl Engine {
    /// Makes the application's call; a second time when the engine has made way for it.
    pub(crate) fn pass_in_room(&self, thread: &mut ThreadState, call: &Call) -> i64 {
        let result = self.pass(thread, call);
        match missing(call, result) {
            Some(bytes) if self.stands_in_the_way(bytes) && self.give_way() => {
                self.pass(thread, call)
            }
            _ => result,
        }
    }

    /// Would there be so many bytes more if the engine had no code?
    fn stands_in_the_way(&self, bytes: u64) -> bool {
        if self.gave_way.load(Ordering::Acquire) || process::address_space_limit().is_none() {
            return false;
        }
        let Some(taken) = taken() else { return false };
        let held = self
            .with_tables(|tables| tables.translator.address_space() + tables.map.memory() as u64);
        let helps = |limit: Option<u64>, taken: u64| {
            let needed = taken.saturating_add(bytes);
            limit.is_some_and(|limit| needed > limit && needed.saturating_sub(held) <= limit)
        };
        helps(process::limit(process::RLIMIT_AS), taken.all)
            || helps(process::limit(process::RLIMIT_DATA), taken.data)
    }
}

/// How many bytes a memory call was refused for want of them; `None` where it was not.
fn missing(call: &Call, result: i64) -> Option<u64> {
    const ENOMEM: i64 = 12;
    let [first, second, third, ..] = call.arguments;
    match call.number {
        nr::BRK if first > result as u64 => Some(first - result as u64),
        nr::MMAP | nr::MPROTECT if result == -ENOMEM => Some(second),
        nr::MREMAP if result == -ENOMEM => Some(third.saturating_sub(second)),
        _ => None,
    }
}

/// What the process has, by proc(5).
fn taken() -> Option<Taken> {
    const PAGE: u64 = 4096;
    let mut buffer = [0u8; 256];
    let mut taken = None;
    procfs::each_line(b"/proc/self/statm\0", &mut buffer, |line| {
        let mut numbers = line.split(|&byte| byte == b' ').map(|digits| {
            digits.iter().fold(0u64, |value, digit| {
                value.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')))
            })
        });
        if let (Some(all), Some(data)) = (numbers.next(), numbers.nth(4)) {
            taken = Some(Taken { all: all * PAGE, data: data * PAGE });
        }
    })?;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::memory;

    #[test]
    fn the_kernel_tells_what_is_taken() {
        let before = taken().expect("/proc/self/statm");
        let at = memory::map_anonymous(0, 1 << 30, memory::PROT_READ | memory::PROT_WRITE).unwrap();
        let after = taken().expect("/proc/self/statm");
        // SAFETY: mapped above.
        unsafe { memory::unmap(at, 1 << 30) };
        // Other tests of this process map and unmap meanwhile.
        assert!(after.all - before.all > 1 << 29 && after.data - before.data > 1 << 29);
    }

    #[test]
    fn what_was_refused() {
        let call = |number, arguments| Call { number, arguments };
        assert_eq!(missing(&call(nr::MMAP, [0, 4096, 3, 34, 0, 0]), -12), Some(4096));
        assert_eq!(missing(&call(nr::MMAP, [0, 4096, 3, 34, 0, 0]), 0x7000_0000), None);
        assert_eq!(missing(&call(nr::MREMAP, [0, 4096, 12288, 1, 0, 0]), -12), Some(8192));
        assert_eq!(missing(&call(nr::BRK, [0x5000, 0, 0, 0, 0, 0]), 0x3000), Some(0x2000));
        assert_eq!(missing(&call(nr::BRK, [0x5000, 0, 0, 0, 0, 0]), 0x5000), None);
        assert_eq!(missing(&call(nr::BRK, [0; 6]), 0x3000), None);
    }
}
