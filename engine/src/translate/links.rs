//! Links between fragments: exits that lead to one without the dispatcher, and their ends.
//!
//! # Design
//! A fragment is placed where the one before it ends. So when the exit at the end of the last fragment is taken before
//! anything else is translated, its jump leads to what lies right behind it, and becomes a NOP: code that is executed
//! in one go the first time lies in one row. Where the way out was the other one, the taken branch, the condition is turned
//! round first.

use crate::cache::fragment::Exit;
use crate::isa::x86_64::emit::buffer::{Code, FAR_PADDING};
use crate::translate::translator::Translator;

/// Bytes of a jump that reaches anywhere, with its padding.
const FAR_BYTES: usize = FAR_PADDING + 14;

impl Translator {
    /// Before the target of an exit is translated: if the exit is the taken branch at the end of the last fragment, it
    /// changes places with the jump behind it. No thread may be inside the cache.
    pub fn turn_round(&mut self, index: u32) {
        let exit = self.exits.as_slice()[index as usize];
        let arena = self.cache.arena(exit.arena);
        let last = arena.tail.is_some_and(|t| t.taken == index && t.end == arena.hot_address());
        let other = self.exits.as_slice()[index as usize + usize::from(last)];
        if !last || !self.is_unlinked(&exit) || !self.is_unlinked(&other) {
            return;
        }
        let arena = self.cache.arena(exit.arena);
        arena.tail = None;
        arena.turn_condition(exit.site);
        arena.patch(exit.site, arena.base + u64::from(other.stub));
        arena.patch(other.site, arena.base + u64::from(exit.stub));
        let exits = self.exits.as_mut_slice();
        exits[index as usize].site = other.site;
        exits[index as usize + 1].site = exit.site;
    }

    fn is_unlinked(&mut self, exit: &Exit) -> bool {
        let arena = self.cache.arena(exit.arena);
        exit.site != 0 && arena.target(exit.site) == arena.base + u64::from(exit.stub)
    }

    /// Links an exit to a fragment: from now on the branch goes there without the dispatcher.
    pub fn link(&mut self, index: u32, fragment: u32) {
        let exit = self.exits.as_slice()[index as usize];
        let host = self.fragments.as_slice()[fragment as usize].host;
        if !self.is_unlinked(&exit) {
            return; // a system call, or another thread was here first
        }
        let arena = self.cache.arena(exit.arena);
        let target = if arena.contains(host) || arena.reaches(host) {
            host
        } else if arena.free() > FAR_BYTES + 64 {
            let mut far: Code<FAR_BYTES> = Code::at(0);
            far.jump_far(host);
            arena.put_cold(far.bytes(), 8) + FAR_PADDING as u64
        } else {
            return;
        };
        arena.patch(exit.site, target);
        let incoming = &mut self.fragments.as_mut_slice()[fragment as usize].incoming;
        self.exits.as_mut_slice()[index as usize].next_incoming = *incoming;
        *incoming = index + 1;
    }

    /// Marks all fragments dead that were translated from `[start, end)`, and unlinks what leads to them.
    /// Returns whether there were any.
    pub fn kill(&mut self, start: u64, end: u64) -> bool {
        let mut any = false;
        for index in 0..self.fragments.len() {
            let fragment = &self.fragments.as_slice()[index];
            if fragment.dead
                || fragment.pc >= end
                || fragment.pc + u64::from(fragment.app_len) <= start
            {
                continue;
            }
            any = true;
            self.kill_one(index as u32);
        }
        any
    }

    /// Marks one fragment dead and unlinks what leads to it.
    pub fn kill_one(&mut self, fragment: u32) {
        self.fragments.as_mut_slice()[fragment as usize].dead = true;
        self.unlink(fragment);
    }

    /// Leads every linked exit back to its stub.
    pub fn unlink_all(&mut self) {
        for fragment in 0..self.fragments.len() {
            self.unlink(fragment as u32);
        }
    }

    /// Leads every exit that was linked to a fragment back to its stub.
    fn unlink(&mut self, fragment: u32) {
        let fragment = &mut self.fragments.as_mut_slice()[fragment as usize];
        let mut next = core::mem::take(&mut fragment.incoming);
        while next != 0 {
            let exit = &mut self.exits.as_mut_slice()[next as usize - 1];
            let arena = self.cache.arena(exit.arena);
            arena.patch(exit.site, arena.base + u64::from(exit.stub));
            next = core::mem::take(&mut exit.next_incoming);
        }
    }
}
