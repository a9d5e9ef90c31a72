//! Next definitions: what a hook forwards to, found in the loader's list of objects.
//!
//! The list comes from `dl_iterate_phdr`, a weak import; the order is the loader's search order, so the
//! first definition in an object after this library is what the application would have called without
//! it, another preloaded library's included.

use core::{
    arch::asm,
    ffi::{c_int, c_void},
};
use guest::dynamic_symbols::{Name, Symbols};

#[repr(C)]
struct ObjectInfo {
    base: usize,
    name: *const u8,
    headers: *const ProgramHeader,
    header_count: u16,
}

#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

type Visit = unsafe extern "C" fn(*const ObjectInfo, usize, *mut c_void) -> c_int;
type Iterate = unsafe extern "C" fn(Visit, *mut c_void) -> c_int;

fn dl_iterate_phdr() -> Option<Iterate> {
    let address: usize;
    // SAFETY: a weak import: the loader put the function's address into the GOT, or zero.
    unsafe {
        asm!(".weak dl_iterate_phdr", "mov {0}, qword ptr [rip + dl_iterate_phdr@GOTPCREL]",
            out(reg) address, options(pure, readonly, nostack, preserves_flags));
        core::mem::transmute::<usize, Option<Iterate>>(address)
    }
}

struct Walk<'a> {
    passed_self: bool,
    visit: &'a mut dyn FnMut(&Symbols) -> bool,
}

unsafe extern "C" fn visit_object(
    info: *const ObjectInfo,
    _size: usize,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the loader gives a description that is valid during the call, and hands our data through.
    let (info, walk) = unsafe { (&*info, &mut *data.cast::<Walk<'_>>()) };
    // SAFETY: as many headers as the description says.
    let headers = unsafe { core::slice::from_raw_parts(info.headers, info.header_count.into()) };
    if !walk.passed_self {
        let own = visit_object as *const () as usize;
        walk.passed_self = headers.iter().any(|header| {
            let start = info.base.wrapping_add(header.address as usize);
            header.kind == PT_LOAD && own.wrapping_sub(start) < header.memory_size as usize
        });
        return 0;
    }
    let Some(dynamic) = headers.iter().find(|header| header.kind == PT_DYNAMIC) else { return 0 };
    let dynamic = info.base.wrapping_add(dynamic.address as usize) as *const u8;
    // SAFETY: the loader's list holds mapped objects only, and its lock is held during the walk.
    match unsafe { Symbols::new(info.base, dynamic) } {
        Some(symbols) => c_int::from((walk.visit)(&symbols)),
        None => 0,
    }
}

/// Visits the symbols of each object after this library, until `visit` says true.
pub fn each_later_object(visit: &mut dyn FnMut(&Symbols) -> bool) {
    let Some(iterate) = dl_iterate_phdr() else { return };
    let mut walk = Walk { passed_self: false, visit };
    // SAFETY: the callback fits the data, which outlives the call.
    unsafe { iterate(visit_object, (&raw mut walk).cast()) };
}

/// The next definition of a function or object, after this library's own.
///
/// Takes the loader's lock: not for signal handlers.
pub fn find(name: &core::ffi::CStr) -> Option<usize> {
    let name = Name::new(name);
    let mut found = None;
    each_later_object(&mut |symbols| {
        found = symbols.address(name);
        found.is_some()
    });
    found
}

/// Where this library is mapped: the lowest address and the one past the highest.
pub fn own_range() -> (usize, usize) {
    let (start, end): (usize, usize);
    // SAFETY: the linker defines both symbols in this object; only their addresses are taken.
    unsafe {
        asm!(
            ".hidden __ehdr_start", ".hidden _end",
            "lea {0}, [rip + __ehdr_start]", "lea {1}, [rip + _end]",
            out(reg) start, out(reg) end, options(pure, nomem, nostack, preserves_flags));
    }
    (start, end)
}
