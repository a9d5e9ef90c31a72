//! The engine's host: no hooks, nothing to record but releases.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Call, CallToken, Client, Notice, Redirect, ThreadState};

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

impl Client<ThreadState> for Observer {
    fn redirect(&self, _pc: u64) -> Redirect {
        Redirect::Follow
    }

    fn before_syscall(&self, _: &ThreadState, _: &Call) -> CallToken {
        CallToken::default()
    }

    fn after_syscall(&self, _: &ThreadState, _: &Call, _: i64, _: CallToken) {}

    fn before_exec(&self, _: &ThreadState, _: &mut Call) {}

    fn thread_started(&self, _: &ThreadState) -> bool {
        true
    }

    fn fork_child(&self, _: &ThreadState) {}

    fn exiting(&self, _: &ThreadState, _: bool, _: i32) {}

    fn notice(&self, _: &ThreadState, _: Notice, at: u64, _: u64) {
        if !machine::CODES.contains(&at) && at != machine::handler() {
            self.unexpected.store(at, Ordering::Relaxed);
        }
    }
}
