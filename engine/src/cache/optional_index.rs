//! An index that may be missing, in four bytes of which all zero say so: tables begin as zeros.

/// The index plus one; 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct OptionalIndex(u32);

impl OptionalIndex {
    /// There is none.
    pub const NONE: OptionalIndex = OptionalIndex(0);

    /// This one.
    pub const fn some(index: u32) -> OptionalIndex {
        OptionalIndex(index + 1)
    }

    /// The index, if there is one.
    pub const fn get(self) -> Option<u32> {
        self.0.checked_sub(1)
    }

    /// Is there none?
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_none() {
        assert_eq!(
            (OptionalIndex::NONE.get(), OptionalIndex::default()),
            (None, OptionalIndex::NONE)
        );
        assert_eq!(OptionalIndex::some(0).get(), Some(0));
        assert!(!OptionalIndex::some(0).is_none() && OptionalIndex(0).is_none());
    }
}
