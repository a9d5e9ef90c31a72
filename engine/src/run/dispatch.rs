//! The dispatcher: the way between the code cache and the engine, and between native code and the cache.
//!
//! # Design
//! Translated code runs on the application's registers and stack. Where it cannot go on by itself it stores
//! which exit it took and jumps to `engine_exit`, which saves the application's state in the thread's block
//! (RSP first, so nothing is ever written to the application's stack), switches to the engine's own stack and
//! calls [`engine_dispatch`]. Only xmm0-15 and MXCSR are saved: the engine is built for baseline x86-64 and
//! touches nothing wider.

use core::arch::global_asm;

use crate::cache::fragment::ExitKind;
use crate::isa::x86_64::context::{ThreadState, disp, spill};
use crate::isa::x86_64::exits::{
    EXIT_ENTER, EXIT_INDIRECT, EXIT_RETURN, EXIT_RETURNED, way_of_exit,
};
use crate::isa::x86_64::registers::gpr;
use crate::run::engine::{Engine, engine_of};
use crate::run::new_task::await_tid;
use crate::run::stubs::returned;
use crate::run::tables::Away;

global_asm!(
    ".pushsection .text.engine_exit, \"ax\", @progbits",
    ".globl engine_exit", ".hidden engine_exit", ".type engine_exit, @function",
    ".globl engine_resume", ".hidden engine_resume",
    ".globl engine_resume_checked", ".hidden engine_resume_checked",
    ".globl engine_resume_end", ".hidden engine_resume_end", ".globl engine_again", ".hidden engine_again",
    ".globl engine_lookup_miss", ".hidden engine_lookup_miss",
    ".globl engine_return_miss", ".hidden engine_return_miss",
    ".globl engine_returned", ".hidden engine_returned", ".globl engine_landing", ".hidden engine_landing",
    ".globl engine_enter", ".hidden engine_enter", ".type engine_enter, @function",
    // A thread comes in from native code: rdi = its block, [rsp] = where to go on.
    "engine_enter:",
    "pop qword ptr gs:[{PC}]",
    "mov dword ptr gs:[{EXIT}], {ENTER}",
    "engine_exit:",
    "mov gs:[{RSP}], rsp",
    "mov rsp, gs:[{STACK}]",
    "pushfq",
    "push 0x202", "popfq", // DF and AC clear for our own code
    "pop qword ptr gs:[{RFLAGS}]",
    "mov gs:[{GPR}+0], rax", "mov gs:[{GPR}+8], rcx", "mov gs:[{GPR}+16], rdx", "mov gs:[{GPR}+24], rbx",
    "mov gs:[{GPR}+40], rbp", "mov gs:[{GPR}+48], rsi", "mov gs:[{GPR}+56], rdi",
    "mov gs:[{GPR}+64], r8", "mov gs:[{GPR}+72], r9", "mov gs:[{GPR}+80], r10", "mov gs:[{GPR}+88], r11",
    "mov gs:[{GPR}+96], r12", "mov gs:[{GPR}+104], r13", "mov gs:[{GPR}+112], r14", "mov gs:[{GPR}+120], r15",
    "movups gs:[{XMM}+0], xmm0", "movups gs:[{XMM}+16], xmm1", "movups gs:[{XMM}+32], xmm2",
    "movups gs:[{XMM}+48], xmm3", "movups gs:[{XMM}+64], xmm4", "movups gs:[{XMM}+80], xmm5",
    "movups gs:[{XMM}+96], xmm6", "movups gs:[{XMM}+112], xmm7", "movups gs:[{XMM}+128], xmm8",
    "movups gs:[{XMM}+144], xmm9", "movups gs:[{XMM}+160], xmm10", "movups gs:[{XMM}+176], xmm11",
    "movups gs:[{XMM}+192], xmm12", "movups gs:[{XMM}+208], xmm13", "movups gs:[{XMM}+224], xmm14",
    "movups gs:[{XMM}+240], xmm15",
    "stmxcsr gs:[{MXCSR}]", "ldmxcsr gs:[{ENGINE_MXCSR}]",
    "mov rdi, gs:[{THIS}]",
    "call {dispatch}",
    "engine_resume:",
    // A signal that came after the dispatcher looked: once more. One that comes behind the compare finds
    // the thread between here and engine_resume_end and sends it to engine_again.
    "cmp dword ptr gs:[{PENDING}], 0",
    "engine_resume_checked:",
    "jne engine_again",
    "movups xmm0, gs:[{XMM}+0]", "movups xmm1, gs:[{XMM}+16]", "movups xmm2, gs:[{XMM}+32]",
    "movups xmm3, gs:[{XMM}+48]", "movups xmm4, gs:[{XMM}+64]", "movups xmm5, gs:[{XMM}+80]",
    "movups xmm6, gs:[{XMM}+96]", "movups xmm7, gs:[{XMM}+112]", "movups xmm8, gs:[{XMM}+128]",
    "movups xmm9, gs:[{XMM}+144]", "movups xmm10, gs:[{XMM}+160]", "movups xmm11, gs:[{XMM}+176]",
    "movups xmm12, gs:[{XMM}+192]", "movups xmm13, gs:[{XMM}+208]", "movups xmm14, gs:[{XMM}+224]",
    "movups xmm15, gs:[{XMM}+240]",
    "ldmxcsr gs:[{MXCSR}]",
    "push qword ptr gs:[{RFLAGS}]",
    "mov rax, gs:[{GPR}+0]", "mov rcx, gs:[{GPR}+8]", "mov rdx, gs:[{GPR}+16]", "mov rbx, gs:[{GPR}+24]",
    "mov rbp, gs:[{GPR}+40]", "mov rsi, gs:[{GPR}+48]", "mov rdi, gs:[{GPR}+56]",
    "mov r8, gs:[{GPR}+64]", "mov r9, gs:[{GPR}+72]", "mov r10, gs:[{GPR}+80]", "mov r11, gs:[{GPR}+88]",
    "mov r12, gs:[{GPR}+96]", "mov r13, gs:[{GPR}+104]", "mov r14, gs:[{GPR}+112]", "mov r15, gs:[{GPR}+120]",
    "popfq",
    "mov rsp, gs:[{RSP}]",
    "jmp qword ptr gs:[{TARGET}]",
    "engine_resume_end:",
    // An indirect branch whose target has no pad; RCX lies aside.
    "engine_lookup_miss:",
    "mov rcx, gs:[{ANY}]",
    "mov dword ptr gs:[{EXIT}], {INDIRECT}",
    "jmp engine_exit",
    // A return whose target has no pad: it lies where it was popped from.
    "engine_return_miss:",
    "mov rcx, [rsp - 8]",
    "mov gs:[{LOOKUP}], rcx",
    "mov rcx, gs:[{ANY}]",
    "mov dword ptr gs:[{EXIT}], {RETURN}",
    "jmp engine_exit",
    // Return address of host functions that run natively on a followed thread.
    "engine_returned:",
    "mov dword ptr gs:[{EXIT}], {RETURNED}",
    "jmp engine_exit",
    // Where rt_sigreturn leads: the application's registers are back, its PC is in the block.
    "engine_landing:",
    "mov dword ptr gs:[{EXIT}], {ENTER}",
    "jmp engine_exit",
    "engine_again:",
    "mov dword ptr gs:[{EXIT}], {ENTER}",
    "mov rsp, gs:[{STACK}]",
    "mov rdi, gs:[{THIS}]",
    "call {dispatch}",
    "jmp engine_resume",
    ".popsection",
    PENDING = const disp::PENDING_SIGNAL, PC = const disp::PC, EXIT = const disp::EXIT, ENTER = const EXIT_ENTER as i32, RETURNED = const EXIT_RETURNED as i32,
    INDIRECT = const EXIT_INDIRECT as i32, RETURN = const EXIT_RETURN as i32, LOOKUP = const disp::LOOKUP_TARGET, ANY = const disp::spill(spill::ANY),
    RSP = const disp::GPR + 32, STACK = const disp::ENGINE_STACK, RFLAGS = const disp::RFLAGS,
    GPR = const disp::GPR, XMM = const disp::XMM, MXCSR = const disp::MXCSR,
    ENGINE_MXCSR = const disp::ENGINE_MXCSR, THIS = const disp::THIS, TARGET = const disp::HOST_TARGET,
    dispatch = sym engine_dispatch,
);

extern "C" fn engine_dispatch(thread: *mut ThreadState) {
    // SAFETY: engine_exit passes the block that GS points at, which belongs to this thread alone.
    let thread = unsafe { &mut *thread };
    engine_of(thread).dispatch(thread);
}

impl Engine {
    fn dispatch(&self, thread: &mut ThreadState) {
        let mut link = None;
        let mut at_entry = true;
        match thread.exit {
            EXIT_ENTER if thread.fresh => {
                await_tid(thread);
                thread.fresh = false;
                if !self.client.thread_started(thread) {
                    self.leave(thread);
                    self.give_back(thread);
                }
                if thread.signals_held != 0 {
                    let mask = thread.new_task_mask;
                    self.unblock(thread, &mask);
                }
            }
            EXIT_ENTER => {}
            EXIT_INDIRECT | EXIT_RETURN => thread.pc = thread.lookup_target,
            EXIT_RETURNED => thread.pc = thread.native_return,
            index => {
                let (exit, from) = self.left_by(thread, index);
                match exit.kind {
                    ExitKind::Syscall => self.syscall(thread, exit.target),
                    ExitKind::Branch => {
                        thread.pc = exit.target;
                        link = Some(from);
                    }
                    ExitKind::Changed => {
                        thread.pc = exit.target;
                        at_entry = self.source_changed(exit.target);
                    }
                    ExitKind::X87Pointer { wide } => {
                        thread.pc = exit.target;
                        self.show_x87_pointer(wide);
                        at_entry = false;
                    }
                }
            }
        }
        self.is_outside(thread);
        while thread.pending.is_some() {
            if self.hand_back_pending(thread) {
                // It goes on in the handler, not where the exit leads.
                (link, at_entry) = (None, true);
            }
        }
        if !thread.is_followed() {
            thread.host_target = thread.pc;
            return;
        }
        let linked = link.is_some() || way_of_exit(thread.exit).is_some();
        thread.trap_not_before = if linked { 0 } else { thread.pc };
        match self.host_code_in_room(thread, link) {
            Ok(host) if at_entry => thread.host_target = host,
            Ok(host) => thread.host_target = self.behind_entry(host),
            Err(why) => {
                match why {
                    Away::Release(notice, detail) => self.release(thread, notice, detail),
                    Away::Leave => self.leave(thread),
                    Away::Native => self.return_to_engine(thread),
                    Away::Full => unreachable!("a flush makes room"),
                }
                thread.host_target = thread.pc;
            }
        }
    }

    /// A host function was called: it runs natively and comes back through `engine_returned`.
    fn return_to_engine(&self, thread: &mut ThreadState) {
        // SAFETY: the application has just called, so its stack pointer is at the return address.
        let slot = unsafe { &mut *(thread.gpr[gpr::RSP] as *mut u64) };
        thread.native_return = *slot;
        *slot = returned();
    }
}
