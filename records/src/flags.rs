//! The flag bits of a record.

/// Flags of a record; a group's flags are its leader's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// The engine counts this thread now. On tid 0: it counts every live thread.
    pub const FOLLOWED: Flags = Flags(1);
    /// The thread was released to run uncounted at some time, so its engine metrics are a lower
    /// bound. On tid 0: this is so for some thread of the process.
    pub const WAS_RELEASED: Flags = Flags(1 << 1);
    /// The last values that will come for this thread or process.
    pub const FINAL: Flags = Flags(1 << 2);
    /// The task was seen after it had started; its first part is missing.
    pub const LATE: Flags = Flags(1 << 3);
    /// The task's end was not seen: the next task's start on the thread closed it.
    pub const CLOSED_BY_NEXT: Flags = Flags(1 << 4);
    /// The task's end was not seen: the end of the thread closed it.
    pub const CLOSED_BY_THREAD_END: Flags = Flags(1 << 5);
    /// Repeats the state at the beginning of a segment; nothing happened at this instant.
    pub const FIRST_OF_SEGMENT: Flags = Flags(1 << 6);
    /// A text of this record was longer than its field.
    pub const CLIPPED: Flags = Flags(1 << 7);

    /// All bits with their names, in order.
    pub const NAMES: [(Flags, &'static str); 8] = [
        (Flags::FOLLOWED, "followed"),
        (Flags::WAS_RELEASED, "was_released"),
        (Flags::FINAL, "final"),
        (Flags::LATE, "late"),
        (Flags::CLOSED_BY_NEXT, "closed_by_next"),
        (Flags::CLOSED_BY_THREAD_END, "closed_by_thread_end"),
        (Flags::FIRST_OF_SEGMENT, "first_of_segment"),
        (Flags::CLIPPED, "clipped"),
    ];

    /// Both together.
    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.union(other)
    }
}

impl core::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        *self = self.union(other);
    }
}
