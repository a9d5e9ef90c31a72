//! What the process's own seccomp filters say of a system call.
//!
//! # Design
//! A filter is installed by a system call of a followed thread, so its program is seen and copied. Before the engine or its
//! host makes a call of its own it asks here, and goes without where a filter does not simply allow it: the answer could be
//! the end of the process. The programs are classic BPF (`Documentation/userspace-api/seccomp_filter.rst`); a filter of one
//! thread is taken for one of all threads, which errs on the side of asking for less.
//!
//! # Limitations
//! Filters that the process was born with are not known. Those of containers answer with an error number; a process that
//! executes another program under a filter of its own keeps us out of that program.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::syscall::{nr, syscall6};

/// Longest program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Instructions of all programs that are kept.
const MAX_KEPT: usize = 4 * MAX_INSTRUCTIONS;
/// `SECCOMP_RET_ALLOW`, and the part of an answer that is the action.
const ALLOW: u32 = 0x7fff_0000;
const ACTION: u32 = 0xffff_0000;
/// `SECCOMP_RET_ERRNO`: the call fails with an error number, and nothing else comes of it.
const FAIL: u32 = 0x0005_0000;
/// `AUDIT_ARCH_X86_64`.
const ARCHITECTURE: u32 = 0xc000_003e;

/// One instruction, as in `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfInstruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip if a condition holds.
    pub jump_true: u8,
    /// And if not.
    pub jump_false: u8,
    /// Its constant.
    pub k: u32,
}

/// `struct seccomp_data`: what a program looks at.
struct Data {
    words: [u32; 16],
}

impl Data {
    fn of(number: u64, address: u64, arguments: &[u64; 6]) -> Data {
        let mut words = [0; 16];
        words[0] = number as u32;
        words[1] = ARCHITECTURE;
        for (index, value) in [address].iter().chain(arguments).enumerate() {
            words[2 + 2 * index] = *value as u32;
            words[3 + 2 * index] = (*value >> 32) as u32;
        }
        Data { words }
    }
}

/// What a program answers; `None` where it is not a program that the kernel would take.
fn run(program: &[BpfInstruction], data: &Data) -> Option<u32> {
    // Classes, modes and operations of classic BPF (`include/uapi/linux/bpf_common.h`).
    const LD: u16 = 0;
    const LDX: u16 = 1;
    const ST: u16 = 2;
    const STX: u16 = 3;
    const ALU: u16 = 4;
    const JMP: u16 = 5;
    const RET: u16 = 6;
    const ABSOLUTE: u16 = 0x20;
    const MEMORY: u16 = 0x60;
    const LENGTH: u16 = 0x80;
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let mut at = 0usize;
    loop {
        let BpfInstruction { code, jump_true, jump_false, k } = *program.get(at)?;
        at += 1;
        let operand = if code & 8 != 0 { x } else { k };
        match code & 7 {
            LD if code & 0xe0 == ABSOLUTE && k % 4 == 0 => a = *data.words.get(k as usize / 4)?,
            LD if code & 0xe0 == 0 => a = k,
            LD if code & 0xe0 == MEMORY => a = *memory.get(k as usize)?,
            LD if code & 0xe0 == LENGTH => a = 64,
            LDX if code & 0xe0 == 0 => x = k,
            LDX if code & 0xe0 == MEMORY => x = *memory.get(k as usize)?,
            LDX if code & 0xe0 == LENGTH => x = 64,
            ST => *memory.get_mut(k as usize)? = a,
            STX => *memory.get_mut(k as usize)? = x,
            ALU => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 => a.checked_div(operand)?,
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.checked_shl(operand).unwrap_or(0),
                    0x70 => a.checked_shr(operand).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0xa0 => a ^ operand,
                    _ => return None,
                };
            }
            JMP => {
                let holds = match code & 0xf0 {
                    0x00 => {
                        at += k as usize;
                        continue;
                    }
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if holds { jump_true } else { jump_false });
            }
            RET => return Some(if code & 0x18 == 0x10 { a } else { k }),
            7 => match code & 0xf8 {
                0 => x = a,
                0x80 => a = x,
                _ => return None,
            },
            _ => return None,
        }
    }
}

/// Instructions of all programs, and where each ends.
struct Kept {
    instructions: [BpfInstruction; MAX_KEPT],
    ends: [usize; 64],
}

static RESTRICTED: AtomicBool = AtomicBool::new(false);
/// Only read, write, exit and sigreturn (`SECCOMP_MODE_STRICT`).
static STRICT: AtomicBool = AtomicBool::new(false);
/// There is a filter whose program is not kept: nothing is allowed for certain.
static UNKNOWN: AtomicBool = AtomicBool::new(false);
static KEPT: AtomicPtr<Kept> = AtomicPtr::new(core::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// prctl(2) and seccomp(2) (`include/uapi/linux/{prctl,seccomp}.h`).
const PR_SET_SECCOMP: u64 = 22;
const SECCOMP_MODE_STRICT: u64 = 1;
const SECCOMP_MODE_FILTER: u64 = 2;
const SECCOMP_SET_MODE_STRICT: u64 = 0;
const SECCOMP_SET_MODE_FILTER: u64 = 1;

/// What a system call puts on the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installation {
    /// Strict mode.
    Strict,
    /// The filter that the `struct sock_fprog` at this address describes.
    Filter(u64),
}

/// What a system call installs if the kernel agrees.
pub fn installation(number: u64, arguments: &[u64; 6]) -> Option<Installation> {
    let (first, second, third) = (low_word(arguments[0]), arguments[1], arguments[2]);
    match (number, first, second) {
        (nr::PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_STRICT)
        | (nr::SECCOMP, SECCOMP_SET_MODE_STRICT, _) => Some(Installation::Strict),
        (nr::PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_FILTER)
        | (nr::SECCOMP, SECCOMP_SET_MODE_FILTER, _) => Some(Installation::Filter(third)),
        _ => None,
    }
}

/// An argument that the kernel takes as a number of 32 bits, as the first one of prctl(2) and seccomp(2).
#[inline]
pub const fn low_word(argument: u64) -> u64 {
    argument & 0xffff_ffff
}

/// A filter that is about to be installed.
#[derive(Debug)]
pub struct Installing {
    count: usize,
    was_restricted: bool,
    was_strict: bool,
    was_unknown: bool,
}

impl Installing {
    fn begin() -> Installing {
        Installing {
            count: COUNT.load(Ordering::Acquire),
            was_restricted: RESTRICTED.load(Ordering::Acquire),
            was_strict: STRICT.load(Ordering::Acquire),
            was_unknown: UNKNOWN.load(Ordering::Acquire),
        }
    }

    /// The kernel has refused it.
    pub fn undo(self) {
        COUNT.store(self.count, Ordering::Release);
        UNKNOWN.store(self.was_unknown, Ordering::Release);
        STRICT.store(self.was_strict, Ordering::Release);
        RESTRICTED.store(self.was_restricted, Ordering::Release);
    }
}

/// Strict mode is about to be switched on.
pub fn install_strict() -> Installing {
    let before = Installing::begin();
    STRICT.store(true, Ordering::Release);
    RESTRICTED.store(true, Ordering::Release);
    before
}

/// A filter is about to be installed; `None` = its program cannot be read. From now on it is obeyed. The caller sees to it that
/// one thread does so at a time.
pub fn install(program: Option<&[BpfInstruction]>) -> Installing {
    let before = Installing::begin();
    if program.and_then(keep).is_none() {
        UNKNOWN.store(true, Ordering::Release);
    }
    RESTRICTED.store(true, Ordering::Release);
    before
}

fn keep(program: &[BpfInstruction]) -> Option<()> {
    let mut kept = KEPT.load(Ordering::Acquire);
    if kept.is_null() {
        let (read_and_write, private_anonymous) = (3, 0x22);
        let arguments =
            [0, size_of::<Kept>() as u64, read_and_write, private_anonymous, u64::MAX, 0];
        // SAFETY: a new mapping replaces nothing. No filter is obeyed yet.
        let at = unsafe { syscall6(nr::MMAP, arguments) };
        if at < 0 {
            return None;
        }
        kept = at as *mut Kept;
        KEPT.store(kept, Ordering::Release);
    }
    let count = COUNT.load(Ordering::Acquire);
    // SAFETY: mapped for good, zeroed. Elements past COUNT are written by the one thread that installs, and read by nobody
    // before COUNT says so: raw places, no reference to the whole.
    unsafe {
        let begin = if count == 0 { 0 } else { (*kept).ends[count - 1] };
        let end = begin + program.len();
        if count == (*kept).ends.len() || end > MAX_KEPT {
            return None;
        }
        let to = (&raw mut (*kept).instructions).cast::<BpfInstruction>().add(begin);
        core::ptr::copy_nonoverlapping(program.as_ptr(), to, program.len());
        (&raw mut (*kept).ends).cast::<usize>().add(count).write(end);
    }
    COUNT.store(count + 1, Ordering::Release);
    Some(())
}

/// Whether the process has switched a filter on.
#[inline]
pub fn is_restricted() -> bool {
    RESTRICTED.load(Ordering::Acquire)
}

/// Whether all filters simply allow a call.
#[inline]
pub fn allows(number: u64, arguments: &[u64; 6]) -> bool {
    !is_restricted() || ask(number, arguments, |action| action == ALLOW)
}

/// Whether all filters allow a call or let it fail: it may be made where a failure is an answer.
#[inline]
pub fn allows_or_fails(number: u64, arguments: &[u64; 6]) -> bool {
    !is_restricted() || ask(number, arguments, |action| matches!(action, ALLOW | FAIL))
}

/// Whether a filter that is not installed yet would simply allow a call, and those that are do.
pub fn would_allow(program: &[BpfInstruction], number: u64, arguments: &[u64; 6]) -> bool {
    let data = Data::of(number, allows as *const () as u64, arguments);
    run(program, &data).is_some_and(|answer| answer & ACTION == ALLOW) && allows(number, arguments)
}

/// Issues a call that the engine can do without: `-EPERM` where the process's own filters may forbid it.
///
/// # Safety
/// As [`syscall6`].
#[inline]
pub unsafe fn optional(nr: u64, a: [u64; 6]) -> i64 {
    const EPERM: i64 = 1;
    // SAFETY: forwarded.
    if allows(nr, &a) { unsafe { syscall6(nr, a) } } else { -EPERM }
}

#[cold]
fn ask(number: u64, arguments: &[u64; 6], suits: fn(u32) -> bool) -> bool {
    if UNKNOWN.load(Ordering::Acquire) {
        return false;
    }
    if STRICT.load(Ordering::Acquire)
        && !matches!(number, nr::READ | nr::WRITE | nr::EXIT | nr::RT_SIGRETURN)
    {
        return false;
    }
    let kept = KEPT.load(Ordering::Acquire);
    let data = Data::of(number, allows as *const () as u64, arguments);
    (0..COUNT.load(Ordering::Acquire)).all(|index| {
        // SAFETY: mapped for good; what lies below COUNT is never written again.
        let program = unsafe {
            let begin = if index == 0 { 0 } else { (*kept).ends[index - 1] };
            let first = (&raw const (*kept).instructions).cast::<BpfInstruction>().add(begin);
            core::slice::from_raw_parts(first, (*kept).ends[index] - begin)
        };
        run(program, &data).is_some_and(|answer| suits(answer & ACTION))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bpf(code: u16, jump_true: u8, jump_false: u8, k: u32) -> BpfInstruction {
        BpfInstruction { code, jump_true, jump_false, k }
    }

    /// read, and write to descriptor 1, are allowed; getpid is an error; all else kills.
    fn list() -> [BpfInstruction; 8] {
        [
            bpf(0x20, 0, 0, 0),        // ld nr
            bpf(0x15, 4, 0, 0),        // read: allow
            bpf(0x15, 0, 2, 1),        // write?
            bpf(0x20, 0, 0, 16),       // ld args[0]
            bpf(0x15, 1, 0, 1),        // 1: allow
            bpf(0x06, 0, 0, 0),        // kill
            bpf(0x06, 0, 0, ALLOW),    // allow
            bpf(0x06, 0, 0, 0x5_0001), // errno, never reached
        ]
    }

    #[test]
    fn calls_that_install_are_recognised() {
        let of = |number, first, second| installation(number, &[first, second, 7, 0, 0, 0]);
        assert_eq!(of(nr::PRCTL, 22, 1), Some(Installation::Strict));
        assert_eq!(of(nr::PRCTL, 22, 2), Some(Installation::Filter(7)));
        // The kernel's first argument is an int.
        assert_eq!(of(nr::PRCTL, 0xdead_0000_0016, 2), Some(Installation::Filter(7)));
        assert_eq!(of(nr::SECCOMP, 1 << 32 | 1, 1), Some(Installation::Filter(7)));
        assert_eq!(of(nr::SECCOMP, 0, 0), Some(Installation::Strict));
        // Other operations of seccomp(2), and other options.
        assert_eq!([of(nr::SECCOMP, 2, 0), of(nr::PRCTL, 22, 3), of(nr::PRCTL, 21, 2)], [None; 3]);
    }

    #[test]
    fn an_allow_list_is_evaluated() {
        let answer = |number, first| {
            run(&list(), &Data::of(number, 0, &[first, 0, 0, 0, 0, 0])).map(|a| a & ACTION)
        };
        assert_eq!(answer(0, 7), Some(ALLOW));
        assert_eq!(answer(1, 1), Some(ALLOW));
        assert_eq!(answer(1, 2), Some(0));
        assert_eq!(answer(39, 1), Some(0));
    }

    #[test]
    fn arithmetic_memory_and_long_jumps() {
        // x = nr & 0xff; m[3] = x * 2; ja over a kill; a = m[3] - 1; return a
        let program = [
            bpf(0x20, 0, 0, 0),
            bpf(0x54, 0, 0, 0xff),
            bpf(0x24, 0, 0, 2),
            bpf(0x02, 0, 0, 3),
            bpf(0x05, 0, 0, 1),
            bpf(0x06, 0, 0, 0),
            bpf(0x60, 0, 0, 3),
            bpf(0x07, 0, 0, 0),
            bpf(0x87, 0, 0, 0),
            bpf(0x14, 0, 0, 1),
            bpf(0x16, 0, 0, 0),
        ];
        assert_eq!(run(&program, &Data::of(0x105, 0, &[0; 6])), Some(9));
    }

    #[test]
    fn what_is_no_program_answers_nothing() {
        assert_eq!(run(&[], &Data::of(0, 0, &[0; 6])), None);
        assert_eq!(run(&[bpf(0x20, 0, 0, 64)], &Data::of(0, 0, &[0; 6])), None);
        assert_eq!(run(&[bpf(0x05, 0, 0, u32::MAX)], &Data::of(0, 0, &[0; 6])), None);
        assert_eq!(run(&[bpf(0x34, 0, 0, 0)], &Data::of(0, 0, &[0; 6])), None);
    }
}
