//! Gives a starting `java` its agent: `-agentpath:<this library>` as the first argument.
//!
//! # Design
//!
//! The java launcher's `main` is called by libc's `__libc_start_main`, which this library interposes. In
//! a process whose role asks for the agent the argument vector is replaced by a copy with one more
//! argument. Neither the environment nor `/proc/self/cmdline` changes and nothing is printed; the JVM
//! finds this library loaded already and calls its `Agent_OnLoad` ([`super::agent`]).
//! JAVA_TOOL_OPTIONS would do too, but prints a line on stderr and is inherited by children.
//!
//! The copy is laid out like the kernel's: arguments, NULL, environment, NULL, auxiliary vector. musl
//! computes the environment's place from argv.
//!
//! # Limitations
//!
//! - Nothing is inserted when the library's file was deleted or replaced since it was loaded (the JVM
//!   would load a second instance), or when its path has a `=`, which ends the path in `-agentpath:`.
//! - musl runs constructors after `__libc_start_main`, when the role is not known yet: tasks are then
//!   noticed by thread names.

use crate::{
    base::{file, sys},
    process,
};
use alloc::vec::Vec;
use core::{
    ffi::{CStr, c_char},
    sync::atomic::{AtomicBool, Ordering},
};
use records::TaskMethod;

const OPTION: &[u8] = b"-agentpath:";

/// Set when this instance of the library put itself into a JVM's arguments.
static INSERTED: AtomicBool = AtomicBool::new(false);

/// Whether the JVM in this process was told to call this instance of the library.
pub fn inserted() -> bool {
    INSERTED.load(Ordering::Relaxed)
}

/// What `__libc_start_main` gets: main, argc, argv and three more. Inserts the agent, unless the launcher
/// that called exec on itself has it among its arguments already.
///
/// # Safety
///
/// The arguments are those of `__libc_start_main` on the initial stack: argv has argc strings and a
/// NULL, behind it are the environment and the auxiliary vector.
pub unsafe fn insert_agent(arguments: &mut [u64; 6]) {
    let argc = arguments[1] as u32 as usize;
    let argv = arguments[2] as *const *const c_char;
    if argc == 0 || argv.is_null() {
        return;
    }
    let Some(option) = agent_option() else {
        process::set_task_method(TaskMethod::THREAD_NAME);
        return;
    };
    process::set_task_method(TaskMethod::BREAKPOINT);
    // SAFETY: as the caller says.
    let given = |place: usize| unsafe { CStr::from_ptr(*argv.add(place)) }.to_bytes();
    // The option ends with the NUL that a C string needs.
    if (1..argc).any(|place| given(place) == &option[..option.len() - 1]) {
        INSERTED.store(true, Ordering::Relaxed);
        return;
    }
    // SAFETY: as the caller says.
    let words = unsafe { words_behind(argv, argc) };
    let mut vector: Vec<u64> = Vec::with_capacity(words + 1);
    // SAFETY: `words` words are there.
    let found = unsafe { core::slice::from_raw_parts(argv.cast::<u64>(), words) };
    vector.push(found[0]);
    vector.push(option.leak().as_ptr() as u64);
    vector.extend_from_slice(&found[1..]);
    arguments[1] = (argc + 1) as u64;
    arguments[2] = vector.leak().as_ptr() as u64;
    INSERTED.store(true, Ordering::Relaxed);
}

/// Words from argv to the end of the auxiliary vector, both included.
///
/// # Safety
///
/// As [`insert_agent`].
unsafe fn words_behind(argv: *const *const c_char, argc: usize) -> usize {
    let word = |place: usize| {
        // SAFETY: as the caller says; the callers below stop at each terminator.
        unsafe { *argv.cast::<u64>().add(place) }
    };
    let mut place = argc + 1;
    while word(place) != 0 {
        place += 1;
    }
    place += 1;
    while word(place) != 0 {
        place += 2;
    }
    place + 2
}

/// `-agentpath:<path>` with a NUL behind it; `None` when this library's file is not there any more.
fn agent_option() -> Option<Vec<u8>> {
    let mut option = Vec::from(OPTION);
    if !own_path(&mut option) || option[OPTION.len()..].contains(&b'=') {
        return None;
    }
    option.push(0);
    Some(option)
}

/// Appends the path of the file that this code is mapped from; false if it is gone.
///
/// `/proc/self/maps` names the mapped file even if LD_PRELOAD named it by a relative path, and says when
/// that file was deleted or renamed over.
fn own_path(into: &mut Vec<u8>) -> bool {
    let fd = file::open(c"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    if sys::failed(fd) {
        return false;
    }
    let mut text = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        match file::read(fd as i32, &mut chunk) {
            count if count > 0 => text.extend_from_slice(&chunk[..count as usize]),
            _ => break,
        }
    }
    file::close(fd as i32);
    let own = own_path as *const () as u64;
    for line in text.split(|&byte| byte == b'\n') {
        let Some((start, end)) = range(line) else { continue };
        if own < start || own >= end {
            continue;
        }
        let Some(slash) = line.iter().position(|&byte| byte == b'/') else { return false };
        let path = &line[slash..];
        // A newline in a path is shown as \012: such a path could not be given back.
        if path.ends_with(b" (deleted)") || path.contains(&b'\\') {
            return false;
        }
        into.extend_from_slice(path);
        return true;
    }
    false
}

const O_RDONLY: u64 = 0;
const O_CLOEXEC: u64 = 0o2000000;

/// The address range at the start of a line of `/proc/self/maps`.
fn range(line: &[u8]) -> Option<(u64, u64)> {
    let mut fields = line.split(|&byte| byte == b'-' || byte == b' ');
    let mut number = || {
        let digits = core::str::from_utf8(fields.next()?).ok()?;
        u64::from_str_radix(digits, 16).ok()
    };
    Some((number()?, number()?))
}
