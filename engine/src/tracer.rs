//! The engine behind the contract.

use core::arch::naked_asm;
use core::cell::Cell;

use crate::contract::{Client, Limits, Thread, Tracer};
use crate::isa::x86_64::context::{ThreadState, UNKNOWN_TID};
use crate::metric::Totals;
use crate::os::signal_mask::undisturbed;
use crate::run::engine::Engine;
use crate::run::stubs::{engine_enter, unfollow_me};
use crate::run::threads;

impl Thread for ThreadState {
    fn is_followed(&self) -> bool {
        ThreadState::is_followed(self)
    }

    fn totals(&self) -> Totals {
        ThreadState::totals(self)
    }

    fn tid(&self) -> u32 {
        if self.tid == UNKNOWN_TID { 0 } else { self.tid }
    }

    fn client_word(&self) -> &Cell<u64> {
        &self.client_word
    }

    fn inherited_word(&self) -> &Cell<u64> {
        &self.inherited_word
    }
}

impl Tracer for Engine {
    type Thread = ThreadState;

    fn new(client: &'static dyn Client<ThreadState>, limits: Limits) -> Option<Engine> {
        Engine::new(client, limits)
    }

    fn attach(&'static self) -> Option<*mut ThreadState> {
        Engine::attach(self)
    }

    #[unsafe(naked)]
    unsafe extern "C" fn enter(_thread: *mut ThreadState) {
        naked_asm!("jmp {enter}", enter = sym engine_enter)
    }

    fn unfollow_me() {
        unfollow_me();
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
        threads::abandon();
    }
}
