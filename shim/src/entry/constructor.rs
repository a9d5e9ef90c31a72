//! The constructor: the first code of this library in a process.
//!
//! `-z initfirst` makes it run before every other constructor. glibc calls constructors with argc, argv
//! and envp; musl calls them with nothing, but has set `environ` by then, and argv lies below envp on the
//! initial stack. [`initialize`] returns the engine's thread if counting starts here; the stub then jumps
//! into the engine with the stack as its caller left it, so that the engine follows from the stub's
//! return address and no frame of ours is left behind.

use crate::{
    base::{guarded, link},
    client::tracer,
    entry::process,
};
use core::{
    arch::asm,
    ffi::{CStr, c_char},
    ptr::null_mut,
};

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: unsafe extern "C" fn() = constructor;

tracer::entry!(constructor, initialize, ());

/// What the process was started with. The pointers are into the initial stack and stay valid.
#[derive(Clone, Copy)]
pub struct Startup {
    /// Number of arguments.
    pub argc: usize,
    /// The arguments.
    pub argv: *const *const c_char,
    /// The environment, NULL-terminated.
    pub envp: *const *const c_char,
}

impl Startup {
    /// The arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &'static CStr> + use<'_> {
        // SAFETY: argv has argc valid strings.
        (0..self.argc).map_while(|index| unsafe { string(*self.argv.add(index)) })
    }

    /// The environment, as `NAME=value`.
    pub fn environment(&self) -> impl Iterator<Item = &'static CStr> + use<'_> {
        // SAFETY: envp is NULL-terminated and `map_while` stops there.
        (0..).map_while(|index| unsafe { string(*self.envp.add(index)) })
    }

    /// The value of an entry of the auxiliary vector (getauxval(3)); 0 = absent.
    ///
    /// libc is asked: the vector lies behind the environment on the initial stack, but in set-uid programs
    /// glibc takes variables out and leaves a gap of old pointers in between.
    pub fn auxiliary(&self, kind: u64) -> Option<u64> {
        let address: usize;
        // SAFETY: a weak import: the loader put the function's address into the GOT, or zero.
        let getauxval: Option<unsafe extern "C" fn(u64) -> u64> = unsafe {
            asm!(".weak getauxval", "mov {0}, qword ptr [rip + getauxval@GOTPCREL]",
                out(reg) address, options(pure, readonly, nostack, preserves_flags));
            core::mem::transmute(address)
        };
        // SAFETY: libc's own function; it reads what the loader noted at the start.
        getauxval.map(|getauxval| unsafe { getauxval(kind) })
    }
}

unsafe fn string(pointer: *const c_char) -> Option<&'static CStr> {
    // SAFETY: the caller's pointer is null or a string that lives as long as the process.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
}

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
        arguments.thread = process::begin(&startup);
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
