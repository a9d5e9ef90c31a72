//! A process of which only some threads are followed, and those only now and then, as an executor's task threads are.

#[path = "../contract/ground.rs"]
mod ground;
mod guarded_code;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine::sys::{nr, syscall6};
use engine::{
    Call, CallToken, Client, Engine, Limits, Metric, Notice, Redirect, ThreadState, Tracer,
};
use ground::count_down;

struct Listener;

static NOTICES: AtomicUsize = AtomicUsize::new(0);

impl Client<ThreadState> for Listener {
    fn redirect(&self, pc: u64) -> Redirect {
        if pc == leaving as *const () as u64 { Redirect::Leave } else { Redirect::Follow }
    }
    fn before_syscall(&self, _: &ThreadState, _: &Call) -> CallToken {
        CallToken::default()
    }
    fn after_syscall(&self, _: &ThreadState, _: &Call, _: i64, _: CallToken) {}
    fn before_exec(&self, _: &ThreadState, _: &mut Call) {}
    fn thread_started(&self, _: &ThreadState) -> bool {
        false
    }
    fn fork_child(&self, _: &ThreadState) {}
    fn exiting(&self, _: &ThreadState, _: bool, _: i32) {}
    fn notice(&self, _: &ThreadState, notice: Notice, at: u64, detail: u64) {
        NOTICES.fetch_add(1, Ordering::Relaxed);
        eprintln!("notice {notice:?} at {at:#x} detail {detail:#x}");
    }
}

/// A function of the host's at which following ends; it tells whether it did.
extern "C" fn leaving() -> bool {
    Engine::current().is_none_or(|thread| !thread.is_followed())
}

fn followed<R>(engine: &'static Engine, work: impl FnOnce() -> R) -> (R, u64) {
    let thread = engine.attach().expect("memory");
    // SAFETY: attached just now, on this thread; a block outlives its thread.
    let count = || unsafe { (*thread).totals()[Metric::Instructions as usize] };
    let before = count();
    // SAFETY: as above.
    unsafe { <Engine as Tracer>::enter(thread) };
    let result = work();
    <Engine as Tracer>::unfollow_me();
    (result, count() - before)
}

#[test]
fn threads_come_and_go() {
    let engine: &'static Engine = Box::leak(Box::new(
        Engine::new(&Listener, Limits { memory: 4 << 20, from_start: false }).expect("memory"),
    ));
    natively_set_handler(SIGUSR1, note_place);

    counts_are_the_same_each_time(engine);
    a_host_function_ends_it(engine);
    inherited_gs_is_not_ones_own(engine);
    blocks_are_used_again(engine);
    started_threads_may_run_natively(engine);
    code_that_others_change(engine);
    code_that_grows(engine);
    handlers_of_both_kinds_of_threads(engine);
    handlers_set_natively_are_shown(engine);
    the_alternate_stack_is_kept(engine);
    guarded_code::is_found_changed(engine);
    assert_eq!(NOTICES.load(Ordering::Relaxed), 0, "nothing was incomplete");
}

fn counts_are_the_same_each_time(engine: &'static Engine) {
    let once = |n| followed(engine, || count_down(std::hint::black_box(n)));
    let (_, first) = (once(1), once(1).1);
    for round in 0..20_000 {
        let n = 1 + round % 100;
        assert_eq!(once(n), (n * (n + 1) / 2, first + 3 * (n - 1)), "round {round}");
    }
}

fn a_host_function_ends_it(engine: &'static Engine) {
    for _ in 0..1000 {
        let thread = engine.attach().expect("memory");
        // SAFETY: attached just now, on this thread.
        unsafe { <Engine as Tracer>::enter(thread) };
        assert!(std::hint::black_box(leaving as extern "C" fn() -> bool)());
        // SAFETY: a block outlives its thread.
        assert!(unsafe { !(*thread).is_followed() }, "and it stays so");
    }
}

/// A thread that another one makes natively has its creator's GS base.
fn inherited_gs_is_not_ones_own(engine: &'static Engine) {
    let own = engine.attach().expect("memory") as usize;
    // SAFETY: attached just now, on this thread.
    unsafe { <Engine as Tracer>::enter(own as *mut ThreadState) };
    <Engine as Tracer>::unfollow_me();
    let other = std::thread::spawn(move || {
        assert!(Engine::current().is_none(), "nobody has followed this thread yet");
        let (sum, _) = followed(engine, || count_down(std::hint::black_box(1000)));
        assert_eq!(sum, 500_500);
        let thread = Engine::current().expect("followed before");
        engine.forget(thread);
        &raw const *thread as usize
    });
    assert_ne!(other.join().expect("no panic"), own);
}

fn blocks_are_used_again(engine: &'static Engine) {
    let mut blocks = HashSet::new();
    for _ in 0..100 {
        let thread = std::thread::spawn(move || {
            followed(engine, || count_down(std::hint::black_box(10)));
            let thread = Engine::current().expect("followed before");
            engine.forget(thread);
            &raw const *thread as usize
        });
        blocks.insert(thread.join().expect("no panic"));
    }
    // The kernel may still know a thread that was joined.
    assert!(blocks.len() < 10, "{} blocks for threads one after the other", blocks.len());
}

fn started_threads_may_run_natively(engine: &'static Engine) {
    let work = || {
        let started = std::thread::spawn(|| {
            (count_down(std::hint::black_box(1_000_000)), leaving(), thread_id())
        });
        started.join().expect("no panic")
    };
    let ((sum, is_native, tid), count) = followed(engine, work);
    assert_eq!(sum, 500_000_500_000);
    assert!(is_native && tid != thread_id());
    assert!(count < 1_000_000, "{count} instructions: the other thread's are among them");
}

fn thread_id() -> i64 {
    // SAFETY: takes nothing.
    unsafe { syscall6(nr::GETTID, [0; 6]) }
}

fn code_that_others_change(engine: &'static Engine) {
    const PAGE: u64 = 4096;
    const FIXED: u64 = 0x32; // MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    let map = |at: u64, flags: u64| {
        // SAFETY: a new page, or one of our own.
        unsafe { syscall6(nr::MMAP, [at, PAGE, 3, flags, u64::MAX, 0]) as u64 }
    };
    let at = map(0, 0x22);
    let write = |value: u8| {
        let code = [0xb8, value, 0, 0, 0, 0xc3]; // mov eax, value; ret
        // SAFETY: a writable page of our own.
        unsafe {
            core::ptr::copy_nonoverlapping(code.as_ptr(), at as *mut u8, code.len());
            syscall6(nr::MPROTECT, [at, PAGE, 5, 0, 0, 0]);
        }
    };
    // SAFETY: the code that `write` puts there.
    let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(at as usize) };
    write(1);
    assert_eq!(followed(engine, || std::hint::black_box(function)()).0, 1);
    for value in 2..100u8 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(map(at, FIXED), at);
                write(value);
                engine.memory_changed(at, PAGE);
            });
        });
        let (found, _) = followed(engine, || std::hint::black_box(function)());
        assert_eq!(found, u32::from(value), "stale code");
    }
}

/// Code heaps grow at their ends, and an instruction may lie across the old one.
fn code_that_grows(engine: &'static Engine) {
    const PAGE: u64 = 4096;
    let code = [0xb8, 7, 0, 0, 0, 0xc3]; // mov eax, 7; ret
    let run = |at: u64| {
        // SAFETY: the new pages are our own, and executable up to the code's end.
        let function: extern "C" fn() -> u32 = unsafe {
            core::ptr::copy_nonoverlapping(code.as_ptr(), at as *mut u8, code.len());
            core::mem::transmute(at as usize)
        };
        assert_eq!(followed(engine, || std::hint::black_box(function)()).0, 7);
    };
    // SAFETY: new pages; the first one alone may be used at first.
    unsafe {
        let at = syscall6(nr::MMAP, [0, 2 * PAGE, 0, 0x22, u64::MAX, 0]) as u64;
        syscall6(nr::MPROTECT, [at, PAGE, 7, 0, 0, 0]);
        run(at);
        syscall6(nr::MPROTECT, [at + PAGE, PAGE, 7, 0, 0, 0]);
        engine.memory_changed(at + PAGE, PAGE);
        run(at + PAGE - 2);
    }
}

// -- signals ---------------------------------------------------------------------------------------

const SIGUSR1: u64 = 10;
const SIGUSR2: u64 = 12;
const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESTART: u64 = 0x1000_0000;

type Handler = extern "C" fn(i32, *mut u8, *mut u8);

#[unsafe(naked)]
extern "C" fn restorer() {
    core::arch::naked_asm!("mov eax, 15", "syscall")
}

fn action(handler: Handler) -> [u64; 4] {
    let restorer = restorer as *const () as u64;
    [handler as usize as u64, SA_SIGINFO | SA_RESTORER | SA_RESTART, restorer, 0]
}

fn natively_set_handler(signal: u64, handler: Handler) {
    let action = action(handler);
    // SAFETY: a handler of ours, in the kernel's form.
    let answer =
        unsafe { syscall6(nr::RT_SIGACTION, [signal, action.as_ptr() as u64, 0, 8, 0, 0]) };
    assert_eq!(answer, 0);
}

/// Where handlers found their threads, how many did, and how many signals came to the other handler.
static PLACES: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];
static SEEN: AtomicUsize = AtomicUsize::new(0);
static OTHERS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note_place(_: i32, _: *mut u8, context: *mut u8) {
    const RIP: usize = 40 + 16 * 8;
    // SAFETY: the kernel's ucontext: flags, link and stack take 40 bytes, RIP is the 17th register.
    let place = unsafe { context.add(RIP).cast::<u64>().read() };
    let index = SEEN.fetch_add(1, Ordering::Relaxed);
    if let Some(slot) = PLACES.get(index) {
        slot.store(place, Ordering::Relaxed);
    }
}

extern "C" fn count_others(_: i32, _: *mut u8, _: *mut u8) {
    OTHERS.fetch_add(1, Ordering::Relaxed);
}

fn signal_thread(tid: &AtomicI32, signal: u64) {
    // SAFETY: a signal that has a handler.
    unsafe {
        let pid = syscall6(nr::GETPID, [0; 6]) as u64;
        let tid = tid.load(Ordering::Relaxed) as u64;
        syscall6(nr::TGKILL, [pid, tid, signal, 0, 0, 0]);
    }
}

/// One thread is followed now and then, one never; both get signals all the time. Handlers see the application's code.
fn handlers_of_both_kinds_of_threads(engine: &'static Engine) {
    let (tids, done) = ([const { AtomicI32::new(0) }; 2], AtomicBool::new(false));
    let mut wrong = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tids[0].store(thread_id() as i32, Ordering::Relaxed);
            while !done.load(Ordering::Relaxed) {
                std::hint::black_box(count_down(std::hint::black_box(1000)));
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for tid in &tids {
                    if tid.load(Ordering::Relaxed) != 0 {
                        signal_thread(tid, SIGUSR1);
                    }
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        tids[1].store(thread_id() as i32, Ordering::Relaxed);
        let begun = Instant::now();
        while SEEN.load(Ordering::Relaxed) < PLACES.len()
            && begun.elapsed() < Duration::from_secs(20)
        {
            let n = 1 + SEEN.load(Ordering::Relaxed) as u64 % 3000;
            let (sum, _) = followed(engine, || count_down(std::hint::black_box(n)));
            wrong += usize::from(sum != n * (n + 1) / 2);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong, 0, "a signal changed what the code did");
    assert!(SEEN.load(Ordering::Relaxed) > 500, "only {SEEN:?} signals");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let of_files = |place: u64| {
        maps.lines().any(|line| {
            let (range, rest) = line.split_once(' ').expect("a range");
            let (start, end) = range.split_once('-').expect("a range");
            let [start, end] =
                [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address"));
            (start..end).contains(&place) && (rest.contains('/') || rest.contains("[vdso]"))
        })
    };
    for place in PLACES.iter().map(|place| place.load(Ordering::Relaxed)).filter(|&p| p != 0) {
        assert!(of_files(place), "a handler saw {place:#x}, which is not the application's");
    }
}

/// What threads that are not followed set and ask: the application's handlers, never the engine's.
fn handlers_set_natively_are_shown(engine: &'static Engine) {
    let mut old = [0u64; 4];
    let asked = engine.set_action(SIGUSR1, 0, old.as_mut_ptr() as u64);
    assert_eq!(
        (asked, old),
        (0, action(note_place)),
        "the handler that was set before anybody was followed"
    );
    let new = action(count_others);
    assert_eq!(engine.set_action(SIGUSR2, new.as_ptr() as u64, old.as_mut_ptr() as u64), 0);
    assert_eq!(old[0], 0, "there was none");
    let tid = AtomicI32::new(thread_id() as i32);
    let before = OTHERS.load(Ordering::Relaxed);
    signal_thread(&tid, SIGUSR2);
    followed(engine, || signal_thread(&tid, SIGUSR2));
    assert_eq!(OTHERS.load(Ordering::Relaxed) - before, 2);
    assert_eq!(engine.set_action(65, new.as_ptr() as u64, 0), -22, "EINVAL");
}

fn the_alternate_stack_is_kept(engine: &'static Engine) {
    let area = vec![0u8; 64 << 10];
    let own = [area.as_ptr() as u64, 0, area.len() as u64];
    let ask = |new: u64| {
        let mut old = [1u64; 3];
        // SAFETY: both are ours.
        let answer =
            unsafe { syscall6(nr::SIGALTSTACK, [new, old.as_mut_ptr() as u64, 0, 0, 0, 0]) };
        assert_eq!(answer, 0);
        old
    };
    let before = ask(own.as_ptr() as u64);
    assert_eq!(followed(engine, || ask(0)).0, own, "as it was set");
    assert_eq!(ask(0), own, "and natively after that");
    ask(before.as_ptr() as u64);
}
