//! What every tracer must do, on this very process: start, stop, known counts, what the host is told.
//!
//! A test program of its own for each tracer includes this file and calls [`keeps`] once, on one thread.

mod ground;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use engine::{
    Call, CallToken, Client, Limits, METRICS, Metric, Notice, Redirect, Thread, Totals, Tracer,
};
use ground::count_down;

/// A host that remembers what it was told.
struct Listener;

static NOTICES: AtomicUsize = AtomicUsize::new(0);
/// The last call of [`GETPPID`]: the word passed from before to after, and the result.
static SEEN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
const GETPPID: u64 = 110;
const TOKEN: u64 = 0x5eed;

impl<T: Thread> Client<T> for Listener {
    fn redirect(&self, pc: u64) -> Redirect {
        if pc == before_others as *const () as u64 {
            Redirect::To(count_down as *const () as u64)
        } else {
            Redirect::Follow
        }
    }
    fn before_syscall(&self, _: &T, call: &Call) -> CallToken {
        if call.number == GETPPID { [TOKEN, call.arguments[0]] } else { [0; 2] }
    }
    fn after_syscall(&self, _: &T, call: &Call, result: i64, before: CallToken) {
        if call.number == GETPPID {
            SEEN[0].store(before[0] + before[1], Ordering::Relaxed);
            SEEN[1].store(result as u64, Ordering::Relaxed);
        }
    }
    fn before_exec(&self, _: &T, _: &mut Call) {}
    fn thread_started(&self, _: &T) -> bool {
        true
    }
    fn fork_child(&self, _: &T) {}
    fn exiting(&self, _: &T, _: bool, _: i32) {}
    fn notice(&self, _: &T, notice: Notice, at: u64, detail: u64) {
        NOTICES.fetch_add(1, Ordering::Relaxed);
        eprintln!("notice {notice:?} at {at:#x} detail {detail:#x}");
    }
}

/// A function of the host's that stands before [`count_down`]; it is never executed on a followed thread.
#[unsafe(naked)]
extern "C" fn before_others(_n: u64) -> u64 {
    core::arch::naked_asm!("nop", "nop", "xor eax, eax", "ret")
}

/// The flags and the red zone survive a counter that stands where the flags are live.
#[unsafe(naked)]
extern "C" fn flags_and_red_zone(_n: u64) -> u64 {
    core::arch::naked_asm!(
        "mov qword ptr [rsp - 8], 41",
        "mov qword ptr [rsp - 120], 1",
        "stc",
        "jmp 2f",
        "2:",
        "mov rax, [rsp - 8]",
        "adc rax, 0",
        "cmp qword ptr [rsp - 120], 1",
        "je 3f",
        "xor eax, eax",
        "3:",
        "ret"
    )
}

/// One REP instruction of `n` iterations that reads and writes, and one that finds its end early.
#[unsafe(naked)]
extern "C" fn repeat(_to: *mut u8, _from: *const u8, _n: u64) -> u64 {
    core::arch::naked_asm!(
        "mov rcx, rdx",
        "rep movsb",
        "lea rdi, [rsi - 16]",
        "mov rcx, 16",
        "mov al, 7",
        "repne scasb",
        "mov rax, rcx",
        "ret"
    )
}

fn counted<T: Tracer, R>(tracer: &'static T, work: impl FnOnce() -> R) -> (R, Totals) {
    let thread = tracer.attach().expect("memory");
    // SAFETY: attached just now, on this thread; a thread's block outlives it.
    let before = unsafe { (*thread).totals() };
    // SAFETY: as above; followed until `unfollow_me`.
    unsafe { T::enter(thread) };
    let result = work();
    T::unfollow_me();
    // SAFETY: as above.
    let after = unsafe { (*thread).totals() };
    (result, std::array::from_fn(|metric| after[metric] - before[metric]))
}

/// What `work` executes more than `less` does.
fn difference<T: Tracer>(tracer: &'static T, work: fn() -> u64, less: fn() -> u64) -> Totals {
    // The first round binds and translates.
    for work in [work, less] {
        counted(tracer, || std::hint::black_box(work)());
    }
    let (_, less) = counted(tracer, || std::hint::black_box(less)());
    let (_, more) = counted(tracer, || std::hint::black_box(work)());
    std::array::from_fn(|metric| more[metric].wrapping_sub(less[metric]))
}

/// Whether the tracer keeps the contract; panics where it does not.
pub fn keeps<T: Tracer>() {
    let tracer: &'static T = Box::leak(Box::new(
        T::new(&Listener, Limits { memory: 64 << 20, from_start: false }).expect("memory"),
    ));
    let only = |metrics: &[(Metric, u64)]| -> Totals {
        let mut totals = [0; METRICS];
        for &(metric, count) in metrics {
            totals[metric as usize] = count;
        }
        totals
    };

    let (sum, _) = counted(tracer, || count_down(std::hint::black_box(1_000_001)));
    assert_eq!(sum, 500_001_500_001);
    let longer = difference(tracer, || count_down(1_000_001), || count_down(1));
    assert_eq!(longer, only(&[(Metric::Instructions, 3_000_000)]), "a loop of known length");

    let redirected = difference(tracer, || before_others(1), || count_down(1));
    assert_eq!(redirected, only(&[]), "a host's function is passed over");
    let (sum, _) = counted(tracer, || before_others(std::hint::black_box(3)));
    assert_eq!(sum, 6);

    let (kept, _) = counted(tracer, || flags_and_red_zone(0));
    assert_eq!(kept, 42, "flags and red zone");

    fn repetitions(n: u64) -> u64 {
        static FROM: [u8; 64] = {
            let mut from = [0; 64];
            from[51] = 7;
            from
        };
        let mut to = [0u8; 64];
        repeat(to.as_mut_ptr(), FROM.as_ptr(), n)
    }
    let (left, _) = counted(tracer, || repetitions(64));
    assert_eq!(left, 12, "what is behind the byte that ended the search");
    let more = difference(tracer, || repetitions(64), || repetitions(32));
    // The search of 32 bytes does not find its byte in 16 steps; that of 64 does in four.
    let counts = [
        (Metric::MemoryReads, 32 - 12),
        (Metric::MemoryWrites, 32),
        (Metric::MemoryBytesRead, 32 - 12),
        (Metric::MemoryBytesWritten, 32),
    ];
    assert_eq!(more, only(&counts), "iterations of REP");

    let (parent, _) = counted(tracer, || {
        // SAFETY: getppid takes nothing; the argument is for the host alone.
        unsafe { engine::sys::syscall6(GETPPID, [3, 0, 0, 0, 0, 0]) }
    });
    assert_eq!(SEEN[0].load(Ordering::Relaxed), TOKEN + 3, "the host's words come back to it");
    assert_eq!(SEEN[1].load(Ordering::Relaxed), parent as u64, "and the result of the call");

    let words = || -> String {
        let mut words: Vec<String> =
            (0..10_000).map(|i| format!("{:x}", i * 7919 % 10_007)).collect();
        words.sort();
        words.concat()
    };
    let (text, totals) = counted(tracer, words);
    assert_eq!(text, words(), "library code");
    assert!(totals[0] > 1_000_000 && totals[1] > 100_000, "{totals:?}");

    assert!(T::current().is_none_or(|thread| !thread.is_followed()), "not followed any more");
    T::unfollow_me();
    assert_eq!(NOTICES.load(Ordering::Relaxed), 0, "nothing was incomplete");
}
