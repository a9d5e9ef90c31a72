//! libc's functions that change what the process may do: the helper is told before, and after.

use super::{
    errno::errno,
    frame::{Decision, Frame},
    list::Hook,
};
use crate::{base::sys, record::helper};
use alloc::vec::Vec;
use guest::syscall_number as nr;

/// The system call that a hook stands for; `None` for other hooks.
fn call(hook: Hook, arguments: &[u64; 6]) -> Option<(u64, [u64; 6])> {
    /// An id that stays.
    const KEEP: u64 = u32::MAX as u64;
    let [first, second, third, fourth, fifth, sixth] = *arguments;
    let number = match hook {
        Hook::Unshare => nr::UNSHARE,
        Hook::Setns => nr::SETNS,
        Hook::Setuid => nr::SETUID,
        Hook::Setgid => nr::SETGID,
        Hook::Setreuid => nr::SETREUID,
        Hook::Setregid => nr::SETREGID,
        Hook::Setresuid => nr::SETRESUID,
        Hook::Setresgid => nr::SETRESGID,
        Hook::Setgroups => nr::SETGROUPS,
        Hook::Setfsuid => nr::SETFSUID,
        Hook::Setfsgid => nr::SETFSGID,
        Hook::Capset => nr::CAPSET,
        Hook::Prctl => nr::PRCTL,
        Hook::Seteuid => return Some((nr::SETRESUID, [KEEP, first, KEEP, 0, 0, 0])),
        Hook::Setegid => return Some((nr::SETRESGID, [KEEP, first, KEEP, 0, 0, 0])),
        Hook::Syscall => return Some((first, [second, third, fourth, fifth, sixth, 0])),
        Hook::Waitpid => return Some((nr::WAIT4, [first, second, third, 0, 0, 0])),
        Hook::Wait4 => nr::WAIT4,
        Hook::Waitid => nr::WAITID,
        _ => return None,
    };
    Some((number, *arguments))
}

/// Before the call; `None` where it is none of these.
pub fn before(hook: Hook, frame: &Frame) -> Option<Decision> {
    if hook == Hook::Initgroups {
        return Some(Decision::CallThenAfter);
    }
    let (number, arguments) = call(hook, &frame.arguments)?;
    if !helper::mirrors(number, &arguments) {
        return Some(Decision::PassThrough);
    }
    helper::mirror(number, &arguments);
    // A wait is a place where a thread may be cancelled, and changes nothing.
    let waits = matches!(number, nr::WAIT4 | nr::WAITID);
    Some(if waits { Decision::PassThrough } else { Decision::CallThenAfter })
}

/// After it; whether it is one of these.
pub fn after(hook: Hook, frame: &Frame) -> bool {
    if hook == Hook::Initgroups {
        if frame.result as i32 == 0 {
            follow_groups();
        }
        return true;
    }
    let Some((number, arguments)) = call(hook, &frame.arguments) else { return false };
    let failed = frame.result as i32 == -1 && !matches!(number, nr::SETFSUID | nr::SETFSGID);
    helper::mirrored(number, &arguments, if failed { -errno() } else { 0 });
    true
}

/// `initgroups` reads the groups from a data base and sets them inside libc.
fn follow_groups() {
    /// `NGROUPS_MAX`
    const MOST: usize = 65_536;
    let mut groups = Vec::<u32>::new();
    // SAFETY: asks for a number.
    let count = unsafe { sys::call2(nr::GETGROUPS, 0, 0) };
    let count = usize::try_from(count).unwrap_or(0).min(MOST);
    if groups.try_reserve_exact(count).is_err() {
        return helper::cannot_follow();
    }
    groups.resize(count, 0);
    // SAFETY: the kernel writes as many words as there is room for.
    let count = unsafe { sys::call2(nr::GETGROUPS, count as u64, groups.as_mut_ptr() as u64) };
    let arguments = [count.max(0) as u64, groups.as_ptr() as u64, 0, 0, 0, 0];
    helper::mirror(nr::SETGROUPS, &arguments);
    helper::mirrored(nr::SETGROUPS, &arguments, 0);
}
