//! Symbols of a loaded ELF object, found in its dynamic section without the loader's help.
//!
//! `dlsym` lives in libdl before glibc 2.34 and may allocate; the shim looks for the next
//! definition of a function itself. Format: System V ABI (DT_HASH), and the GNU hash table as
//! binutils writes it.
//!
//! # Limitations
//!
//! Of several versions of a symbol the default one is taken (the one without the hidden bit in
//! DT_VERSYM), which is what a program linked today would get.

use core::ffi::CStr;

const DT_NULL: u64 = 0;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
const VERSYM_HIDDEN: u16 = 0x8000;
const STT_OBJECT: u8 = 1;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
const STB_GLOBAL: u8 = 1;
const STB_WEAK: u8 = 2;
const STB_GNU_UNIQUE: u8 = 10;

#[repr(C)]
struct Dyn {
    tag: u64,
    value: u64,
}

#[repr(C)]
struct Sym {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

/// The dynamic symbol table of one loaded object.
pub struct Symbols {
    base: usize,
    strings: *const u8,
    table: *const Sym,
    versions: *const u16,
    hash: *const u32,
    gnu_hash: *const u32,
}

/// A name with its hash values, computed once for many objects.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    text: &'a CStr,
    gnu: u32,
    sysv: u32,
}

impl<'a> Name<'a> {
    /// Hashes the name.
    pub const fn new(text: &'a CStr) -> Name<'a> {
        let bytes = text.to_bytes();
        let (mut gnu, mut sysv) = (5381u32, 0u32);
        let mut index = 0;
        while index < bytes.len() {
            gnu = gnu.wrapping_mul(33).wrapping_add(bytes[index] as u32);
            sysv = (sysv << 4).wrapping_add(bytes[index] as u32);
            let high = sysv & 0xf000_0000;
            sysv = (sysv ^ (high >> 24)) & !high;
            index += 1;
        }
        Name { text, gnu, sysv }
    }
}

impl Symbols {
    /// Reads the dynamic section at `dynamic` of the object loaded at `base`.
    ///
    /// # Safety
    ///
    /// `dynamic` is the PT_DYNAMIC segment of an object that is mapped at `base` and stays so.
    pub unsafe fn new(base: usize, dynamic: *const u8) -> Option<Symbols> {
        let mut symbols = Symbols {
            base,
            strings: core::ptr::null(),
            table: core::ptr::null(),
            versions: core::ptr::null(),
            hash: core::ptr::null(),
            gnu_hash: core::ptr::null(),
        };
        let mut entry = dynamic.cast::<Dyn>();
        loop {
            // SAFETY: the section ends with DT_NULL, where this loop stops.
            let Dyn { tag, value } = unsafe { entry.read() };
            // glibc relocates these pointers in place, musl and the vDSO leave them relative.
            let address =
                if (value as usize) < base { base + value as usize } else { value as usize };
            match tag {
                DT_NULL => break,
                DT_HASH => symbols.hash = address as *const u32,
                DT_GNU_HASH => symbols.gnu_hash = address as *const u32,
                DT_STRTAB => symbols.strings = address as *const u8,
                DT_SYMTAB => symbols.table = address as *const Sym,
                DT_VERSYM => symbols.versions = address as *const u16,
                _ => {}
            }
            // SAFETY: the entry was not the last one.
            entry = unsafe { entry.add(1) };
        }
        let hashed = !symbols.hash.is_null() || !symbols.gnu_hash.is_null();
        (hashed && !symbols.strings.is_null() && !symbols.table.is_null()).then_some(symbols)
    }

    /// The address of the function or data object of this name that the object defines.
    pub fn address(&self, name: Name<'_>) -> Option<usize> {
        // SAFETY: the tables belong to the object that `new` was promised to stay mapped.
        unsafe {
            if self.gnu_hash.is_null() { self.by_sysv_hash(name) } else { self.by_gnu_hash(name) }
        }
    }

    unsafe fn by_gnu_hash(&self, name: Name<'_>) -> Option<usize> {
        let header = self.gnu_hash;
        // SAFETY: the header is four words: buckets, first symbol, bloom words, bloom shift; then
        // the bloom filter, the buckets and the chains.
        unsafe {
            let (buckets, first) = (*header, *header.add(1));
            let (bloom_words, shift) = (*header.add(2), *header.add(3));
            if buckets == 0 || bloom_words == 0 {
                return None;
            }
            let bloom = header.add(4).cast::<u64>();
            let word = *bloom.add((name.gnu / 64 % bloom_words) as usize);
            let mask = 1u64 << (name.gnu % 64) | 1u64 << ((name.gnu >> shift) % 64);
            if word & mask != mask {
                return None;
            }
            let bucket_table = bloom.add(bloom_words as usize).cast::<u32>();
            let chains = bucket_table.add(buckets as usize);
            let mut index = *bucket_table.add((name.gnu % buckets) as usize);
            if index < first {
                return None;
            }
            loop {
                let hash = *chains.add((index - first) as usize);
                if hash | 1 == name.gnu | 1
                    && let Some(address) = self.matching(index, name)
                {
                    return Some(address);
                }
                if hash & 1 == 1 {
                    return None;
                }
                index += 1;
            }
        }
    }

    unsafe fn by_sysv_hash(&self, name: Name<'_>) -> Option<usize> {
        let header = self.hash;
        // SAFETY: two words of header (buckets, chains), then both tables.
        unsafe {
            let buckets = *header;
            if buckets == 0 {
                return None;
            }
            let bucket_table = header.add(2);
            let chains = bucket_table.add(buckets as usize);
            let mut index = *bucket_table.add((name.sysv % buckets) as usize);
            while index != 0 {
                if let Some(address) = self.matching(index, name) {
                    return Some(address);
                }
                index = *chains.add(index as usize);
            }
            None
        }
    }

    /// The symbol's address if it is a definition of this name in its default version.
    unsafe fn matching(&self, index: u32, name: Name<'_>) -> Option<usize> {
        // SAFETY: the index comes from the object's own hash table.
        unsafe {
            let symbol = &*self.table.add(index as usize);
            let (kind, binding) = (symbol.info & 15, symbol.info >> 4);
            let addressable = matches!(kind, STT_OBJECT | STT_FUNC | STT_GNU_IFUNC);
            if symbol.section == 0
                || !addressable
                || !matches!(binding, STB_GLOBAL | STB_WEAK | STB_GNU_UNIQUE)
                || (!self.versions.is_null()
                    && *self.versions.add(index as usize) & VERSYM_HIDDEN != 0)
                || CStr::from_ptr(self.strings.add(symbol.name as usize).cast()) != name.text
            {
                return None;
            }
            let address = self.base + symbol.value as usize;
            if kind == STT_GNU_IFUNC {
                let resolve: extern "C" fn() -> usize = core::mem::transmute(address);
                return Some(resolve());
            }
            Some(address)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Walk {
        name: &'static CStr,
        found: Vec<usize>,
    }

    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader's own description of a mapped object, and the test's own data.
        unsafe {
            let (info, walk) = (&*info, &mut *data.cast::<Walk>());
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            let base = info.dlpi_addr as usize;
            if let Some(dynamic) = headers.iter().find(|h| h.p_type == libc::PT_DYNAMIC)
                && let Some(symbols) =
                    Symbols::new(base, (base + dynamic.p_vaddr as usize) as *const u8)
            {
                walk.found.extend(symbols.address(Name::new(walk.name)));
            }
        }
        0
    }

    fn all_definitions(name: &'static CStr) -> Vec<usize> {
        let mut walk = Walk { name, found: Vec::new() };
        // SAFETY: the callback fits the data.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut walk).cast()) };
        walk.found
    }

    #[test]
    fn finds_what_dlsym_finds() {
        for name in
            [c"read", c"openat", c"posix_spawn", c"fcntl", c"clock_gettime", c"pthread_key_create"]
        {
            // SAFETY: a plain look-up.
            let expected = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as usize;
            assert!(all_definitions(name).contains(&expected), "{name:?}");
        }
    }

    #[test]
    fn the_vdso_is_readable_too() {
        assert!(!all_definitions(c"__vdso_clock_gettime").is_empty());
    }

    #[test]
    fn an_unknown_name_is_not_found() {
        assert!(all_definitions(c"no_such_function_anywhere").is_empty());
    }
}
