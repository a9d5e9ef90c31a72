//! The constructor: the first code of this library in a process.
//!
//! `-z initfirst` makes it run before every other constructor. glibc calls constructors with argc, argv
//! and envp; musl calls them with nothing, but has set `environ` by then, and argv lies below envp on the
//! initial stack. [`initialize`] returns the engine's thread if counting starts here; the stub then jumps
//! into the engine with the stack as its caller left it, so that the engine follows from the stub's
//! return address and no frame of ours is left behind.

use crate::{
    base::{guarded, link, startup::Startup, tracer},
    entry::begin,
};
use core::{ffi::c_char, ptr::null_mut};

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: unsafe extern "C" fn() = constructor;

tracer::entry!(constructor, initialize, ());

#[repr(C)]
struct Arguments {
    argc: usize,
    argv: *const *const c_char,
    envp: *const *const c_char,
    thread: *mut tracer::Thread,
}

unsafe extern "C" fn initialize(
    argc: usize,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> *mut tracer::Thread {
    let mut arguments = Arguments { argc: argc as u32 as usize, argv, envp, thread: null_mut() };
    // SAFETY: `body` takes the structure that it gets.
    let result = unsafe { guarded::guarded((&raw mut arguments) as usize, body) };
    if result == guarded::FAILED { null_mut() } else { arguments.thread }
}

unsafe extern "C" fn body(arguments: usize) -> usize {
    // SAFETY: `initialize` passes its own structure.
    let arguments = unsafe { &mut *(arguments as *mut Arguments) };
    let glibc = link::find(c"gnu_get_libc_version").is_some();
    let startup = if glibc {
        from_arguments(arguments.argc, arguments.argv, arguments.envp)
    } else {
        // SAFETY: where `environ` points to the initial stack; checked as far as possible.
        unsafe { from_environ() }
    };
    if let Some(startup) = startup {
        arguments.thread = begin::begin(&startup);
    }
    0
}

/// glibc gives constructors what main gets.
fn from_arguments(
    argc: usize,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> Option<Startup> {
    if argv.is_null() || envp.is_null() {
        return None;
    }
    Some(Startup { argc, argv, envp })
}

unsafe fn from_environ() -> Option<Startup> {
    // SAFETY: the object `environ` of libc is a pointer to the environment.
    let envp = unsafe { *(link::find(c"__environ")? as *const *const *const c_char) };
    if envp.is_null() {
        return None;
    }
    // Below envp: the NULL that ends argv, the arguments, argc.
    for argc in 0..100_000usize {
        // SAFETY: the initial stack holds argc below the arguments, so the walk ends there.
        let slot = unsafe { envp.sub(2 + argc) };
        // SAFETY: as above.
        if unsafe { *slot } as usize == argc {
            // SAFETY: found argc; argv starts behind it.
            return from_arguments(argc, unsafe { slot.add(1) }, envp);
        }
    }
    None
}
