//! Code in memory that the host has spoken for (`Tracer::guard`): never stale, whoever changes it, and counted as ever.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::sys::{nr, syscall6};
use engine::{Engine, Tracer};

use super::followed;

const PAGE: u64 = 4096;
const PAGES: u64 = 96;
const READ_WRITE_EXECUTE: u64 = 7;

/// The guarded memory.
#[derive(Clone, Copy)]
struct Heap {
    start: u64,
}

impl Heap {
    fn new(engine: &'static Engine) -> Heap {
        // SAFETY: new pages.
        let start = unsafe {
            syscall6(nr::MMAP, [0, PAGES * PAGE, READ_WRITE_EXECUTE, 0x22, u64::MAX, 0]) as u64
        };
        engine.guard(start, PAGES * PAGE);
        Heap { start }
    }

    /// Writes code.
    fn put(self, at: u64, code: &[u8]) {
        assert!(at >= self.start && at + code.len() as u64 <= self.start + PAGES * PAGE);
        // SAFETY: inside the heap, whose code is executed by these tests alone.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), at as *mut u8, code.len()) };
    }

    /// Calls the code at an address.
    fn call(self, at: u64) -> u32 {
        // SAFETY: `put` has put a function there.
        let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(at as usize) };
        black_box(function)()
    }

    /// `mov eax, value; ret`
    fn answer(self, at: u64, value: u32) {
        let [a, b, c, d] = value.to_le_bytes();
        self.put(at, &[0xb8, a, b, c, d, 0xc3]);
    }

    /// May the application write to this page without a fault?
    fn is_open(self, at: u64) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let number = |digits| u64::from_str_radix(digits, 16).unwrap();
            (number(start)..number(end)).contains(&at)
        });
        line.unwrap().contains(" rwxp ")
    }
}

pub fn is_found_changed(engine: &'static Engine) {
    let heap = Heap::new(engine);
    a_page_is_protected_and_opened(engine, heap);
    a_block_may_span_pages(engine, heap);
    links_lead_to_what_is_there(engine, heap);
    a_thread_may_change_it_itself(engine, heap);
    others_may_change_it_meanwhile(engine, heap);
    handlers_may_change_it(engine, heap);
    libraries_may_be_unloaded(engine, heap);
    pages_may_be_mapped_anew(engine, heap);
    the_cache_may_be_flushed(engine, heap);
    mappings_may_run_out(engine, heap);
}

fn a_page_is_protected_and_opened(engine: &'static Engine, heap: Heap) {
    let at = heap.start + 16;
    heap.answer(at, 1);
    assert!(heap.is_open(at));
    let (first, count) = followed(engine, || heap.call(at));
    assert!(!heap.is_open(at), "translated code is protected");
    assert!(heap.is_open(at + PAGE), "other pages are not");
    assert_eq!(first, 1);
    for value in 2..50 {
        heap.answer(at, value);
        assert!(heap.is_open(at));
        assert_eq!(followed(engine, || heap.call(at)), (value, count));
    }
    // Data beside the code: nothing has changed, and it is protected again once it holds still.
    heap.put(at + 256, &[0]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(followed(engine, || heap.call(at)), (49, count));
    assert!(!heap.is_open(at));
}

fn a_block_may_span_pages(engine: &'static Engine, heap: Heap) {
    // 30 NOPs of seven bytes, longer than the longest block; then mov eax, value; ret.
    let long: Vec<u8> = [0x0f, 0x1f, 0x80, 0, 0, 0, 0].repeat(30);
    let at = heap.start + 4 * PAGE - 100;
    let end = at + long.len() as u64;
    heap.put(at, &long);
    let mut counts = Vec::new();
    for value in 1..20 {
        heap.answer(end, value);
        let (found, count) = followed(engine, || heap.call(at));
        assert_eq!(found, value);
        counts.push(count);
        // mov eax, 7; ret instead of the block's end, in its second page: the first one is not written to.
        heap.put(end - 7, &[0xb8, 7, 0, 0, 0, 0xc3]);
        assert_eq!(followed(engine, || heap.call(at)).0, 7);
        heap.put(end - 7, &long[..7]);
    }
    assert!(counts.iter().all(|&count| count == counts[0]), "{counts:?}");
}

fn links_lead_to_what_is_there(engine: &'static Engine, heap: Heap) {
    let [caller, callee] = [heap.start + 8 * PAGE, heap.start + 9 * PAGE];
    // jmp callee
    let distance = (callee - caller - 5) as u32;
    heap.put(caller, &[&[0xe9], &distance.to_le_bytes()[..]].concat());
    for value in 1..50 {
        heap.answer(callee, value);
        for _ in 0..3 {
            assert_eq!(followed(engine, || heap.call(caller)).0, value);
        }
    }
}

fn a_thread_may_change_it_itself(engine: &'static Engine, heap: Heap) {
    // Without a pause: the page is given up at last, and stays right.
    let at = heap.start + 12 * PAGE;
    let wrong = followed(engine, || {
        (0..100_000u32)
            .filter(|&value| {
                heap.answer(at, value);
                heap.call(at) != value
            })
            .count()
    });
    assert_eq!(wrong.0, 0, "stale code");
}

fn others_may_change_it_meanwhile(engine: &'static Engine, heap: Heap) {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    let at = heap.start + 16 * PAGE + 2; // the value's four bytes lie in one word
    heap.answer(at, 0);
    // What was written before the call is found by it, or something newer.
    let reads = || {
        let mut calls = 0u64;
        while !STOP.load(Ordering::Acquire) {
            let before = WRITTEN.load(Ordering::Acquire);
            let found = u64::from(heap.call(at));
            assert!(found >= before, "{found} was called, {before} had been written");
            assert!(found <= WRITTEN.load(Ordering::Acquire) + 1);
            calls += 1;
        }
        calls
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| followed(engine, reads).0)).collect();
        for value in 1..3000u32 {
            // SAFETY: the operand of the one instruction there, within one word.
            unsafe { ((at + 1) as *mut u32).write_unaligned(value) };
            WRITTEN.store(u64::from(value), Ordering::Release);
            std::thread::sleep(std::time::Duration::from_micros(u64::from(value % 64)));
        }
        STOP.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(followed(engine, || heap.call(at)).0, 2999);
}

/// Handlers that have every signal blocked, as HotSpot's, which writes to the headers of compiled methods.
fn handlers_may_change_it(engine: &'static Engine, heap: Heap) {
    const SIGURG: u64 = 23;
    static AT: AtomicU64 = AtomicU64::new(0);
    extern "C" fn rewrite(_: i32, _: *mut u8, _: *mut u8) {
        // SAFETY: the value of a `mov eax, value` in the heap.
        unsafe { *((AT.load(Ordering::Relaxed) + 1) as *mut u8) += 1 };
    }
    let raise = || {
        // SAFETY: a signal that has a handler, for this thread.
        unsafe {
            let (pid, tid) = (syscall6(nr::GETPID, [0; 6]), syscall6(nr::GETTID, [0; 6]));
            syscall6(nr::TGKILL, [pid as u64, tid as u64, SIGURG, 0, 0, 0]);
        }
    };
    let at = heap.start + 24 * PAGE;
    AT.store(at, Ordering::Relaxed);
    let mut action = super::action(rewrite);
    action[3] = u64::MAX;
    assert_eq!(engine.set_action(SIGURG, action.as_ptr() as u64, 0), 0);
    heap.answer(at, 0);
    for value in (0..60).step_by(2) {
        let before_and_after = || {
            let before = heap.call(at);
            raise();
            (before, heap.call(at))
        };
        assert_eq!(followed(engine, before_and_after).0, (value, value + 1));
        raise();
    }
    assert_eq!(followed(engine, || heap.call(at)).0, 60);
}

/// After a dlclose all code may have changed, by the host's word: guarded pages are still protected.
fn libraries_may_be_unloaded(engine: &'static Engine, heap: Heap) {
    let at = heap.start + 28 * PAGE;
    for value in 1..20 {
        heap.answer(at, value);
        assert_eq!(followed(engine, || heap.call(at)).0, value);
        assert!(!heap.is_open(at));
        engine.libraries_unloaded();
    }
}

fn pages_may_be_mapped_anew(engine: &'static Engine, heap: Heap) {
    const FIXED: u64 = 0x32;
    let at = heap.start + 20 * PAGE;
    let map = || {
        // SAFETY: a page of the heap, of which nothing is kept.
        unsafe { syscall6(nr::MMAP, [at, PAGE, READ_WRITE_EXECUTE, FIXED, u64::MAX, 0]) };
    };
    heap.answer(at, 1);
    assert_eq!(followed(engine, || heap.call(at)).0, 1);
    for value in 2..20 {
        if value % 2 == 0 {
            followed(engine, map);
        } else {
            map();
            engine.memory_changed(at, PAGE);
        }
        assert!(heap.is_open(at));
        heap.answer(at, value);
        assert_eq!(followed(engine, || heap.call(at)).0, value);
    }
    // The application's own protection is not lifted.
    // SAFETY: a page of the heap.
    unsafe { syscall6(nr::MPROTECT, [at, PAGE, 5, 0, 0, 0]) };
    engine.memory_changed(at, PAGE);
    assert_eq!(followed(engine, || heap.call(at)).0, 19);
    assert!(!heap.is_open(at));
}

fn the_cache_may_be_flushed(engine: &'static Engine, heap: Heap) {
    let first = heap.start + 32 * PAGE;
    let functions = (PAGES - 32) * PAGE / 8;
    let place = |i: u64| first + 8 * i;
    for round in 0..3u32 {
        (0..functions).for_each(|i| heap.answer(place(i), i as u32 + round));
        let (wrong, _) = followed(engine, || {
            (0..functions).filter(|&i| heap.call(place(i)) != i as u32 + round).count()
        });
        assert_eq!(wrong, 0, "stale code in round {round}");
    }
    let (fragments, bytes) = engine.size();
    assert!(fragments < 3 * functions as usize && bytes <= 4 << 20, "it was flushed");
}

/// The kernel splits no mapping any more: pages are given up, those that are protected become writable again.
fn mappings_may_run_out(engine: &'static Engine, heap: Heap) {
    // A new mapping holds neither translations nor strikes.
    let place = |page: u64| heap.start + (40 + page) * PAGE;
    // SAFETY: pages of the heap, of which nothing is kept.
    unsafe {
        let all = [place(0), 20 * PAGE, READ_WRITE_EXECUTE, 0x32, u64::MAX, 0];
        syscall6(nr::MMAP, all);
    }
    engine.memory_changed(place(0), 20 * PAGE);
    let right = |page: u64, value: u32| {
        heap.answer(place(page), value);
        assert_eq!(followed(engine, || heap.call(place(page))).0, value);
    };
    (0..5).for_each(|page| right(page, 1));
    right(12, 1);
    assert!((0..5).all(|page| !heap.is_open(place(page))));

    // One page each, never like the one before, so that the kernel joins none.
    let fillers: Vec<u64> = (0..)
        .map(|i: u64| {
            // SAFETY: new pages.
            unsafe { syscall6(nr::MMAP, [0, PAGE, i % 2, 0x22, u64::MAX, 0]) }
        })
        .take_while(|&at| at > 0)
        .map(|at| at as u64)
        .collect();
    // A page that cannot be protected, in the midst of open ones; then one in the midst of protected ones is opened.
    right(8, 2);
    right(2, 2);
    (0..5).for_each(|page| right(page, 3));
    right(12, 3);
    for &at in &fillers {
        // SAFETY: mapped above, used by nobody.
        unsafe { syscall6(nr::MUNMAP, [at, PAGE, 0, 0, 0, 0]) };
    }
    assert!(fillers.len() > 1000, "{} mappings were there", fillers.len());
    assert!((0..13).all(|page| heap.is_open(place(page))), "nothing is protected any more");
    (0..5).for_each(|page| right(page, 4));
}
