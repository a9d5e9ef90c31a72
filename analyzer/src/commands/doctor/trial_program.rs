//! The trial program: threads, handlers, a fault that a handler mends, a child.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

const THREADS: u64 = 4;
const SIGNALS: u32 = 200;

static RECEIVED: AtomicU32 = AtomicU32::new(0);
static ALARMS: AtomicU32 = AtomicU32::new(0);
static FAULTS: AtomicU32 = AtomicU32::new(0);
static GUARDED: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
const PAGE: usize = 4096;

extern "C" fn count(signal: i32) {
    let counter = if signal == libc::SIGALRM { &ALARMS } else { &RECEIVED };
    counter.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn mend(_: i32, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let page = GUARDED.load(Ordering::Relaxed);
    // SAFETY: the kernel gives a valid structure; the page is a mapping of ours. Another fault ends the process.
    unsafe {
        if (*information).si_addr() != page {
            libc::_exit(99);
        }
        libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE);
    }
    FAULTS.fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: i32, handler: usize, flags: i32) {
    // SAFETY: zeros are a valid value; the handlers make async-signal-safe calls alone.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

fn work(seed: u64) -> u64 {
    let mut table = vec![0u64; 1024];
    let mut state = seed | 1;
    for _ in 0..100_000 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = (state >> 54) as usize;
        table[place] = table[place].wrapping_add(state).rotate_left(7);
    }
    table.iter().fold(seed, |sum, value| sum.wrapping_mul(31).wrapping_add(*value))
}

/// Does the work; a line with its result, which is the same in each run.
pub fn run() -> ExitCode {
    handle(libc::SIGUSR1, count as *const () as usize, libc::SA_RESTART);
    handle(libc::SIGALRM, count as *const () as usize, libc::SA_RESTART);
    handle(libc::SIGSEGV, mend as *const () as usize, libc::SA_SIGINFO);
    let every = libc::timeval { tv_sec: 0, tv_usec: 2000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the structure is live.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    let barrier = Arc::new(Barrier::new(THREADS as usize));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                barrier.wait();
                let mut sum = 0u64;
                for round in 0..SIGNALS / THREADS as u32 {
                    // SAFETY: to this very thread, which has a handler.
                    unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
                    if round % 10 == 0 {
                        sum = sum.wrapping_mul(17).wrapping_add(work(number + u64::from(round)));
                    }
                }
                sum
            })
        })
        .collect();
    let sums = threads.into_iter().map(|thread| thread.join().unwrap_or(0));
    let sum = sums.fold(0u64, |all, sum| all.wrapping_mul(13).wrapping_add(sum));
    // The child must not be interrupted before it has its own way.
    let stop = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 0 },
    };
    // SAFETY: the structure is live; a new page that may not be touched, and is, once.
    let byte = unsafe {
        libc::setitimer(libc::ITIMER_REAL, &stop, std::ptr::null_mut());
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_NONE, flags, -1, 0);
        GUARDED.store(page, Ordering::Relaxed);
        page.cast::<u8>().write_volatile(7);
        page.cast::<u8>().read_volatile()
    };
    let child = child();
    let counts = (RECEIVED.load(Ordering::Relaxed), FAULTS.load(Ordering::Relaxed));
    println!("trial {sum:016x}, signals and faults {counts:?}, byte {byte}, child {child}");
    let is_whole = counts == (SIGNALS, 1) && ALARMS.load(Ordering::Relaxed) > 0;
    if is_whole && child == 42 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A child of fork that writes into a pipe; what it exited with, or -1.
fn child() -> i32 {
    let Ok((mut reader, mut writer)) = std::io::pipe() else { return -1 };
    // SAFETY: the other threads have ended, so the child finds no lock held.
    match unsafe { libc::fork() } {
        -1 => -1,
        0 => {
            let code = if writer.write_all(&[42]).is_ok() { 42 } else { 1 };
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) }
        }
        child => {
            drop(writer);
            let mut got = [0];
            let has_read = reader.read_exact(&mut got).is_ok();
            let mut status = 0;
            // SAFETY: our own child.
            unsafe { libc::waitpid(child, &mut status, 0) };
            if has_read && got[0] == 42 { libc::WEXITSTATUS(status) } else { -1 }
        }
    }
}
