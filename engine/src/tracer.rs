//! The engine behind the contract.

use core::arch::naked_asm;

use super::dispatch;
use super::engine::{self, Engine};
use super::syscall::undisturbed;
use super::thread::ThreadState;
use crate::contract::{Host, Limits, Thread, Tracer};
use crate::metric::Totals;

impl Thread for ThreadState {
    fn is_followed(&self) -> bool {
        ThreadState::is_followed(self)
    }

    fn totals(&self) -> Totals {
        ThreadState::totals(self)
    }

    fn tid(&self) -> u32 {
        if self.tid == super::thread::UNKNOWN_TID { 0 } else { self.tid }
    }

    fn host_word(&mut self) -> &mut u64 {
        &mut self.host_word
    }

    fn inherited_word(&mut self) -> &mut u64 {
        &mut self.inherited_word
    }
}

impl Tracer for Engine {
    type Thread = ThreadState;

    fn new(host: &'static dyn Host, limits: Limits) -> Option<Engine> {
        Engine::new(host, limits)
    }

    fn attach(&'static self) -> Option<*mut ThreadState> {
        Engine::attach(self)
    }

    #[unsafe(naked)]
    unsafe extern "C" fn enter(_thread: *mut ThreadState) {
        naked_asm!("jmp {enter}", enter = sym dispatch::engine_enter)
    }

    fn unfollow_me() {
        dispatch::unfollow_me();
    }

    fn current() -> Option<&'static ThreadState> {
        ThreadState::current().map(|thread| &*thread)
    }

    fn forget(&'static self, thread: &ThreadState) {
        self.give_back(thread);
    }

    fn memory_changed(&'static self, start: u64, len: u64) {
        undisturbed(|| self.invalidate(start, len));
    }

    fn libraries_unloaded(&'static self) {
        undisturbed(|| self.with_tables(|tables| tables.forget_code(0, u64::MAX)));
    }

    fn settle(&'static self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        undisturbed(|| self.with_tables(|tables| tables.code.settle(start, end)));
    }

    fn guard(&'static self, start: u64, len: u64) {
        Engine::guard(self, start, len);
    }

    fn set_action(&'static self, signal: u64, new: u64, old: u64) -> i64 {
        self.sigaction([signal, new, old, 8])
    }

    fn abandon() {
        engine::abandon();
    }
}
