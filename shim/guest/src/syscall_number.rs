//! x86-64 system-call numbers (`arch/x86/entry/syscalls/syscall_64.tbl` of the Linux kernel).

macro_rules! numbers {
    ($( $name:ident = $number:literal; )*) => { $(
        #[doc = concat!("`", stringify!($name), "`")]
        pub const $name: u64 = $number;
    )* };
}

numbers! {
    READ = 0;
    WRITE = 1;
    OPEN = 2;
    CLOSE = 3;
    FSTAT = 5;
    MMAP = 9;
    MUNMAP = 11;
    RT_SIGPROCMASK = 14;
    PREAD64 = 17;
    PWRITE64 = 18;
    READV = 19;
    WRITEV = 20;
    ACCESS = 21;
    SCHED_YIELD = 24;
    MADVISE = 28;
    GETPID = 39;
    SENDFILE = 40;
    SENDTO = 44;
    RECVFROM = 45;
    SENDMSG = 46;
    RECVMSG = 47;
    CLONE = 56;
    FORK = 57;
    VFORK = 58;
    EXECVE = 59;
    EXIT = 60;
    UNAME = 63;
    FTRUNCATE = 77;
    GETCWD = 79;
    CHDIR = 80;
    MKDIR = 83;
    CREAT = 85;
    READLINK = 89;
    FCHMOD = 91;
    FCHOWN = 93;
    UMASK = 95;
    GETUID = 102;
    ARCH_PRCTL = 158;
    GETEUID = 107;
    GETEGID = 108;
    GETPPID = 110;
    STATFS = 137;
    PRCTL = 157;
    GETTID = 186;
    FUTEX = 202;
    GETDENTS64 = 217;
    CLOCK_GETTIME = 228;
    EXIT_GROUP = 231;
    TGKILL = 234;
    OPENAT = 257;
    NEWFSTATAT = 262;
    UNLINKAT = 263;
    UNSHARE = 272;
    SPLICE = 275;
    FALLOCATE = 285;
    PREADV = 295;
    PWRITEV = 296;
    RECVMMSG = 299;
    SENDMMSG = 307;
    GETRANDOM = 318;
    SETNS = 308;
    PROCESS_VM_READV = 310;
    EXECVEAT = 322;
    COPY_FILE_RANGE = 326;
    PREADV2 = 327;
    PWRITEV2 = 328;
    CLONE3 = 435;
    CLOSE_RANGE = 436;
    OPENAT2 = 437;
}
