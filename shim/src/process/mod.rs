//! Who this process is.

mod application;
mod counted;
mod executor_above;
mod fork_mark;
pub mod identity;
pub mod settings;
mod task_method;

pub use application::keep as keep_application;
pub use counted::{
    Extent, application_ids, extent, identity, is_borrowed, is_counted, publish, runs_tasks,
    set_task_method, wants_agent,
};
pub use executor_above::ids as ids_of_executor_above;
pub use fork_mark::{check as check_fork, set as mark_for_fork};
