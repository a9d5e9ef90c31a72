//! Signals by number (signal(7)), and the sets of them that the engine treats alike.

pub const SIGILL: i32 = 4;
pub const SIGTRAP: i32 = 5;
pub const SIGBUS: i32 = 7;
pub const SIGFPE: i32 = 8;
pub const SIGSEGV: i32 = 11;
pub const SIGSYS: i32 = 31;
/// Signals of a copy from the application's memory that faults: never blocked while the engine works.
pub const FAULTS: u64 = 1 << (SIGBUS - 1) | 1 << (SIGSEGV - 1);
/// Signals that end a process with a core file, unless it sets a handler (signal(7)): QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV,
/// SYS, XCPU, XFSZ. The core file is to show the application's registers.
pub const LEAVING_A_CORE: [i32; 10] =
    [3, SIGILL, SIGTRAP, 6, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, 24, 25];
/// Signals that instructions of the handler raise.
pub const SYNCHRONOUS: u64 = 1 << (SIGILL - 1)
    | 1 << (SIGTRAP - 1)
    | 1 << (SIGBUS - 1)
    | 1 << (SIGFPE - 1)
    | 1 << (SIGSEGV - 1);
