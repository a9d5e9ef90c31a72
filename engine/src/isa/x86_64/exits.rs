//! How a thread comes to the dispatcher: the number of the exit that it took, or one of these.

/// Exit index written by an indirect branch whose target was not in the lookup table.
pub const EXIT_INDIRECT: u32 = u32::MAX;
/// Exit index written by a return whose target was not in the table of returns.
pub const EXIT_RETURN: u32 = u32::MAX - 3;
/// Exit index written when a thread comes in from native code.
pub const EXIT_ENTER: u32 = u32::MAX - 1;
/// Exit index written when a host function that ran natively has returned.
pub const EXIT_RETURNED: u32 = u32::MAX - 2;

/// How a target is come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a jump, a call or a return that pops more than its target.
    Jump,
    /// By a return.
    Return,
}

/// How an indirect branch whose target has no pad came out of the cache by this exit.
pub fn way_of_exit(exit: u32) -> Option<Way> {
    match exit {
        EXIT_INDIRECT => Some(Way::Jump),
        EXIT_RETURN => Some(Way::Return),
        _ => None,
    }
}
