//! Where the kernel enters the engine for a signal.

use crate::isa::x86_64::app_memory;
use crate::isa::x86_64::context::{ThreadState, disp};
use crate::isa::x86_64::registers::gpr;
use crate::isa::x86_64::signal_frame::{
    CONTEXT, CONTEXT_RIP, Info, SI_ADDR, UserContext, code_of, is_store_to_protected,
};
use crate::os::signals::FAULTS;
use crate::run::engine::engine_of;
use crate::run::served;
use crate::run::signal::deliver::Answer;
use crate::run::stubs::resume_range;

core::arch::global_asm!(
    ".pushsection .text.engine_signal, \"ax\", @progbits",
    ".globl engine_restorer", ".hidden engine_restorer",
    "engine_restorer:",
    "mov eax, 15", // rt_sigreturn
    "syscall",
    // The kernel enters here: rdi = signal, rsi = siginfo, rdx = ucontext, [rsp] = return address.
    ".globl engine_signal_entry", ".hidden engine_signal_entry", ".type engine_signal_entry, @function",
    "engine_signal_entry:",
    "pushfq", "and dword ptr [rsp], {NOT_AC}", "popfq", // the kernel leaves AC set; ID must stay
    "push rbp", "mov rbp, rsp",
    "push rdi", "push rsi", "push rdx", "push rbx",
    "lea rcx, [rbp + 8]",
    "call {on_signal}",
    "cmp eax, {ON_ENGINE_STACK}",
    "jne 2f",
    // The engine's stack is not in use, or what is on it is given up: an alternate stack may be tiny.
    "mov rdx, [rsp + 8]", "mov rsi, [rsp + 16]", "mov rdi, [rsp + 24]",
    "lea rcx, [rbp + 8]",
    "mov rbx, rsp",
    "mov rsp, gs:[{STACK}]",
    "call {on_engine_stack}",
    "cmp eax, {FOLLOW}",
    "je engine_again",
    "mov rsp, rbx",
    "2:",
    "pop rbx", "pop rdx", "pop rsi", "pop rdi", "pop rbp",
    "ret",
    ".popsection",
    STACK = const disp::ENGINE_STACK, NOT_AC = const !(1 << 18),
    ON_ENGINE_STACK = const Answer::OnEngineStack as u32, FOLLOW = const Answer::Follow as u32,
    on_signal = sym on_signal, on_engine_stack = sym on_engine_stack,
);

/// Little may be done here: the stack may be small, and may hold the dispatcher's frames.
extern "C" fn on_signal(
    signal: i32,
    info: *mut Info,
    context: *mut UserContext,
    _entry: u64,
) -> Answer {
    let Some(engine) = served::engine() else { return Answer::Return };
    // SAFETY: the kernel passes its own frame, ours to change until we return.
    let (info_ref, context_ref) = unsafe { (&*info, &mut *context) };
    let host = context_ref.registers[CONTEXT_RIP] as u64;
    if FAULTS >> (signal - 1) & 1 != 0
        && code_of(info_ref) > 0
        && let Some(behind) = app_memory::behind_copy(host)
    {
        context_ref.registers[CONTEXT_RIP] = behind as i64;
        return Answer::Return;
    }
    let denied = is_store_to_protected(signal, info_ref, context_ref);
    if denied && engine.open(info_ref[SI_ADDR], host) {
        return Answer::Return;
    }
    match ThreadState::current() {
        // On its way out a thread is followed no more, but its state is in its block still.
        Some(thread) if thread.is_followed() || is_leaving(thread, context_ref) => {
            engine.interrupted(thread, signal, info_ref, context_ref)
        }
        _ => {
            engine.call_natively(signal, info, context);
            Answer::Return
        }
    }
}

/// Does the context lie in the dispatcher, between the end of following and native code?
fn is_leaving(thread: &ThreadState, context: &UserContext) -> bool {
    thread.owns_stack(context.registers[CONTEXT[gpr::RSP]] as u64)
        || resume_range().contains(&(context.registers[CONTEXT_RIP] as u64))
}

extern "C" fn on_engine_stack(
    signal: i32,
    info: *mut Info,
    context: *mut UserContext,
    entry: u64,
) -> Answer {
    let Some(thread) = ThreadState::current() else { return Answer::Return };
    // SAFETY: the frame is the kernel's.
    let context_ref = unsafe { &mut *context };
    engine_of(thread).deliver(thread, signal, info, context_ref, entry)
}
