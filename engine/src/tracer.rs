//! The engine behind the contract.

use core::arch::naked_asm;
use core::cell::Cell;
use core::sync::atomic::Ordering;

use crate::contract::{Client, Limits, Thread, Tracer};
use crate::isa::x86_64::context::{ThreadContext, UNKNOWN_TID};
use crate::metric::Totals;
use crate::os::signal_mask::with_signals_blocked;
use crate::run::engine::Engine;
use crate::run::stubs::{engine_enter, unfollow_me};
use crate::run::threads;

impl Thread for ThreadContext {
    fn is_followed(&self) -> bool {
        ThreadContext::is_followed(self)
    }

    fn totals(&self) -> Totals {
        ThreadContext::totals(self)
    }

    fn tid(&self) -> u32 {
        let tid = self.tid.load(Ordering::Acquire);
        if tid == UNKNOWN_TID { 0 } else { tid }
    }

    fn client_word(&self) -> &Cell<u64> {
        &self.client_word
    }

    fn inherited_word(&self) -> &Cell<u64> {
        &self.inherited_word
    }
}

impl Tracer for Engine {
    type Thread = ThreadContext;

    fn new(client: &'static dyn Client<ThreadContext>, limits: Limits) -> Option<Engine> {
        Engine::new(client, limits)
    }

    fn attach(&'static self) -> Option<*mut ThreadContext> {
        Engine::attach(self)
    }

    #[unsafe(naked)]
    unsafe extern "C" fn enter(_thread: *mut ThreadContext) {
        naked_asm!("jmp {enter}", enter = sym engine_enter)
    }

    fn unfollow_me() {
        unfollow_me();
    }

    fn current() -> Option<&'static ThreadContext> {
        ThreadContext::current()
    }

    fn forget(&'static self, thread: &ThreadContext) {
        self.give_back(thread);
    }

    fn memory_changed(&'static self, start: u64, len: u64) {
        with_signals_blocked(|| self.invalidate(start, len));
    }

    fn libraries_unloaded(&'static self) {
        with_signals_blocked(|| self.with_tables(|tables| tables.forget_code(0, u64::MAX)));
    }

    fn vouch_for(&'static self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        with_signals_blocked(|| self.with_tables(|tables| tables.code.vouch_for(start, end)));
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
