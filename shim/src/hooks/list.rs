//! The functions that have hooks, and their next definitions.

use super::errno;
use crate::base::link;
use core::{
    ffi::CStr,
    sync::atomic::{AtomicUsize, Ordering},
};
use guest::dynamic_symbols::Name;

/// The next definition of each hook; 0 = not looked for yet.
pub static NEXT: [AtomicUsize; COUNT] = [const { AtomicUsize::new(0) }; COUNT];

/// Hands all hooks to a macro: the name of the variant, and that of libc's function.
macro_rules! each_hook {
    ($use:ident) => {
        $use! {
            Open = open;
            Open64 = open64;
            Openat = openat;
            Openat64 = openat64;
            Creat = creat;
            Creat64 = creat64;
            Close = close;
            Read = read;
            Pread = pread;
            Pread64 = pread64;
            Readv = readv;
            Preadv = preadv;
            Preadv64 = preadv64;
            Preadv2 = preadv2;
            Preadv64v2 = preadv64v2;
            Write = write;
            Pwrite = pwrite;
            Pwrite64 = pwrite64;
            Writev = writev;
            Pwritev = pwritev;
            Pwritev64 = pwritev64;
            Pwritev2 = pwritev2;
            Pwritev64v2 = pwritev64v2;
            Send = send;
            Sendto = sendto;
            Sendmsg = sendmsg;
            Sendmmsg = sendmmsg;
            Recv = recv;
            Recvfrom = recvfrom;
            Recvmsg = recvmsg;
            Recvmmsg = recvmmsg;
            Sendfile = sendfile;
            Sendfile64 = sendfile64;
            Splice = splice;
            CopyFileRange = copy_file_range;
            Fork = fork;
            Vfork = vfork;
            Execve = execve;
            Execv = execv;
            Execvp = execvp;
            Execvpe = execvpe;
            Execl = execl;
            Execlp = execlp;
            Execle = execle;
            Fexecve = fexecve;
            Execveat = execveat;
            PosixSpawn = posix_spawn;
            PosixSpawnp = posix_spawnp;
            ExitNow = _exit;
            ExitNowC99 = _Exit;
            QuickExit = quick_exit;
            Unshare = unshare;
            Setns = setns;
            Setuid = setuid;
            Setgid = setgid;
            Seteuid = seteuid;
            Setegid = setegid;
            Setreuid = setreuid;
            Setregid = setregid;
            Setresuid = setresuid;
            Setresgid = setresgid;
            Setgroups = setgroups;
            Initgroups = initgroups;
            Setfsuid = setfsuid;
            Setfsgid = setfsgid;
            Capset = capset;
            Prctl = prctl;
            Syscall = syscall;
            Waitpid = waitpid;
            Wait4 = wait4;
            Waitid = waitid;
            LibcStartMain = __libc_start_main;
            PthreadSetname = pthread_setname_np;
            Sigaction = sigaction;
            Signal = signal;
            Mmap = mmap;
            Mmap64 = mmap64;
            Munmap = munmap;
            Mprotect = mprotect;
            PkeyMprotect = pkey_mprotect;
            Mremap = mremap;
            Shmat = shmat;
            Dlclose = dlclose;
        }
    };
}
pub(crate) use each_hook;

macro_rules! list {
    ($( $variant:ident = $name:ident; )*) => {
        /// The hooked functions.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Hook { $( #[doc = concat!("`", stringify!($name), "`")] $variant, )* }

        /// All of them.
        pub const ALL: &[Hook] = &[ $( Hook::$variant ),* ];
        /// How many there are.
        pub const COUNT: usize = ALL.len();
        static NAMES: [Name<'static>; COUNT] = [ $( Name::new(c_name(concat!(stringify!($name), "\0"))) ),* ];
    };
}

each_hook!(list);

const fn c_name(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a function's name ends with its only NUL"),
    }
}

/// Looks for the next definitions of all hooks in one walk over the loaded objects.
pub fn resolve_all() {
    link::each_other_object(&mut |symbols| {
        let mut missing = false;
        errno::look_for(symbols);
        for (next, name) in NEXT.iter().zip(&NAMES) {
            if next.load(Ordering::Relaxed) == 0 {
                match symbols.address(*name) {
                    Some(address) => next.store(address, Ordering::Relaxed),
                    None => missing = true,
                }
            }
        }
        !missing
    });
}
