//! Following this very process: start, stop, known counts.
//!
//! One test function drives all cases on one thread: this version follows one thread at a time.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::{
    Call, Engine, Host, Limits, Notice, Redirect, ThreadState, engine_enter, unfollow_me,
};

/// Never frees and takes no lock, so that the engine may allocate while followed code is in malloc.
struct Bump;

static NEXT: AtomicUsize = AtomicUsize::new(0);
const HEAP: usize = 1 << 30;

// SAFETY: hands out disjoint parts of one large mapping.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        static BASE: AtomicUsize = AtomicUsize::new(0);
        let mut base = BASE.load(Ordering::Acquire);
        if base == 0 {
            let fresh = engine::sys::map_anonymous(0, HEAP, 3).expect("memory");
            base = match BASE.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => fresh,
                Err(other) => other,
            };
        }
        let size = layout.size() + layout.align();
        let at = base + NEXT.fetch_add(size, Ordering::Relaxed);
        ((at + layout.align() - 1) & !(layout.align() - 1)) as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

// The engine promises to touch xmm0-15 alone, but here it shares the C library's memcpy with the code it
// follows, and that one may use wider registers. These stand before it, as the shim's own do.
core::arch::global_asm!(
    ".globl memcpy",
    ".globl memmove",
    ".globl memset",
    ".globl memcmp",
    ".globl bcmp",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jae memcpy",
    "mov rcx, rdx",
    "lea rdi, [rdi+rdx-1]",
    "lea rsi, [rsi+rdx-1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "bcmp:",
    "memcmp:",
    "mov rcx, rdx",
    "xor eax, eax",
    "test rcx, rcx",
    "repe cmpsb",
    "je 2f",
    "movzx eax, byte ptr [rdi-1]",
    "movzx ecx, byte ptr [rsi-1]",
    "sub ecx, eax",
    "mov eax, ecx",
    "2:",
    "ret",
);

struct Quiet;

impl Host for Quiet {
    fn redirect(&self, _: u64) -> Redirect {
        Redirect::Follow
    }
    fn before_syscall(&self, _: &mut ThreadState, _: &Call) -> u64 {
        0
    }
    fn after_syscall(&self, _: &mut ThreadState, _: &Call, _: i64, _: u64) {}
    fn before_exec(&self, _: &mut ThreadState, _: &Call) {}
    fn thread_started(&self, _: &mut ThreadState) {}
    fn fork_child(&self, _: &mut ThreadState) {}
    fn exiting(&self, _: &mut ThreadState, _: bool, _: i32) {}
    fn notice(&self, _: &mut ThreadState, notice: Notice, at: u64, detail: u64) {
        eprintln!("notice {notice:?} at {at:#x} detail {detail:#x}");
    }
}

/// A loop of known length: 2 + 3n instructions and the return.
#[unsafe(naked)]
extern "C" fn count_down(_n: u64) -> u64 {
    core::arch::naked_asm!(
        "xor eax, eax",
        "mov rcx, rdi",
        "2:",
        "add rax, rcx",
        "dec rcx",
        "jnz 2b",
        "ret"
    )
}

fn counted<R>(engine: &'static Engine, work: impl FnOnce() -> R) -> (R, engine::Totals) {
    let thread = engine.attach().expect("no other thread is followed");
    // SAFETY: attached just now, on this thread.
    let before = unsafe { (*thread).totals() };
    // SAFETY: as above; the engine follows until `unfollow_me`.
    unsafe { engine_enter(thread) };
    let result = work();
    unfollow_me();
    // SAFETY: the block lives on.
    let after = unsafe { (*thread).totals() };
    let mut difference = [0; 6];
    for m in 0..6 {
        difference[m] = after[m] - before[m];
    }
    (result, difference)
}

#[test]
fn known_loops_and_library_code() {
    let engine =
        Box::leak(Box::new(Engine::new(&Quiet, Limits { memory: 64 << 20 }).expect("memory")));
    let run = |n: u64| counted(engine, || count_down(std::hint::black_box(n)));
    let (_, empty) = run(1);
    let (sum, many) = run(1_000_001);
    assert_eq!(sum, 500_001_500_001);
    assert_eq!(many[0] - empty[0], 3_000_000);
    assert_eq!(many[1] - empty[1], 0);
    assert_eq!(many[2] - empty[2], 0);

    let (text, totals) = counted(engine, || {
        let mut words: Vec<String> =
            (0..10_000).map(|i| format!("{:x}", i * 7919 % 10_007)).collect();
        words.sort();
        words.concat()
    });
    let mut words: Vec<String> = (0..10_000).map(|i| format!("{:x}", i * 7919 % 10_007)).collect();
    words.sort();
    assert_eq!(text, words.concat());
    assert!(totals[0] > 1_000_000 && totals[1] > 100_000, "{totals:?}");
    println!("{totals:?} {:?}", engine.size());
}
