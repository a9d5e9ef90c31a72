//! What passes between a stub and Rust.

/// What a stub hands to Rust.
#[repr(C)]
pub struct Frame {
    /// The integer arguments, in order.
    pub arguments: [u64; 6],
    /// The number of vector registers that hold arguments, in variadic calls.
    pub rax: u64,
    /// The hook's index.
    pub hook: usize,
    /// The next definition; 0 = there is none.
    pub next: usize,
    /// What the next definition returned, or what the stub is to return instead of calling it.
    pub result: i64,
    /// For `before` to tell `after`.
    pub notes: [u64; 4],
}

/// What is decided before a call. `enter` knows the numbers.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Decision {
    /// Jump to the next definition, and nothing after it.
    PassThrough = 0,
    /// Call the next definition, and tell its result.
    CallThenAfter = 1,
    /// Return [`Frame::result`]; the next definition is not called.
    Answered = 2,
    /// As `PassThrough`, and the engine follows from the next definition's first instruction on. Its arguments stay
    /// where they are, so this is for an engine that does not ask for its thread.
    FollowNext = 3,
}
