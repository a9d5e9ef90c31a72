//! The two clocks, read through the vDSO when the kernel offers one.

use crate::base::{startup::Startup, sys};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use engine::{
    seccomp::{Installation, installation, low_word},
    sys::nr::SECCOMP,
};
use guest::dynamic_symbols::{Name, Symbols};
use records::Stamp;

const CLOCK_REALTIME: u64 = 0;
const CLOCK_MONOTONIC: u64 = 1;
/// prctl(2): access to the time-stamp counter.
const PR_GET_TSC: u64 = 25;
const PR_SET_TSC: u64 = 26;
const PR_TSC_SIGSEGV: u64 = 2;
/// `AT_SYSINFO_EHDR`: where the vDSO's ELF header is.
const AT_SYSINFO_EHDR: u64 = 33;

/// The vDSO's function; 0 = the kernel is asked by a call.
static VDSO: AtomicUsize = AtomicUsize::new(0);
/// Where the function lies, also where it must not be called.
static FOUND: AtomicUsize = AtomicUsize::new(0);
/// The last reading, for where a filter forbids to ask.
static LAST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

type ClockGettime = unsafe extern "C" fn(i32, *mut [u64; 2]) -> i32;

/// Finds the vDSO's function; without it every reading is a system call.
pub fn find_vdso(startup: &Startup) {
    let Some(header) = startup.auxiliary(AT_SYSINFO_EHDR).filter(|&address| address != 0) else {
        return;
    };
    let header = header as usize;
    // SAFETY: the kernel maps an ELF image there: e_phoff at 32, e_phentsize at 54, e_phnum at 56;
    // program headers of 56 bytes with type, offset and address at 0, 8 and 16.
    let symbols = unsafe {
        let at = |offset: usize| (header + offset) as *const u8;
        let table = header + *at(32).cast::<u64>() as usize;
        let (size, count) = (*at(54).cast::<u16>() as usize, *at(56).cast::<u16>() as usize);
        let mut base = None;
        let mut dynamic = None;
        for index in 0..count {
            let entry = table + index * size;
            let kind = *(entry as *const u32);
            let (offset, address) = (*((entry + 8) as *const u64), *((entry + 16) as *const u64));
            match kind {
                1 if base.is_none() => base = Some(header + offset as usize - address as usize),
                2 => dynamic = Some(header + offset as usize),
                _ => {}
            }
        }
        match (base, dynamic) {
            (Some(base), Some(dynamic)) => Symbols::new(base, dynamic as *const u8),
            _ => None,
        }
    };
    if let Some(address) =
        symbols.and_then(|symbols| symbols.address(Name::new(c"__vdso_clock_gettime")))
    {
        FOUND.store(address, Ordering::Relaxed);
        let mut mode = 0u32;
        // SAFETY: the kernel writes one int.
        let result = unsafe { sys::call2(sys::nr::PRCTL, PR_GET_TSC, &raw mut mode as u64) };
        allow_vdso(sys::failed(result) || u64::from(mode) != PR_TSC_SIGSEGV);
    }
}

fn allow_vdso(may: bool) {
    VDSO.store(if may { FOUND.load(Ordering::Relaxed) } else { 0 }, Ordering::Relaxed);
}

/// A call of the application that may take the vDSO, or the time-stamp counter that it reads, away. Before it is made.
pub fn before_call(number: u64, arguments: &[u64; 6]) {
    /// More than the vDSO and its data have.
    const VDSO_BYTES: u64 = 64 * 1024;
    let found = FOUND.load(Ordering::Relaxed) as u64;
    if found == 0 {
        return;
    }
    match number {
        sys::nr::PRCTL if low_word(arguments[0]) == PR_SET_TSC => {
            allow_vdso(low_word(arguments[1]) != PR_TSC_SIGSEGV);
        }
        // Strict mode switches the counter off as well (`kernel/seccomp.c`).
        sys::nr::PRCTL | SECCOMP
            if installation(number, arguments) == Some(Installation::Strict) =>
        {
            allow_vdso(false);
        }
        sys::nr::MUNMAP | sys::nr::MREMAP | sys::nr::MPROTECT | sys::nr::MMAP => {
            let [start, len, ..] = *arguments;
            let near = found.saturating_sub(VDSO_BYTES)..found + VDSO_BYTES;
            if start < near.end && start.saturating_add(len) > near.start {
                FOUND.store(0, Ordering::Relaxed);
                allow_vdso(false);
            }
        }
        _ => {}
    }
}

fn read(clock: u64) -> u64 {
    let mut time = [0u64; 2];
    match VDSO.load(Ordering::Relaxed) {
        0 => {
            let arguments = [clock, &raw mut time as u64, 0, 0, 0, 0];
            let last = &LAST[clock as usize & 1];
            // SAFETY: writes a timespec of two words.
            if unsafe { engine::sys::optional(sys::nr::CLOCK_GETTIME, arguments) } != 0 {
                return last.load(Ordering::Relaxed);
            }
            let now = time[0] * 1_000_000_000 + time[1];
            last.store(now, Ordering::Relaxed);
            return now;
        }
        address => {
            // SAFETY: the address of the vDSO's clock_gettime, which has this type.
            unsafe {
                let clock_gettime: ClockGettime = core::mem::transmute(address);
                clock_gettime(clock as i32, &raw mut time);
            }
        }
    }
    time[0] * 1_000_000_000 + time[1]
}

/// CLOCK_MONOTONIC in ns.
#[inline]
pub fn monotonic_ns() -> u64 {
    read(CLOCK_MONOTONIC)
}

/// Both clocks, one right after the other.
pub fn stamp() -> Stamp {
    Stamp { mono_ns: read(CLOCK_MONOTONIC), real_ns: read(CLOCK_REALTIME) }
}
