//! Texts: how long ones are cut, what must not be shown, what a word may have meant.

pub mod clip;
pub mod duration;
pub mod field;
pub mod nearest;
pub mod redaction;
pub mod shown;
