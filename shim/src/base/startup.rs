//! What the process was started with.

use core::{
    arch::asm,
    ffi::{CStr, c_char},
};

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
