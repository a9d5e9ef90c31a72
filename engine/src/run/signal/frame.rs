//! Signal frames that the engine builds itself, where a filter forbids the calls that would have the kernel do it.
//!
//! # Design
//! A postponed signal is queued anew and the application's mask given back, by rt_tgsigqueueinfo and rt_sigprocmask. A program
//! under a filter makes neither, as a rule; but one that handles signals must allow rt_sigreturn. So the frame is laid out as
//! the kernel lays it out (`arch/x86/kernel/signal_64.c`), from the thread's block and the vector state that is in the CPU, and the
//! mask is set by an rt_sigreturn to a small frame on the engine's own stack.

use core::arch::asm;
use core::arch::x86_64::_fxsave64;

use crate::isa::x86_64::context::{Stage, ThreadState};
use crate::isa::x86_64::registers::gpr;
use crate::isa::x86_64::signal_frame::{
    AlternateStack, CONTEXT, CONTEXT_FLAGS, CONTEXT_RIP, Info, Software, UserContext,
};
use crate::os::seccomp::{self, optional};
use crate::os::syscall::nr;
use crate::run::engine::Engine;
use crate::run::stubs::{gadget, restorer};
use crate::run::syscalls::enter_frame;

/// `struct rt_sigframe`.
#[repr(C)]
struct Frame {
    return_address: u64,
    context: UserContext,
    info: Info,
}

/// Below the stack pointer, what belongs to the interrupted function (System V ABI, "red zone").
const RED_ZONE: u64 = 128;
/// The segments of a 64-bit process: CS, and SS in the last of four 16-bit fields.
const SEGMENTS: i64 = 0x33 | 0x2b << 48;
const CONTEXT_SEGMENTS: usize = 18;
/// `UC_FP_XSTATE`, `UC_SIGCONTEXT_SS`, `UC_STRICT_RESTORE_SS`.
const EXTENDED: u64 = 1;
const WITH_SEGMENTS: u64 = 2 | 4;
/// Where FXSAVE leaves room for software, and what the kernel writes there and behind the area (`struct _fpx_sw_bytes`).
const SOFTWARE: u64 = 464;
const MAGIC_1: u32 = 0x4650_5853;
const MAGIC_2: u32 = 0x4650_5845;
const LEGACY_BYTES: u64 = 512;
const HEADER_BYTES: usize = 64;
const INITIAL_MXCSR: u32 = 0x1f80;
const MXCSR_AT: u64 = 24;
const XMM_AT: u64 = 160;
const SS_DISABLE: u32 = 2;

/// The same, of a frame that the kernel has made.
///
/// # Safety
/// `fpstate` must be the kernel's, or 0.
pub(crate) unsafe fn software_of(fpstate: u64) -> Software {
    let none = [0; 6];
    if fpstate == 0 {
        return none;
    }
    // SAFETY: inside the FXSAVE area.
    let found = unsafe { ((fpstate + SOFTWARE) as *const Software).read_unaligned() };
    if found[0] as u32 == MAGIC_1 { found } else { none }
}

/// Saves the vector state below `end`, as the kernel does; the address of the area.
///
/// # Safety
/// There must be room below `end`.
unsafe fn save_state(thread: &ThreadState, end: u64, software: &Software) -> u64 {
    // Magic number and size with the number behind; components; size.
    let [magic, components, bytes, ..] = *software;
    let is_extended = magic != 0;
    let bytes = if is_extended { u64::from(bytes as u32) } else { LEGACY_BYTES };
    let at = (end - bytes - size_of::<u32>() as u64) & !63;
    // SAFETY: the caller vouches for the room; the area is aligned to 64 bytes.
    unsafe {
        if is_extended {
            core::ptr::write_bytes((at + LEGACY_BYTES) as *mut u8, 0, HEADER_BYTES);
            asm!("xsave64 [{at}]", at = in(reg) at, in("eax") components as u32,
                in("edx") (components >> 32) as u32, options(nostack));
            ((at + SOFTWARE) as *mut Software).write_unaligned(*software);
            ((at + bytes) as *mut u32).write_unaligned(MAGIC_2);
            // What the block holds is in use, whatever the CPU says of the registers now.
            *((at + LEGACY_BYTES) as *mut u64) |= 2;
        } else {
            _fxsave64(at as *mut u8);
        }
        ((at + MXCSR_AT) as *mut u32).write(thread.mxcsr);
        core::ptr::copy_nonoverlapping(
            thread.xmm.as_ptr().cast::<u8>(),
            (at + XMM_AT) as *mut u8,
            256,
        );
    }
    at
}

/// The state that a handler begins with.
fn reset_state(components: u64) {
    /// The protection keys of memory stay.
    const PKRU: u64 = 1 << 9;
    #[repr(C, align(64))]
    struct Area([u8; LEGACY_BYTES as usize + HEADER_BYTES]);
    let mut area = Area([0; LEGACY_BYTES as usize + HEADER_BYTES]);
    area.0[MXCSR_AT as usize..][..4].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
    match components & !PKRU {
        0 => {
            // SAFETY: no operands; the engine uses no x87 register.
            unsafe { asm!("fninit", options(nomem, nostack)) }
        }
        components => {
            // SAFETY: a header of zeros asks for the initial configuration; nothing behind it is read. The engine keeps nothing
            // in vector registers across this.
            unsafe {
                asm!("xrstor64 [{at}]", at = in(reg) area.0.as_ptr(), in("eax") components as u32,
                    in("edx") (components >> 32) as u32, options(nostack),
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                    out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _);
            }
        }
    }
}

impl Engine {
    /// Whether a postponed signal can be given to the kernel once more.
    pub(crate) fn may_queue(&self) -> bool {
        [nr::RT_TGSIGQUEUEINFO, nr::RT_SIGPROCMASK]
            .into_iter()
            .all(|call| seccomp::allows(call, &[0; 6]))
    }

    /// The thread, whose state is whole, stands at the beginning of a handler for this signal now; the mask that it
    /// begins with. The application has a handler.
    pub(crate) fn enter_handler(
        &self,
        thread: &mut ThreadState,
        signal: i32,
        info: &Info,
        software: &Software,
        mask: u64,
    ) -> u64 {
        let action = self.actions.entry(signal);
        let stack = thread.alternate_stack;
        let own = thread.gpr[gpr::RSP];
        let is_on_it = own.wrapping_sub(stack.start) < stack.size;
        let to_alternate =
            action.on_stack && stack.size != 0 && stack.flags & SS_DISABLE == 0 && !is_on_it;
        let end = if to_alternate { stack.start + stack.size } else { own - RED_ZONE };
        // SAFETY: the application's stack, where the kernel would put the frame too: where there is no room the application
        // dies of it natively.
        let (frame, area) = unsafe {
            let area = save_state(thread, end, software);
            let at = ((area - size_of::<Frame>() as u64) & !15) - 8;
            core::ptr::write_bytes(at as *mut u8, 0, size_of::<Frame>());
            (&mut *(at as *mut Frame), area)
        };
        frame.return_address = action.restorer.unwrap_or(restorer());
        frame.info = *info;
        let context = &mut frame.context;
        context.flags = WITH_SEGMENTS | if software[0] != 0 { EXTENDED } else { 0 };
        // As the kernel saves it, for the handler's return to restore.
        context.stack = match thread.disarmed {
            true => AlternateStack { start: 0, flags: SS_DISABLE, padding: 0, size: 0 },
            false if to_alternate => AlternateStack { flags: 0, ..stack },
            false => stack,
        };
        for (register, &at) in CONTEXT.iter().enumerate() {
            context.registers[at] = thread.gpr[register] as i64;
        }
        context.registers[CONTEXT_RIP] = thread.pc as i64;
        context.registers[CONTEXT_FLAGS] = thread.rflags as i64;
        context.registers[CONTEXT_SEGMENTS] = SEGMENTS;
        context.fpstate = area;
        context.mask = mask;
        self.show_x87_pointer_in(area);
        if to_alternate {
            let none = AlternateStack { start: 0, flags: SS_DISABLE, padding: 0, size: 0 };
            // SAFETY: our own structure. The kernel disarms it where it delivers.
            unsafe { optional(nr::SIGALTSTACK, [&raw const none as u64, 0, 0, 0, 0, 0]) };
            thread.disarmed = true;
        }
        reset_state(software[1]);
        self.begin_handler(thread, signal, frame);
        self.keep_one_shot_off(signal);
        let mask = self.mask_of_handler(thread, signal, mask);
        thread.set_blocked(mask);
        mask
    }

    fn begin_handler(&self, thread: &mut ThreadState, signal: i32, frame: &mut Frame) {
        let flags = frame.context.registers[CONTEXT_FLAGS] as u64;
        let (info, context) = (&raw const frame.info as u64, &raw const frame.context as u64);
        self.stand_at_handler(thread, signal, [info, context], &raw const *frame as u64, flags);
    }

    /// Gives the kernel a mask by an rt_sigreturn; the vector state is the initial one afterwards.
    pub(crate) fn set_mask_by_return(&self, thread: &mut ThreadState, mask: u64) {
        let mut frame = Frame { return_address: 0, context: UserContext::empty(), info: [0; 16] };
        let context = &mut frame.context;
        context.flags = WITH_SEGMENTS;
        context.stack = match thread.disarmed {
            true => AlternateStack { start: 0, flags: SS_DISABLE, padding: 0, size: 0 },
            false => thread.alternate_stack,
        };
        context.registers[CONTEXT_RIP] = gadget().unblocked as i64;
        context.registers[CONTEXT[gpr::RSP]] = thread.gpr[gpr::RSP] as i64;
        context.registers[CONTEXT_FLAGS] = 0x202;
        context.registers[CONTEXT_SEGMENTS] = SEGMENTS;
        context.mask = mask;
        thread.in_syscall = Stage::Leaving;
        // SAFETY: a whole frame that leads back to the caller.
        unsafe { enter_frame(&raw mut frame.return_address, thread) };
        thread.in_syscall = Stage::None;
    }

    /// The kernel takes a one-shot handler off when it delivers.
    fn keep_one_shot_off(&self, signal: i32) {
        const SA_RESETHAND: u64 = 0x8000_0000;
        let cell = self.actions.entry(signal);
        if cell.flags & SA_RESETHAND != 0 {
            self.actions.take_off(signal);
        }
    }
}

const _: () = assert!(size_of::<UserContext>() == 304 && size_of::<Frame>() == 440);
