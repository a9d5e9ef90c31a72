//! One thread's whole state, set and taken by hand: runs a sequence natively, stepped or translated.
//!
//! # Design
//! Code lies in a file-backed mapping that is not writable, so it counts as stable; the same file is mapped shared and
//! executable once more (code that may change), and writable for us. Data and stack are one window, mapped a second
//! time out of the code cache's reach. All addresses are fixed: state is stored and loaded without a free register.
//!
//! A sequence ends with a jump to a trampoline whose first instruction carries a GS prefix. The engine refuses it, so
//! it releases the thread right there, with nothing executed in between. A handler begins the same way.

use std::arch::global_asm;

use engine::{Engine, METRICS, ThreadContext, Tracer};

use crate::host::HOST;
use crate::reference::Reference;
use crate::xsave::{self, XSAVE_BYTES};

/// Where the harness keeps the state.
const AREA: usize = 0x1000_0000;
/// Code that counts as stable.
pub const CODE: u64 = 0x7000_0000;
/// The same code in a shared mapping: it may change at any time.
pub const CHANGING: u64 = 0x7200_0000;
/// The same two once more, in the middle of a reservation that leaves no place for an arena within reach.
pub const FAR_CODE: u64 = 0x2000_0000_0000;
/// As [`CHANGING`], there.
pub const FAR_CHANGING: u64 = FAR_CODE + 0x200_0000;
/// The window of data and stack, there.
pub const FAR_DATA: u64 = FAR_CODE + 0x400_0000;
/// Bytes of the reservation on either side.
const RESERVED: u64 = 3 << 30;
const CODE_BYTES: usize = 16 << 20;
/// All mappings of the code; those that may change have the right to write.
pub const CODES: [u64; 4] = [CODE, CHANGING, FAR_CODE, FAR_CHANGING];
/// Bytes of one sequence's place.
pub const SLOT: u64 = 1024;
/// The window of data and stack.
pub const DATA: u64 = 0x7400_0000;
/// The window once more, within reach of the code but not of the cache.
pub const FAR: u64 = 0xe800_0000;
/// Bytes of the window.
pub const WINDOW: usize = 16 << 10;

#[repr(C, align(64))]
struct Area {
    gpr: [u64; 16],
    fs: u64,
    host_rsp: u64,
    host_fs: u64,
    mask: u64,
    out_fs: u64,
    out_flags: u64,
    again: u64,
    padding: u64,
    out_gpr: [u64; 16],
    xsave: [u8; 4096],
    out_xsave: [u8; 4096],
}

/// What a run starts with.
#[derive(Clone)]
pub struct Start {
    /// Registers in hardware numbering.
    pub gpr: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
    /// FS base.
    pub fs: u64,
    /// The standard XSAVE format.
    pub xsave: [u8; XSAVE_BYTES],
    /// Data and stack.
    pub window: Box<[u8; WINDOW]>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fault {
    /// 0: it reached its end.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// PC that the handler sees.
    pub pc: u64,
}

/// What a run leaves.
#[derive(Clone)]
pub struct Outcome {
    /// Registers in hardware numbering.
    pub gpr: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
    /// FS base.
    pub fs: u64,
    /// The standard XSAVE format.
    pub xsave: [u8; XSAVE_BYTES],
    /// How it ended.
    pub fault: Fault,
    /// Data and stack.
    pub window: Box<[u8; WINDOW]>,
}

impl Outcome {
    /// Nothing yet.
    pub fn new() -> Outcome {
        Outcome {
            gpr: [0; 16],
            flags: 0,
            fs: 0,
            xsave: [0; XSAVE_BYTES],
            fault: Fault::default(),
            window: Box::new([0; WINDOW]),
        }
    }
}

/// How a sequence is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the CPU.
    Native,
    /// By the CPU with the trap flag set, each instruction shown to the reference.
    Stepped,
    /// By the engine.
    Translated,
}

/// The mappings, the engine, the handler.
pub struct Machine {
    engine: &'static Engine,
    writable: *mut u8,
    last: [u64; METRICS],
}

/// What the handler has to know; it finds this by address.
pub struct Handling {
    /// The stepper's user, while a stepped run goes on.
    pub reference: Option<Reference>,
    outcome: Outcome,
}

static mut HANDLING: Option<Box<Handling>> = None;

/// The handler's state.
///
/// The process has one thread, and the handler runs only while tested code does.
#[allow(static_mut_refs)]
fn handling() -> &'static mut Handling {
    // SAFETY: made by Machine::new before anything else; see above.
    unsafe { HANDLING.as_mut().expect("Machine::new was called") }
}

fn area() -> &'static mut Area {
    // SAFETY: mapped by Machine::new; one thread.
    unsafe { &mut *(AREA as *mut Area) }
}

global_asm!(
    ".globl fuzz_native", ".globl fuzz_translated", ".globl fuzz_end", ".globl fuzz_give_up",
    ".globl fuzz_handler", ".globl fuzz_restorer",
    ".macro fuzz_load",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov ds:[{HOST_RSP}], rsp",
    "rdfsbase rax", "mov ds:[{HOST_FS}], rax",
    "mov rax, ds:[{FS}]", "wrfsbase rax",
    "mov eax, ds:[{MASK}]", "xor edx, edx", "xrstor64 ds:[{XSAVE}]",
    "mov rax, ds:[{GPR}]", "mov rcx, ds:[{GPR}+8]", "mov rdx, ds:[{GPR}+16]", "mov rbx, ds:[{GPR}+24]",
    "mov rsp, ds:[{GPR}+32]", "mov rbp, ds:[{GPR}+40]", "mov rsi, ds:[{GPR}+48]", "mov rdi, ds:[{GPR}+56]",
    "mov r8, ds:[{GPR}+64]", "mov r9, ds:[{GPR}+72]", "mov r10, ds:[{GPR}+80]", "mov r11, ds:[{GPR}+88]",
    "mov r12, ds:[{GPR}+96]", "mov r13, ds:[{GPR}+104]", "mov r14, ds:[{GPR}+112]", "mov r15, ds:[{GPR}+120]",
    "popfq",
    ".endm",
    "fuzz_native:", "fuzz_load", "ret",
    "fuzz_translated:", "fuzz_load", "jmp {enter}",
    "fuzz_end:",
    "mov ds:[{OUT}], rax", "mov ds:[{OUT}+8], rcx", "mov ds:[{OUT}+16], rdx", "mov ds:[{OUT}+24], rbx",
    "mov ds:[{OUT}+32], rsp", "mov ds:[{OUT}+40], rbp", "mov ds:[{OUT}+48], rsi", "mov ds:[{OUT}+56], rdi",
    "mov ds:[{OUT}+64], r8", "mov ds:[{OUT}+72], r9", "mov ds:[{OUT}+80], r10", "mov ds:[{OUT}+88], r11",
    "mov ds:[{OUT}+96], r12", "mov ds:[{OUT}+104], r13", "mov ds:[{OUT}+112], r14", "mov ds:[{OUT}+120], r15",
    "mov rsp, ds:[{HOST_RSP}]",
    "pushfq", "pop ds:[{OUT_FLAGS}]", "push 0x202", "popfq",
    "rdfsbase rax", "mov ds:[{OUT_FS}], rax",
    "mov rax, ds:[{HOST_FS}]", "wrfsbase rax",
    "mov eax, ds:[{MASK}]", "xor edx, edx", "xsave64 ds:[{OUT_XSAVE}]",
    "xor eax, eax",
    "2:",
    "fninit", "push 0x1f80", "ldmxcsr [rsp]", "pop rcx", "vzeroupper",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    // From the handler, which does not return.
    "fuzz_give_up:",
    "mov rsp, ds:[{HOST_RSP}]",
    "mov eax, 1",
    "jmp 2b",
    "fuzz_handler:",
    "nop dword ptr gs:[rax]",
    "rdfsbase rax", "mov ds:[{OUT_FS}], rax",
    "mov rax, ds:[{HOST_FS}]", "wrfsbase rax",
    "sub rsp, 8", "call {on_signal}", "add rsp, 8",
    "mov rax, ds:[{OUT_FS}]", "wrfsbase rax",
    "ret",
    "fuzz_restorer:",
    "mov eax, 15", "syscall",
    HOST_RSP = const AREA + std::mem::offset_of!(Area, host_rsp), HOST_FS = const AREA + std::mem::offset_of!(Area, host_fs),
    FS = const AREA + std::mem::offset_of!(Area, fs), MASK = const AREA + std::mem::offset_of!(Area, mask),
    XSAVE = const AREA + std::mem::offset_of!(Area, xsave), GPR = const AREA,
    OUT = const AREA + std::mem::offset_of!(Area, out_gpr), OUT_FLAGS = const AREA + std::mem::offset_of!(Area, out_flags),
    OUT_FS = const AREA + std::mem::offset_of!(Area, out_fs), OUT_XSAVE = const AREA + std::mem::offset_of!(Area, out_xsave),
    enter = sym engine::engine_enter, on_signal = sym on_signal,
);

unsafe extern "C" {
    fn fuzz_native() -> u32;
    fn fuzz_translated() -> u32;
    fn fuzz_end();
    fn fuzz_give_up() -> !;
    fn fuzz_handler();
    fn fuzz_restorer();
}

/// The handler's first address: where the engine is expected to release the thread.
pub fn handler() -> u64 {
    fuzz_handler as *const () as u64
}

/// All exceptions masked.
const INITIAL_MXCSR: u32 = 0x1f80;
const ALTERNATE_STACK: usize = 64 << 10;
const GPR_OF_CONTEXT: [usize; 16] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: the kernel's frame.
    let (info, context) = unsafe { (&*info, &mut *context) };
    let registers = &mut context.uc_mcontext.gregs;
    let gpr = GPR_OF_CONTEXT.map(|at| registers[at] as u64);
    let pc = registers[libc::REG_RIP as usize] as u64;
    let xsave = context.uc_mcontext.fpregs as *const u8;
    const TRAP_TRACE: i32 = 2;
    let handling = handling();
    if let Some(reference) = &mut handling.reference
        && signal == libc::SIGTRAP
        && info.si_code == TRAP_TRACE
    {
        // SAFETY: the kernel saves the standard format, with all components that the CPU has.
        let state = unsafe { std::slice::from_raw_parts(xsave, xsave::layout().bytes) };
        if !reference.at(pc, &gpr, state) {
            registers[libc::REG_EFL as usize] &= !(1 << 8);
        }
        return;
    }
    let outcome = &mut handling.outcome;
    outcome.gpr = gpr;
    outcome.flags = registers[libc::REG_EFL as usize] as u64;
    // SAFETY: as above.
    unsafe {
        let bytes = xsave::layout().bytes;
        std::ptr::copy_nonoverlapping(xsave, outcome.xsave.as_mut_ptr(), bytes);
    }
    // SAFETY: every signal of ours has an address.
    let address = unsafe { info.si_addr() } as u64;
    outcome.fault = Fault { signal, code: info.si_code, address, pc };
    // SAFETY: back to Machine::run; the frames in between are given up.
    unsafe { fuzz_give_up() }
}

fn map(at: u64, bytes: usize, protection: i32, flags: i32, file: i32) -> *mut u8 {
    // SAFETY: a fresh mapping at an address that nobody uses; the kernel refuses otherwise.
    let got = unsafe {
        let flags = flags | if at == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
        libc::mmap(at as *mut libc::c_void, bytes, protection, flags, file, 0)
    };
    assert_ne!(got, libc::MAP_FAILED, "mmap {at:#x}: {}", std::io::Error::last_os_error());
    got.cast()
}

fn memory_file(name: &std::ffi::CStr, bytes: usize) -> i32 {
    // SAFETY: plain calls.
    let file = unsafe { libc::memfd_create(name.as_ptr(), 0) };
    assert!(file >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: our own descriptor.
    let sized = unsafe { libc::ftruncate(file, bytes as i64) };
    assert_eq!(sized, 0, "ftruncate: {}", std::io::Error::last_os_error());
    file
}

/// RDPID, RDTSCP and CPUID tell the CPU's number.
fn stay_on_one_cpu() {
    // SAFETY: plain calls on a local set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0);
    }
}

impl Machine {
    /// Maps everything and sets the handlers through followed system calls, so that the engine knows of them.
    pub fn new(memory: usize) -> Machine {
        stay_on_one_cpu();
        const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
        const RX: i32 = libc::PROT_READ | libc::PROT_EXEC;
        map(AREA as u64, size_of::<Area>(), RW, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        let code = memory_file(c"code", CODE_BYTES);
        let writable = map(0, CODE_BYTES, RW, libc::MAP_SHARED, code);
        const RESERVATION: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let reservation = FAR_CODE - RESERVED;
        map(reservation, 2 * RESERVED as usize, libc::PROT_NONE, RESERVATION, -1);
        // SAFETY: the reservation is ours, and nobody uses it.
        unsafe {
            libc::munmap(FAR_CODE as *mut libc::c_void, (FAR_DATA - FAR_CODE) as usize + WINDOW)
        };
        for (at, changing_at) in [(CODE, CHANGING), (FAR_CODE, FAR_CHANGING)] {
            map(at, CODE_BYTES, RX, libc::MAP_PRIVATE, code);
            map(changing_at, CODE_BYTES, RX | libc::PROT_WRITE, libc::MAP_SHARED, code);
        }
        // No arena finds a place between them either.
        for end in [FAR_CODE, FAR_CHANGING].map(|at| at + CODE_BYTES as u64) {
            let gap = (FAR_CHANGING - FAR_CODE) as usize - CODE_BYTES;
            map(end, gap, libc::PROT_NONE, RESERVATION, -1);
        }
        let data = memory_file(c"data", WINDOW);
        map(FAR_DATA, WINDOW, RW, libc::MAP_SHARED, data);
        map(DATA, WINDOW, RW, libc::MAP_SHARED, data);
        map(FAR, WINDOW, RW, libc::MAP_SHARED, data);
        area().mask = xsave::layout().present;
        let engine = Engine::new(&HOST, engine::Limits { memory, from_start: false })
            .expect("memory for the engine");
        #[allow(static_mut_refs)]
        // SAFETY: one thread.
        unsafe {
            HANDLING = Some(Box::new(Handling { reference: None, outcome: Outcome::new() }));
        }
        let mut machine =
            Machine { engine: Box::leak(Box::new(engine)), writable, last: [0; METRICS] };
        // nop dword gs:[rax]; jmp [rip]; address. Then: syscall; jmp to the trampoline.
        let mut first = vec![0x65, 0x0f, 0x1f, 0x00, 0xff, 0x25, 0, 0, 0, 0];
        first.extend((fuzz_end as *const () as u64).to_le_bytes());
        machine.write(0, &first);
        machine.write(64, &[0x0f, 0x05, 0xeb, 0xbc]);
        machine.set_handlers();
        machine.counted();
        machine
    }

    fn set_handlers(&mut self) {
        let action: [u64; 4] = [
            handler(),
            (libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK | 0x0400_0000) as u64,
            fuzz_restorer as *const () as u64,
            0,
        ];
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
            let call = libc::SYS_rt_sigaction as u64;
            assert_eq!(self.system_call(call, [signal as u64, &raw const action as u64, 0, 8]), 0);
        }
        self.arm_alternate_stack();
    }

    fn arm_alternate_stack(&mut self) {
        static STACK: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let at = *STACK.get_or_init(|| {
            engine::sys::map_anonymous(0, ALTERNATE_STACK, 3).expect("memory for a stack")
        });
        let stack: [u64; 3] = [at as u64, 0, ALTERNATE_STACK as u64];
        let call = libc::SYS_sigaltstack as u64;
        assert_eq!(self.system_call(call, [&raw const stack as u64, 0, 0, 0]), 0);
    }

    /// Makes a system call as followed code.
    pub fn system_call(&mut self, number: u64, arguments: [u64; 4]) -> i64 {
        let area = area();
        area.gpr = [0; 16];
        area.gpr[0] = number;
        [area.gpr[7], area.gpr[6], area.gpr[2], area.gpr[10]] = arguments;
        area.gpr[4] = DATA + WINDOW as u64 / 2;
        // SAFETY: reads a register.
        unsafe { std::arch::asm!("rdfsbase {}", out(reg) area.fs, options(nomem, nostack)) };
        area.xsave.fill(0);
        area.xsave[24..28].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
        assert_eq!(self.go(Mode::Translated, CODE + 64, 0x202), 0, "a system call faulted");
        area.out_gpr[0] as i64
    }

    /// Puts a sequence's code where both mappings of it see it.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset as usize + bytes.len() <= CODE_BYTES);
        // SAFETY: inside the mapping.
        unsafe {
            let to = self.writable.add(offset as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// The engine forgets all sequences: their places are used again.
    pub fn forget_code(&mut self) {
        for code in CODES {
            let rights = (libc::PROT_READ | libc::PROT_EXEC) as u64
                | if [CHANGING, FAR_CHANGING].contains(&code) { 2 } else { 0 };
            let call = libc::SYS_mprotect as u64;
            assert_eq!(self.system_call(call, [code, CODE_BYTES as u64, rights, 0]), 0);
        }
        self.counted();
    }

    /// Address of the count of repetitions left, outside of the window.
    pub fn again() -> u64 {
        (AREA + std::mem::offset_of!(Area, again)) as u64
    }

    /// Number of sequences that have a place at the same time.
    pub fn slots() -> u64 {
        CODE_BYTES as u64 / SLOT - 1
    }

    /// The window.
    pub fn window() -> &'static mut [u8; WINDOW] {
        // SAFETY: mapped by `new`; one thread.
        unsafe { &mut *(DATA as *mut [u8; WINDOW]) }
    }

    fn go(&mut self, mode: Mode, pc: u64, flags: u64) -> u32 {
        let area = area();
        let rsp = area.gpr[4] - 16;
        // SAFETY: the start's stack pointer lies in the window.
        unsafe {
            *(rsp as *mut u64) = flags;
            *((rsp + 8) as *mut u64) = pc;
        }
        area.gpr[4] = rsp;
        // SAFETY: all state that the code may change is saved; the code ends at fuzz_end or in the handler.
        unsafe {
            if mode != Mode::Translated {
                return fuzz_native();
            }
            let _thread: *mut ThreadContext = self.engine.attach().expect("a thread to follow");
            fuzz_translated()
        }
    }

    /// Runs the code at `pc` from a state; returns what the engine counted.
    pub fn run(
        &mut self,
        mode: Mode,
        pc: u64,
        start: &Start,
        outcome: &mut Outcome,
    ) -> [u64; METRICS] {
        let area = area();
        area.again = 2;
        area.gpr = start.gpr;
        area.fs = start.fs;
        area.xsave[..XSAVE_BYTES].copy_from_slice(&start.xsave);
        Machine::window().copy_from_slice(&start.window[..]);
        let trap = if mode == Mode::Stepped { 1 << 8 } else { 0 };
        let faulted = self.go(mode, pc, start.flags | trap);
        if faulted == 0 {
            outcome.gpr = area.out_gpr;
            outcome.flags = area.out_flags;
            outcome.xsave.copy_from_slice(&area.out_xsave[..XSAVE_BYTES]);
            outcome.fault = Fault::default();
        } else {
            let seen = &handling().outcome;
            outcome.gpr = seen.gpr;
            outcome.flags = seen.flags;
            outcome.xsave = seen.xsave;
            outcome.fault = seen.fault;
        }
        outcome.fs = area.out_fs;
        outcome.window.copy_from_slice(&Machine::window()[..]);
        xsave::layout().normalise(&mut outcome.xsave);
        let counted = if mode == Mode::Translated { self.counted() } else { [0; METRICS] };
        if faulted != 0 {
            self.arm_alternate_stack();
            self.counted();
        }
        counted
    }

    /// Runs the code stepped and returns what the reference makes of it.
    pub fn step(
        &mut self,
        pc: u64,
        start: &Start,
        outcome: &mut Outcome,
        reference: Reference,
    ) -> Reference {
        handling().reference = Some(reference);
        self.run(Mode::Stepped, pc, start, outcome);
        let mut reference = handling().reference.take().expect("put there above");
        if outcome.fault.signal != 0 {
            reference.faulted(&outcome.fault, &outcome.gpr, &outcome.xsave);
        }
        reference
    }

    /// What the engine counted since the last call.
    fn counted(&mut self) -> [u64; METRICS] {
        let now = <Engine as Tracer>::current().map_or([0; METRICS], ThreadContext::totals);
        let before = std::mem::replace(&mut self.last, now);
        std::array::from_fn(|m| now[m].wrapping_sub(before[m]))
    }
}
