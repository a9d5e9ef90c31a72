//! The functions of libc that this library defines in their place.
//!
//! # Design
//!
//! Each hook is an assembly stub. In a passive process it jumps to the next definition: one compare and
//! one indirect jump. In a counting one it goes to [`enter`], which saves the arguments in a [`Frame`],
//! asks Rust ([`before`]), calls the next definition *from its own frame*, and tells Rust the result
//! ([`after`]). So no Rust frame is on the stack while the application's call waits: cancellation and
//! exceptions unwind through `enter` by its unwinding table, and there is no state to undo.
//!
//! Variadic functions need nothing special: integer arguments are in registers, those on the stack stay
//! where they are when the stub jumps instead of calling.

mod actions;
mod calls;
#[cfg(feature = "gum")]
pub mod gum;
mod rights;

use crate::{
    base::{guarded, link},
    client::tracer,
};
use core::{
    arch::naked_asm,
    ffi::CStr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};
use guest::dynamic_symbols::Name;

/// Set while this process is counted.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// The next definition of each hook; 0 = not looked for yet.
static NEXT: [AtomicUsize; COUNT] = [const { AtomicUsize::new(0) }; COUNT];

/// `__errno_location`; 0 = not found.
static ERRNO_LOCATION: AtomicUsize = AtomicUsize::new(0);

/// Makes every hook look at its calls.
pub fn count_from_now() {
    ACTIVE.store(true, Ordering::SeqCst);
}

/// Makes every hook pass straight through.
pub fn pass_through_from_now() {
    ACTIVE.store(false, Ordering::SeqCst);
}

/// What a stub hands to Rust.
#[repr(C)]
pub struct Frame {
    /// The integer arguments, in order.
    pub arguments: [u64; 6],
    rax: u64,
    hook: usize,
    next: usize,
    /// What the next definition returned, or what the stub is to return instead of calling it.
    pub result: i64,
    /// For `before` to tell `after`.
    pub notes: [u64; 4],
}

/// What is decided before a call. `enter` knows the numbers.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Decision {
    /// Jump to the next definition, and nothing after it.
    PassThrough = 0,
    /// Call the next definition, and tell its result.
    CallThenAfter = 1,
    /// Return [`Frame::result`]; the next definition is not called.
    Answered = 2,
    /// As `PassThrough`, and the engine follows from the next definition's first instruction on. Its arguments stay
    /// where they are, so this is for an engine that does not ask for its thread.
    FollowNext = 3,
}

macro_rules! hooks {
    ($( $variant:ident = $name:ident; )*) => {
        /// The hooked functions.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Hook { $( #[doc = concat!("`", stringify!($name), "`")] $variant, )* }

        const ALL: &[Hook] = &[ $( Hook::$variant ),* ];
        const COUNT: usize = ALL.len();
        static NAMES: [Name<'static>; COUNT] = [ $( Name::new(c_name(concat!(stringify!($name), "\0"))) ),* ];

        /// The exported stubs.
        mod stubs {
            use super::{ACTIVE, Hook, NEXT, enter};
            $(
                #[unsafe(naked)]
                #[unsafe(no_mangle)]
                pub unsafe extern "C" fn $name() {
                    core::arch::naked_asm!(
                        ".cfi_startproc",
                        "cmp byte ptr [rip + {active}], 0",
                        "jne 2f",
                        "mov r11, qword ptr [rip + {next} + 8 * {index}]",
                        "test r11, r11",
                        "jz 2f",
                        "jmp r11",
                        "2:",
                        "mov r11d, {index}",
                        "jmp {enter}",
                        ".cfi_endproc",
                        active = sym ACTIVE,
                        next = sym NEXT,
                        enter = sym enter,
                        index = const Hook::$variant as usize,
                    )
                }
            )*
            /// The stubs' addresses, in the order of the hooks.
            pub static ADDRESSES: [unsafe extern "C" fn(); super::COUNT] = [ $( $name ),* ];
        }
    };
}

const fn c_name(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a function's name ends with its only NUL"),
    }
}

hooks! {
    Open = open;
    Open64 = open64;
    Openat = openat;
    Openat64 = openat64;
    Creat = creat;
    Creat64 = creat64;
    Close = close;
    Read = read;
    Pread = pread;
    Pread64 = pread64;
    Readv = readv;
    Preadv = preadv;
    Preadv64 = preadv64;
    Preadv2 = preadv2;
    Preadv64v2 = preadv64v2;
    Write = write;
    Pwrite = pwrite;
    Pwrite64 = pwrite64;
    Writev = writev;
    Pwritev = pwritev;
    Pwritev64 = pwritev64;
    Pwritev2 = pwritev2;
    Pwritev64v2 = pwritev64v2;
    Send = send;
    Sendto = sendto;
    Sendmsg = sendmsg;
    Sendmmsg = sendmmsg;
    Recv = recv;
    Recvfrom = recvfrom;
    Recvmsg = recvmsg;
    Recvmmsg = recvmmsg;
    Sendfile = sendfile;
    Sendfile64 = sendfile64;
    Splice = splice;
    CopyFileRange = copy_file_range;
    Fork = fork;
    Vfork = vfork;
    Execve = execve;
    Execv = execv;
    Execvp = execvp;
    Execvpe = execvpe;
    Execl = execl;
    Execlp = execlp;
    Execle = execle;
    Fexecve = fexecve;
    Execveat = execveat;
    PosixSpawn = posix_spawn;
    PosixSpawnp = posix_spawnp;
    ExitNow = _exit;
    ExitNowC99 = _Exit;
    QuickExit = quick_exit;
    Unshare = unshare;
    Setns = setns;
    Setuid = setuid;
    Setgid = setgid;
    Seteuid = seteuid;
    Setegid = setegid;
    Setreuid = setreuid;
    Setregid = setregid;
    Setresuid = setresuid;
    Setresgid = setresgid;
    Setgroups = setgroups;
    Initgroups = initgroups;
    Setfsuid = setfsuid;
    Setfsgid = setfsgid;
    Capset = capset;
    Prctl = prctl;
    Syscall = syscall;
    Waitpid = waitpid;
    Wait4 = wait4;
    Waitid = waitid;
    LibcStartMain = __libc_start_main;
    PthreadSetname = pthread_setname_np;
    Sigaction = sigaction;
    Signal = signal;
    Mmap = mmap;
    Mmap64 = mmap64;
    Munmap = munmap;
    Mprotect = mprotect;
    PkeyMprotect = pkey_mprotect;
    Mremap = mremap;
    Shmat = shmat;
    Dlclose = dlclose;
}

/// Where every stub of a counting process arrives, with the hook's index in r11.
#[unsafe(naked)]
unsafe extern "C" fn enter() {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbp, 0",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "sub rsp, 112",
        "mov [rsp], rdi",
        "mov [rsp + 8], rsi",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], rcx",
        "mov [rsp + 32], r8",
        "mov [rsp + 40], r9",
        "mov [rsp + 48], rax",
        "mov [rsp + 56], r11",
        "lea r10, [rip + {next}]",
        "mov r10, [r10 + 8 * r11]",
        "mov [rsp + 64], r10",
        "mov qword ptr [rsp + 72], -1",
        "mov rdi, rsp",
        "lea rsi, [rip + {before}]",
        "call {guarded}",
        "cmp rax, 2",
        "je 3f",
        "mov r11, [rsp + 64]",
        "test r11, r11",
        "jz 3f",
        "mov rdi, [rsp]",
        "mov rsi, [rsp + 8]",
        "mov rdx, [rsp + 16]",
        "mov rcx, [rsp + 24]",
        "mov r8, [rsp + 32]",
        "mov r9, [rsp + 40]",
        "mov r10, rax",
        "mov rax, [rsp + 48]",
        "cmp r10, 3",
        "je 6f",
        "cmp r10, 1",
        "jne 4f",
        "call r11",
        "mov [rsp + 72], rax",
        "mov rdi, rsp",
        "lea rsi, [rip + {after}]",
        "call {guarded}",
        // 0, a thread to be followed from here on, or -1 after a panic.
        "lea rdi, [rax + 1]",
        "cmp rdi, 1",
        "ja 5f",
        "3:",
        "mov rax, [rsp + 72]",
        "leave",
        ".cfi_remember_state",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_restore_state",
        "4:",
        ".cfi_remember_state",
        "leave",
        ".cfi_def_cfa rsp, 8",
        "jmp r11",
        ".cfi_restore_state",
        "5:",
        ".cfi_remember_state",
        "mov rdi, rax",
        "mov rax, [rsp + 72]",
        "leave",
        ".cfi_def_cfa rsp, 8",
        "jmp {follow}",
        ".cfi_restore_state",
        "6:",
        "leave",
        ".cfi_def_cfa rsp, 8",
        "push r11",
        ".cfi_adjust_cfa_offset 8",
        "jmp {follow}",
        ".cfi_endproc",
        next = sym NEXT,
        before = sym before,
        after = sym after,
        guarded = sym guarded::guarded,
        follow = sym tracer::enter_return,
    )
}

/// Looks for the next definitions of all hooks in one walk over the loaded objects.
pub fn resolve_all() {
    const ERRNO_LOCATION_NAME: Name<'_> = Name::new(c"__errno_location");
    link::each_other_object(&mut |symbols| {
        let mut missing = false;
        if ERRNO_LOCATION.load(Ordering::Relaxed) == 0
            && let Some(address) = symbols.address(ERRNO_LOCATION_NAME)
        {
            ERRNO_LOCATION.store(address, Ordering::Relaxed);
        }
        for (next, name) in NEXT.iter().zip(&NAMES) {
            if next.load(Ordering::Relaxed) == 0 {
                match symbols.address(*name) {
                    Some(address) => next.store(address, Ordering::Relaxed),
                    None => missing = true,
                }
            }
        }
        !missing
    });
}

/// The next definition of the hook whose stub is at this address; for an engine that redirects calls.
pub fn next_of_stub(address: usize) -> Option<usize> {
    let index = stubs::ADDRESSES.iter().position(|&stub| stub as usize == address)?;
    match NEXT[index].load(Ordering::Relaxed) {
        0 => None,
        next => Some(next),
    }
}

/// Whether a JVM's thread must come to this stub although it is followed: it has the agent inserted, or tells of a
/// task.
pub fn serves_bridge(address: usize) -> bool {
    [Hook::PthreadSetname, Hook::LibcStartMain]
        .iter()
        .any(|&hook| stubs::ADDRESSES[hook as usize] as usize == address)
}

unsafe extern "C" fn before(frame: usize) -> usize {
    // SAFETY: `enter` passes its own frame.
    let frame = unsafe { &mut *(frame as *mut Frame) };
    if frame.next == 0 {
        resolve_all();
        frame.next = NEXT[frame.hook].load(Ordering::Relaxed);
    }
    if frame.next == 0 {
        // The function does not exist in this process without us: a program that calls it was misled by
        // our definition.
        set_errno(ENOSYS);
    }
    // The stub also comes here in passive processes, for a function that was not looked for yet.
    if !ACTIVE.load(Ordering::Relaxed) {
        return Decision::PassThrough as usize;
    }
    calls::before(ALL[frame.hook], frame) as usize
}

unsafe extern "C" fn after(frame: usize) -> usize {
    // SAFETY: `enter` passes its own frame.
    let frame = unsafe { &mut *(frame as *mut Frame) };
    calls::after(ALL[frame.hook], frame) as usize
}

const ENOSYS: i32 = 38;

/// libc's `errno` of this thread; a pointer to it comes from `__errno_location`.
fn errno_location() -> Option<*mut i32> {
    let function = ERRNO_LOCATION.load(Ordering::Relaxed);
    // SAFETY: libc's own function, which returns the address of a word in this thread's TLS.
    (function != 0).then(|| unsafe {
        let function: extern "C" fn() -> *mut i32 = core::mem::transmute(function);
        function()
    })
}

/// The error of the call that has just failed.
fn errno() -> i64 {
    const EIO: i64 = 5;
    // SAFETY: the thread's own errno.
    errno_location().map_or(EIO, |errno| i64::from(unsafe { *errno })).max(1)
}

/// Leaves the error of a call that failed, as libc does.
fn set_errno(value: i32) {
    if let Some(errno) = errno_location() {
        // SAFETY: the thread's own errno.
        unsafe { *errno = value };
    }
}
