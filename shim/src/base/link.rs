//! Next definitions: what a hook forwards to, found in the loader's list of objects.
//!
//! The list comes from `dl_iterate_phdr`, a weak import; the order is the loader's search order, so the
//! first definition in an object after this library is what the application would have called without
//! it, another preloaded library's included. A library that `analyzer rewrite` made brings this one in behind
//! libc: then nobody calls the hooks, and what is looked for is found before this library.

use core::{
    arch::asm,
    ffi::{c_int, c_void},
};
use guest::{
    dynamic_symbols::{Name, Symbols},
    rewritten,
};

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
const PT_NOTE: u32 = 4;

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

/// One object of the loader's list.
struct Object<'a> {
    base: usize,
    headers: &'a [ProgramHeader],
}

impl Object<'_> {
    fn address(&self, header: &ProgramHeader) -> usize {
        self.base.wrapping_add(header.address as usize)
    }

    fn is_this_library(&self) -> bool {
        let own = visit_object as *const () as usize;
        self.headers.iter().any(|header| {
            let start = self.address(header);
            header.kind == PT_LOAD && own.wrapping_sub(start) < header.memory_size as usize
        })
    }

    fn symbols(&self) -> Option<Symbols> {
        let dynamic = self.headers.iter().find(|header| header.kind == PT_DYNAMIC)?;
        // SAFETY: the loader's list holds mapped objects only, and its lock is held during the walk.
        unsafe { Symbols::new(self.base, self.address(dynamic) as *const u8) }
    }

    fn is_rewritten(&self) -> bool {
        self.headers.iter().filter(|header| header.kind == PT_NOTE).any(|header| {
            let (start, size) = (self.address(header) as *const u8, header.memory_size as usize);
            // SAFETY: note segments are part of a loaded one, and the object is mapped as above.
            rewritten::is_mark(unsafe { core::slice::from_raw_parts(start, size) })
        })
    }
}

struct Walk<'a> {
    visit: &'a mut dyn FnMut(&Object<'_>) -> bool,
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
    c_int::from((walk.visit)(&Object { base: info.base, headers }))
}

/// Visits every loaded object in search order, until `visit` says true.
fn each_object(visit: &mut dyn FnMut(&Object<'_>) -> bool) {
    let Some(iterate) = dl_iterate_phdr() else { return };
    let mut walk = Walk { visit };
    // SAFETY: the callback fits the data, which outlives the call.
    unsafe { iterate(visit_object, (&raw mut walk).cast()) };
}

/// Visits the symbols of each object after this library, until `visit` says true.
fn each_later_object(visit: &mut dyn FnMut(&Symbols) -> bool) -> bool {
    let (mut passed_self, mut done) = (false, false);
    each_object(&mut |object| {
        if passed_self {
            done = object.symbols().is_some_and(|symbols| visit(&symbols));
        }
        passed_self |= object.is_this_library();
        done
    });
    done
}

/// Visits the symbols of each object after this library, then of those before it, until `visit` says true.
pub fn each_other_object(visit: &mut dyn FnMut(&Symbols) -> bool) {
    if !each_later_object(visit) {
        each_object(&mut |object| {
            object.is_this_library() || object.symbols().is_some_and(|symbols| visit(&symbols))
        });
    }
}

/// Whether `analyzer rewrite` made one of the loaded objects.
pub fn is_rewritten() -> bool {
    let mut found = false;
    each_object(&mut |object| {
        found = object.is_rewritten();
        found
    });
    found
}

/// Whether another copy of this library stands behind this one: two files of it, one preloaded and one
/// needed by a rewritten program. That one is initialised first, and counts.
pub fn is_replaced() -> bool {
    // A JVM agent that takes libc's place: nothing else is both.
    const OWN: [Name<'_>; 2] = [Name::new(c"Agent_OnLoad"), Name::new(c"__libc_start_main")];
    each_later_object(&mut |symbols| OWN.iter().all(|name| symbols.address(*name).is_some()))
}

/// The next definition of a function or object, after this library's own; else one before it.
///
/// Takes the loader's lock: not for signal handlers, and not for what the engine asks while others wait to translate
/// ([`engine::contract::Client::redirect`]): the lock's holder may be one of them.
pub fn find(name: &core::ffi::CStr) -> Option<usize> {
    let name = Name::new(name);
    let mut found = None;
    each_other_object(&mut |symbols| {
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
