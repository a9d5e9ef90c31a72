//! From an application PC to host code: found, or translated now.

use core::sync::atomic::Ordering;

use crate::cache::fragment::Exit;
use crate::code::mappings::VSYSCALL;
use crate::contract::{Notice, Redirect};
use crate::isa::x86_64::context::ThreadState;
use crate::isa::x86_64::cpu;
use crate::isa::x86_64::exits::{Way, way_of_exit};
use crate::os::signals::{SIGBUS, SIGSEGV};
use crate::run::engine::Engine;
use crate::run::stubs::{restorer, unfollow_me};
use crate::run::tables::{Away, Link, Tables};
use crate::run::write_faults::Look;
use crate::translate::translator::{Failure, Source};

impl Engine {
    /// Host code for the thread's PC; links the exit that led there, or makes it known to indirect branches.
    pub(crate) fn host_code(
        &self,
        thread: &mut ThreadState,
        link: Option<Link>,
    ) -> Result<u64, Away> {
        self.with_tables(|tables| {
            if tables.closed {
                return Err(Away::Full);
            }
            let nothing_to_drop = tables.translator.is_empty();
            let found = self.find_or_translate(tables, thread, link);
            match found {
                Err(Away::Full) if nothing_to_drop => Err(self.refused(tables)),
                found => found,
            }
        })
    }

    /// There is no room although nothing is translated.
    fn refused(&self, tables: &Tables) -> Away {
        match tables.translator.cache.refused() {
            0 => Away::Release(Notice::MemoryLimit, self.limits.memory as u64),
            error => Away::Release(Notice::MemoryRefused, error as u64),
        }
    }

    fn find_or_translate(
        &self,
        tables: &mut Tables,
        thread: &mut ThreadState,
        link: Option<Link>,
    ) -> Result<u64, Away> {
        let pc = thread.pc;
        let way = way_of_exit(thread.exit);
        let link = link.filter(|link| link.generation == tables.generation);
        let fragment = match tables.map.get(pc) {
            Some(fragment) => fragment,
            None => {
                if let Some(link) = link
                    && self.nobody_is_inside()
                {
                    tables.translator.turn_round(link.exit);
                }
                self.translate(tables, pc, way)?
            }
        };
        if let Some(way) = way
            && tables.translator.make_target(way, pc, fragment).is_err()
        {
            return Err(Away::Full);
        }
        let host = tables.translator.fragments.as_slice()[fragment as usize].host;
        if let Some(link) = link {
            tables.translator.link(link.exit, fragment);
        }
        if !thread.inside.swap(true, Ordering::AcqRel) {
            self.inside.fetch_add(1, Ordering::AcqRel);
        }
        Ok(host)
    }

    /// Where the first instruction of the fragment at `host` lies, behind what is done at its entry.
    pub(crate) fn behind_entry(&self, host: u64) -> u64 {
        self.with_tables(|tables| {
            let translator = &tables.translator;
            let first = translator
                .fragment_at(host)
                .and_then(|f| translator.places_of(&f).first().map(|place| place.host));
            host + u64::from(first.unwrap_or(0))
        })
    }

    /// The exit by which a thread came out of the cache; from now on it is outside.
    pub(crate) fn left_by(&self, thread: &ThreadState, index: u32) -> (Exit, Link) {
        self.with_tables(|tables| {
            self.is_outside(thread);
            let exit = tables.translator.exits.as_slice()[index as usize];
            (exit, Link { exit: index, generation: tables.generation })
        })
    }

    fn translate(&self, tables: &mut Tables, pc: u64, way: Option<Way>) -> Result<u32, Away> {
        if pc == unfollow_me as *const () as u64 {
            return Err(Away::Leave);
        }
        if VSYSCALL.contains(&pc) {
            return Err(Away::Native);
        }
        let target = match self.client.redirect(pc) {
            // A handler that was set without a restorer returns to the engine's: a system call like the application's.
            _ if pc == restorer() => pc,
            Redirect::Follow => pc,
            Redirect::To(next) => next,
            Redirect::Native => return Err(Away::Native),
            Redirect::Leave => return Err(Away::Leave),
        };
        let known = if target == pc { None } else { tables.map.get(target) };
        let fragment = match known {
            Some(fragment) => fragment,
            None => self.translate_new(tables, target, way)?,
        };
        let inserted =
            tables.map.insert(target, fragment).and_then(|()| tables.map.insert(pc, fragment));
        inserted.map(|()| fragment).ok_or(Away::Full)
    }

    fn translate_new(&self, tables: &mut Tables, pc: u64, pad: Option<Way>) -> Result<u32, Away> {
        #[cfg(feature = "faults")]
        {
            use crate::failpoints::{Fault, strikes};
            assert!(!strikes(Fault::Assertion), "a fault that was asked for");
            if strikes(Fault::Full) || strikes(Fault::GivenUp) {
                return Err(Away::Full);
            }
            if strikes(Fault::Undecodable) {
                return Err(Away::Release(Notice::Untranslatable, 1));
            }
            if strikes(Fault::NotExecutable) {
                return Err(Away::Release(Notice::NotExecutable, 0));
            }
        }
        if tables.translator.memory() + tables.map.memory() > self.limits.memory {
            return Err(Away::Full);
        }
        let Some((source, limit)) = tables.code.lookup(pc, &tables.guarded) else {
            return Err(Away::Release(Notice::NotExecutable, 0));
        };
        if source != Source::Stable {
            self.borrow(SIGBUS);
        }
        if source == Source::Guarded {
            self.borrow(SIGSEGV);
        }
        // SAFETY: the kernel says that the mapping is readable up to `limit`; a thread that unmaps it while
        // another is about to execute it breaks the program natively too.
        let translated = unsafe { tables.translator.translate(pc, limit, source, pad) };
        for (known, arena) in self.arenas.iter().zip(tables.translator.cache.spans()) {
            known.store(arena.pack(), Ordering::Release);
        }
        if tables.translator.cache.is_mapped_twice() {
            cpu::serialize();
        }
        if let Ok(index) = translated {
            let fragment = tables.translator.fragments.as_slice()[index as usize];
            tables.code.translated(pc, pc + u64::from(fragment.app_len));
            if fragment.watch != 0 && !tables.watch(index, &fragment) {
                return self.translate_new(tables, pc, pad);
            }
        }
        translated.map_err(|failure| match failure {
            Failure::Full => Away::Full,
            Failure::Refused(why) => Away::Release(Notice::Untranslatable, why as u64),
        })
    }

    /// A thread found the source of the fragment for `pc` changed, or its page open: it is translated anew, if nobody has
    /// done so. Whether the thread goes on at the fragment's entry, not behind.
    pub(crate) fn source_changed(&self, pc: u64) -> bool {
        self.with_tables(|tables| {
            let Some(index) = tables.map.get(pc) else { return true };
            let fragment = tables.translator.fragments.as_slice()[index as usize];
            if fragment.watch != 0 {
                return match tables.look_at(index) {
                    Look::Entered => true,
                    Look::Same => false,
                    Look::Changed => {
                        tables.drop_fragment(index);
                        true
                    }
                };
            }
            // SAFETY: the source was readable a moment ago; natively a fetch from it would fault otherwise.
            let same = unsafe { fragment.source_is_the_same() };
            #[cfg(feature = "faults")]
            assert!(same || !tables.code.is_settled(pc), "code has changed that was vouched for");
            if !same {
                tables.drop_fragment(index);
            }
            true
        })
    }
}
