//! All arenas of the code cache.

use crate::cache::address_space::AddressSpace;
use crate::cache::arena::{Arena, ENOUGH, LARGEST_ARENA, MAX_ARENAS, Span};

/// All arenas.
pub struct Cache {
    arenas: [Option<Arena>; MAX_ARENAS],
    count: usize,
    space: AddressSpace,
    /// Where there is no place for an arena within reach: see [`Cache::neighbourhood`].
    out_of_reach: [u64; 8],
    /// The last refusal of the kernel.
    refused: i32,
}

impl Cache {
    /// No arena yet.
    pub const fn new(space: AddressSpace) -> Cache {
        Cache {
            arenas: [const { None }; MAX_ARENAS],
            count: 0,
            space,
            out_of_reach: [u64::MAX; 8],
            refused: 0,
        }
    }

    /// The arena for code at `pc`: one within reach, else a new one, else one that is not within reach.
    /// The flag says that it is new and has no routines yet.
    pub fn near(&mut self, pc: u64) -> Option<(u8, bool)> {
        let has_room = |a: &Arena| a.free() > ENOUGH;
        let near = |a: &Arena| a.reaches(pc) && has_room(a);
        if let Some(i) = self.arenas.iter().flatten().position(near) {
            return Some((i as u8, false));
        }
        let place = Self::neighbourhood(pc) as usize % self.out_of_reach.len();
        if self.out_of_reach[place] != Self::neighbourhood(pc) {
            if let Some(new) = self.add(Some(pc)) {
                return Some(new);
            }
            if self.arenas.iter().flatten().any(|arena| arena.reaches(pc)) {
                return None; // what is near is worth a flush
            }
            self.out_of_reach[place] = Self::neighbourhood(pc);
        }
        let any = self.arenas.iter().flatten().position(has_room).map(|i| (i as u8, false));
        any.or_else(|| self.add(None))
    }

    /// Code in one of these has the same mappings around it, nearly.
    fn neighbourhood(pc: u64) -> u64 {
        pc >> 26
    }

    /// Adds an arena, larger the more there are; a small one where the kernel refuses that.
    fn add(&mut self, pc: Option<u64>) -> Option<(u8, bool)> {
        if self.count == MAX_ARENAS {
            return None;
        }
        let reaches = |a: &&Arena| pc.is_none_or(|pc| a.reaches(pc));
        let before = self.arenas.iter().flatten().filter(reaches).count();
        let first = self.space.first_arena;
        let largest = (first << (3 * before).min(8)).min(LARGEST_ARENA);
        let taken: usize = self.arenas.iter().flatten().map(|arena| arena.pages.len).sum();
        let sizes = [largest, first, first / 4]
            .into_iter()
            .filter(|size| taken + size <= self.space.arenas);
        for size in sizes {
            match Arena::new(pc, size) {
                Ok(Some(arena)) => {
                    self.arenas[self.count] = Some(arena);
                    self.count += 1;
                    return Some((self.count as u8 - 1, true));
                }
                Ok(None) => {}
                Err(error) => self.refused = error,
            }
        }
        None
    }

    /// The error number of the kernel's last refusal of an arena; 0 = there was none.
    pub fn refused(&self) -> i32 {
        self.refused
    }

    /// One arena by its number.
    pub fn arena(&mut self, index: u8) -> &mut Arena {
        self.arenas[index as usize].as_mut().expect("arena numbers come from near()")
    }

    /// Number of the arena that holds a host address.
    pub fn number_of(&self, host: u64) -> Option<u8> {
        self.arenas.iter().flatten().position(|arena| arena.contains(host)).map(|at| at as u8)
    }

    /// The arena that holds a host address.
    pub fn at(&self, host: u64) -> Option<&Arena> {
        self.arenas.iter().flatten().find(|arena| arena.contains(host))
    }

    /// Empties all arenas, which stay where they are; nobody may be executing them.
    pub fn empty(&mut self) -> impl Iterator<Item = u8> + use<> {
        self.arenas.iter_mut().flatten().for_each(Arena::empty);
        self.out_of_reach = [u64::MAX; 8];
        0..self.count as u8
    }

    /// Gives all arenas up; nobody may be executing them.
    pub fn give_up(&mut self) {
        self.arenas = [const { None }; MAX_ARENAS];
        self.count = 0;
        self.out_of_reach = [u64::MAX; 8];
    }

    /// Is any of the code written at other addresses than it is executed at? Then a child of fork shares it.
    pub fn is_mapped_twice(&self) -> bool {
        self.arenas.iter().flatten().any(|arena| arena.pages.alias != 0)
    }

    /// From now on there is no arena.
    pub fn refuse(&mut self) {
        const ENOMEM: i32 = 12;
        self.space.arenas = 0;
        self.refused = ENOMEM;
    }

    /// Bytes of address space of all arenas.
    pub fn address_space(&self) -> u64 {
        self.arenas.iter().flatten().map(|arena| arena.span().len).sum()
    }

    /// Where all arenas lie.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.arenas.iter().flatten().map(Arena::span)
    }

    /// Bytes in use in all arenas, the lists of their fragments included.
    pub fn used(&self) -> usize {
        self.arenas.iter().flatten().map(|arena| arena.used() + arena.fragments.bytes()).sum()
    }
}
