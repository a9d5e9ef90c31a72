//! How commands speak: exit codes and messages, standard output and files, colors, progress.

pub mod exit;
pub mod new_file;
pub mod output;
pub mod private_folder;
pub mod progress;
pub mod terminal;
