//! The engine's host: no hooks, nothing to record but releases.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Call, CallToken, Client, Notice, Redirect, ThreadContext};

use crate::machine;

/// The one host.
pub struct Observer {
    unexpected: AtomicU64,
}

/// The process's host.
pub static HOST: Observer = Observer { unexpected: AtomicU64::new(0) };

impl Observer {
    /// Where the engine released the thread though it should not have; 0 = nowhere.
    pub fn take_unexpected(&self) -> u64 {
        self.unexpected.swap(0, Ordering::Relaxed)
    }
}

impl Client<ThreadContext> for Observer {
    fn redirect(&self, _pc: u64) -> Redirect {
        Redirect::Follow
    }

    fn before_syscall(&self, _: &ThreadContext, _: &Call) -> CallToken {
        CallToken::default()
    }

    fn after_syscall(&self, _: &ThreadContext, _: &Call, _: i64, _: CallToken) {}

    fn before_exec(&self, _: &ThreadContext, _: &mut Call) {}

    fn thread_started(&self, _: &ThreadContext) -> bool {
        true
    }

    fn fork_child(&self, _: &ThreadContext) {}

    fn exiting(&self, _: &ThreadContext, _: bool, _: i32) {}

    fn notice(&self, _: &ThreadContext, _: Notice, at: u64, _: u64) {
        if !machine::CODES.contains(&at) && at != machine::handler() {
            self.unexpected.store(at, Ordering::Relaxed);
        }
    }
}
