//! Stores to guarded code: its pages are protected when a block is translated, and opened when a store faults.

use core::sync::atomic::Ordering;

use crate::cache::fragment::Fragment;
use crate::code::write_protect::{MOST_LOOKS, Page, UNKNOWN, allow, now, pages_of};
use crate::os::memory::PAGE;
use crate::os::signal_mask::undisturbed;
use crate::os::signals::SIGSEGV;
use crate::run::engine::Engine;
use crate::run::tables::Tables;

/// What a look at a fragment's source has shown.
pub(crate) enum Look {
    /// It holds still and can be entered.
    Entered,
    /// It is as it was; the next look may show something else.
    Same,
    /// It has changed, or is to be translated anew for another reason.
    Changed,
}

impl Tables {
    /// A block of guarded memory was translated. Whether it serves: not in a page that had to be given up.
    #[must_use]
    pub fn watch(&mut self, index: u32, fragment: &Fragment) -> bool {
        if self.guarded.add(index, fragment).is_none() {
            return true;
        }
        let is_protected = self.protect(fragment);
        if is_protected {
            // In pages that were protected before.
            self.quieten(index);
        }
        is_protected
    }

    /// Protects the pages of a block. Fragments that are as they were compare no longer. Gives the page up that the kernel
    /// does not protect, and says false.
    fn protect(&mut self, fragment: &Fragment) -> bool {
        for at in pages_of(fragment) {
            if self.guarded.is_protected(at) {
                continue;
            }
            let now = now();
            let run = self.guarded.run_around(at, now);
            if !allow(run.clone(), false) {
                self.give_page_up(at);
                return false;
            }
            for at in run.step_by(PAGE as usize) {
                let Some(page) = self.guarded.page_mut(at) else { return false };
                (page.protected, page.since) = (true, now);
                self.guarded.protected += 1;
                self.guarded.forget_dead(at, self.translator.fragments.as_slice());
                let mut next = self.guarded.fragments_of(at);
                while let Some(entry) = next.next(&self.guarded) {
                    self.quieten(entry);
                }
            }
        }
        true
    }

    /// Lets a fragment be entered without a look, if it holds still and is as it was.
    fn quieten(&mut self, index: u32) {
        let fragment = self.translator.fragments.as_slice()[index as usize];
        let holds_still = pages_of(&fragment).all(|page| self.guarded.is_protected(page));
        // SAFETY: its pages are mapped, or the kernel would not have changed their protection.
        if !fragment.dead && holds_still && unsafe { fragment.source_is_the_same() } {
            self.translator.set_watched(index, false);
        }
    }

    /// A page that never holds still, or that the kernel does not protect: its blocks are translated anew.
    fn give_page_up(&mut self, at: u64) {
        let mut next = self.guarded.fragments_of(at);
        while let Some(index) = next.next(&self.guarded) {
            if !self.translator.fragments.as_slice()[index as usize].dead {
                self.drop_fragment(index);
            }
        }
        if let Some(page) = self.guarded.page_mut(at) {
            *page = Page { given_up: true, since: page.since, ..UNKNOWN };
        }
    }

    /// A thread is about to enter a watched fragment of an open page.
    pub(crate) fn look_at(&mut self, index: u32) -> Look {
        let fragment = self.translator.fragments.as_slice()[index as usize];
        // SAFETY: the source was readable when it was translated; natively a fetch from it would fault else.
        if !unsafe { fragment.source_is_the_same() } {
            return Look::Changed;
        }
        let now = now();
        for at in pages_of(&fragment) {
            let Some(page) = self.guarded.page_mut(at) else { return Look::Same };
            if page.protected || page.has_waited(now) {
                continue;
            }
            page.looks += 1;
            if page.looks < MOST_LOOKS {
                return Look::Same;
            }
            self.give_page_up(at);
            return Look::Changed;
        }
        if self.guarded.given_up {
            return Look::Changed; // to a block that compares itself
        }
        if !self.protect(&fragment) {
            return Look::Changed;
        }
        self.quieten(index);
        Look::Entered
    }
}

impl Engine {
    /// The host says of `[start, start + len)`: code there changes by stores alone, of code that lies elsewhere, made with
    /// SIGSEGV unblocked or in a handler.
    pub(crate) fn guard(&self, start: u64, len: u64) {
        let begin = |tables: &mut Tables| {
            tables.guarded.begin(start, start.saturating_add(len));
            let range = tables.guarded.range();
            self.guarded[0].store(range.start, Ordering::Release);
            self.guarded[1].store(range.end, Ordering::Release);
        };
        undisturbed(|| self.with_tables(begin));
    }

    /// The signals that must come while translated code or a handler runs.
    pub(crate) fn never_blocked(&self) -> u64 {
        if self.guarded[1].load(Ordering::Acquire) == 0 { 0 } else { 1 << (SIGSEGV - 1) }
    }

    /// A store to this address faulted; the instruction lies at `host`. Whether that was our doing, and the store may be
    /// made now.
    #[cfg_attr(not(feature = "faults"), expect(unused_variables))]
    pub(crate) fn open(&self, address: u64, host: u64) -> bool {
        let [start, end] = self.guarded.each_ref().map(|word| word.load(Ordering::Acquire));
        if !(start..end).contains(&address) {
            return false;
        }
        if self.is_broken() {
            // The tables may be half written, and nobody is followed any more.
            let at = address & !(PAGE - 1);
            return allow(at..at + PAGE, true);
        }
        self.with_tables(|tables| {
            let Tables { guarded, translator, .. } = tables;
            #[cfg(feature = "faults")]
            if crate::failpoints::is_armed(crate::failpoints::Fault::Audit) {
                let own = translator.fragment_at(host).is_some_and(|by| by.watch != 0);
                assert!(!own, "guarded code has changed guarded code");
            }
            guarded.open(address, translator)
        })
    }
}
