//! The oracle: counts the instructions that a program retires, by PTRACE_SINGLESTEP.
//!
//! # What a step is
//! With EFLAGS.TF set by the kernel, the CPU traps after every instruction it retires, so the number of
//! stops is the number of instructions, with these artefacts (measured, and corrected here):
//! - a REP-prefixed string instruction traps after each iteration: it counts once, and its iterations
//!   are its memory accesses;
//! - `mov ss` holds the trap back until the next instruction is done: that stop counts two (Intel SDM
//!   volume 3, 6.8.3 "Masking Exceptions and Interrupts When Switching Stacks");
//! - `pushf` stores TF = 1: the bit is cleared in the stored image, as the program would have found it;
//! - a stop for a signal, and the stop at a handler's first instruction, retire nothing.
//!
//! # Limitations
//! Every thread is stepped, as if each had a processor of its own; children run uncounted. About 10 us a step. Programs
//! whose threads or signals race have no count of their own: those under this oracle wait in system calls.

use std::collections::{BTreeSet, HashMap};
use std::ops::{Index, IndexMut};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::ExitStatus;

use records::metric::{ENGINE_COUNT, EngineMetric};

use crate::elf::Executable;
use crate::run::{Captured, Quiet};
use crate::weight::{Weight, weigh};

/// What a program did from the starting point to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// A value per metric, by the public rules (see [`crate::weight`]).
    metrics: [u64; ENGINE_COUNT],
    /// Stops of the stepper, before any correction.
    pub steps: u64,
    /// Instructions whose number of accesses depends on a mask that the oracle does not evaluate: where
    /// this is not 0, reads and writes are lower bounds.
    pub accesses_vary: u64,
    /// Those, and the ones whose bytes depend on a mask: likewise for bytes.
    pub bytes_vary: u64,
}

impl Index<EngineMetric> for Count {
    type Output = u64;

    fn index(&self, metric: EngineMetric) -> &u64 {
        &self.metrics[metric as usize]
    }
}

impl IndexMut<EngineMetric> for Count {
    fn index_mut(&mut self, metric: EngineMetric) -> &mut u64 {
        &mut self.metrics[metric as usize]
    }
}

impl Count {
    /// What somebody else has counted, metric by metric.
    pub fn of(value: impl Fn(&str) -> u64) -> Count {
        let metrics = EngineMetric::ALL.map(|metric| value(metric.name()));
        Count { metrics, ..Count::default() }
    }

    /// Instructions retired at user level.
    pub fn instructions(&self) -> u64 {
        self[EngineMetric::Instructions]
    }

    fn add(&mut self, weight: &Weight) {
        self[EngineMetric::Instructions] += 1;
        self[EngineMetric::Barriers] += u64::from(weight.barriers);
        self.add_accesses(weight);
    }

    /// What retired between two stops, of which the first was at this instruction.
    fn step(
        &mut self,
        weight: &Weight,
        before: &libc::user_regs_struct,
        after: &libc::user_regs_struct,
    ) {
        if !weight.rep {
            self.add(weight);
            return;
        }
        let mask = if weight.short_count { u64::from(u32::MAX) } else { u64::MAX };
        if before.rcx & mask != 0 {
            self.add_accesses(weight);
        }
        self[EngineMetric::Instructions] += u64::from(after.rip != before.rip);
    }

    /// `self - earlier`, for two runs of one program with more and fewer passes.
    pub fn minus(&self, earlier: &Self) -> Self {
        Self {
            metrics: std::array::from_fn(|at| self.metrics[at].wrapping_sub(earlier.metrics[at])),
            steps: self.steps.wrapping_sub(earlier.steps),
            accesses_vary: self.accesses_vary.wrapping_sub(earlier.accesses_vary),
            bytes_vary: self.bytes_vary.wrapping_sub(earlier.bytes_vary),
        }
    }

    /// Where `ours` differs from this oracle, in words; empty when equal. Reads and writes are compared
    /// only where the oracle knows them all.
    pub fn differences(&self, ours: &Self) -> String {
        let is_known = |metric: &EngineMetric| match metric {
            EngineMetric::MemoryReads | EngineMetric::MemoryWrites => self.accesses_vary == 0,
            EngineMetric::MemoryBytesRead | EngineMetric::MemoryBytesWritten => {
                self.bytes_vary == 0
            }
            _ => true,
        };
        EngineMetric::ALL
            .into_iter()
            .filter(is_known)
            .map(|metric| (metric.name(), self[metric], ours[metric]))
            .filter(|(_, oracle, ours)| oracle != ours)
            .map(|(name, oracle, ours)| {
                format!(
                    "{name} {ours}, single steps {oracle} ({:+})",
                    ours.wrapping_sub(oracle) as i64
                )
            })
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn add_accesses(&mut self, weight: &Weight) {
        self[EngineMetric::MemoryReads] += u64::from(weight.reads);
        self[EngineMetric::MemoryWrites] += u64::from(weight.writes);
        self[EngineMetric::MemoryBytesRead] += u64::from(weight.bytes_read);
        self[EngineMetric::MemoryBytesWritten] += u64::from(weight.bytes_written);
        self.accesses_vary += u64::from(weight.accesses_vary);
        self.bytes_vary += u64::from(weight.bytes_vary);
    }
}

/// A counted run: the counts, what the program printed, how it ended.
#[derive(Debug)]
pub struct Stepped {
    /// The counts.
    pub count: Count,
    /// Where an instruction was executed, as addresses without the executable's load bias.
    pub visited: BTreeSet<u64>,
    /// What it printed.
    pub captured: Captured,
    /// Its exit status.
    pub status: ExitStatus,
}

/// Where counting starts.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// The first time this symbol of the executable is reached (its first instruction is counted).
    Symbol(&'a str),
    /// The first instruction after exec: the dynamic loader's.
    Exec,
}

/// Runs `program` and counts from `start` to the program's end, its last system call included.
///
/// # Errors
/// A line that says what the kernel refused or what was not found.
pub fn count(program: &Path, arguments: &[&str], start: Start<'_>) -> Result<Stepped, String> {
    count_with(program, arguments, start, None)
}

/// [`count`] with a library preloaded. A program that looks through its loaded libraries, as the
/// unwinder of C++ exceptions does, takes other paths when there is one more of them.
///
/// # Errors
/// As [`count`].
pub fn count_with(
    program: &Path,
    arguments: &[&str],
    start: Start<'_>,
    preload: Option<&Path>,
) -> Result<Stepped, String> {
    let mut quiet = Quiet::new(program, arguments)?;
    if let Some(library) = preload {
        quiet.command().env("LD_PRELOAD", library);
    }
    // SAFETY: between fork and exec the closure makes one system call and touches no memory.
    unsafe {
        quiet.command().pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let child =
        quiet.command().spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let tracee = Tracee { pid: child.id().cast_signed() };
    if !libc::WIFSTOPPED(tracee.wait()?) {
        return Err(format!("{}: ended before its first instruction", program.display()));
    }
    // The child dies with us: a failing test leaves nothing behind.
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACECLONE;
    tracee.request(libc::PTRACE_SETOPTIONS, options as u64)?;
    if let Start::Symbol(name) = start {
        let executable = Executable::read(program)?;
        let address = executable
            .symbol(name)
            .ok_or_else(|| format!("{}: no symbol {name}", program.display()))?;
        let bias = tracee.entry()?.wrapping_sub(executable.entry);
        tracee.run_to(bias.wrapping_add(address))?;
    }
    let bias = tracee.entry()?.wrapping_sub(Executable::read(program)?.entry);
    let (count, places, status) = step_to_end(&tracee)?;
    let visited = places.into_iter().map(|place| place.wrapping_sub(bias)).collect();
    Ok(Stepped {
        count,
        visited,
        captured: quiet.captured()?,
        status: ExitStatus::from_raw(status),
    })
}

/// A thread under the stepper.
struct Task {
    /// Its registers at the last stop.
    before: libc::user_regs_struct,
    /// The instruction there, as it was then.
    weight: Weight,
    /// The signal that it gets when it goes on.
    signal: u64,
    /// New: it stops once more on its way out of the call that made it.
    fresh: bool,
}

/// Single-steps a stopped process, and each thread that it makes, until it is gone; the count, the addresses of
/// executed instructions and its wait status.
fn step_to_end(leader: &Tracee) -> Result<(Count, BTreeSet<u64>, i32), String> {
    // By its bytes, not by its address: a program may change its code.
    let mut decoded: HashMap<Vec<u8>, Weight> = HashMap::new();
    let mut visited = BTreeSet::new();
    let mut weight_at = |address: u64| {
        visited.insert(address);
        let bytes = leader.read(address);
        *decoded.entry(bytes).or_insert_with_key(|bytes| weigh(bytes, address))
    };
    let mut count = Count::default();
    let before = leader.registers()?;
    let task = Task { before, weight: weight_at(before.rip), signal: 0, fresh: false };
    let mut tasks = HashMap::from([(leader.pid, task)]);
    leader.request(libc::PTRACE_SINGLESTEP, 0)?;
    loop {
        let (tracee, status) = Tracee::wait_for_any()?;
        if !libc::WIFSTOPPED(status) {
            if let Some(task) = tasks.remove(&tracee.pid) {
                // The `syscall` of exit and exit_group never traps; it is part of the program.
                count.steps += 1;
                count.add(&task.weight);
            }
            if tracee.pid == leader.pid {
                return Ok((count, visited, status));
            }
            continue;
        }
        let Some(task) = tasks.get_mut(&tracee.pid) else {
            let before = tracee.registers()?;
            let task = Task { before, weight: weight_at(before.rip), signal: 0, fresh: true };
            tasks.insert(tracee.pid, task);
            tracee.request(libc::PTRACE_SINGLESTEP, 0)?;
            continue;
        };
        let is_event = status >> 16 != 0;
        if !is_event {
            count.steps += 1;
            let after = tracee.registers()?;
            let before = std::mem::replace(&mut task.before, after);
            let signalled = std::mem::take(&mut task.signal) != 0;
            let stop = libc::WSTOPSIG(status);
            let weight = task.weight;
            let left_the_call = std::mem::take(&mut task.fresh) && before.rip == after.rip;
            if stop != libc::SIGTRAP {
                // The signal came before the instruction, or instead of it.
                task.signal = stop as u64;
            } else if left_the_call || (signalled && tracee.stop_code()? == HANDLER_ENTERED) {
            } else if tracee.stop_code()? == SI_KERNEL {
                // INT3 itself, and its signal.
                count.add(&weight);
                task.signal = stop as u64;
            } else {
                count.step(&weight, &before, &after);
                if weight.hides_next {
                    count.add(&weight_at(before.rip + u64::from(weight.length)));
                }
                if weight.pushes_flags {
                    tracee.clear_pushed_trap_flag(after.rsp)?;
                }
            }
            task.weight = weight_at(after.rip);
        }
        tracee.request(libc::PTRACE_SINGLESTEP, if is_event { 0 } else { task.signal })?;
    }
}

/// `si_code` of the stop at a handler's first instruction: ptrace_notify in kernel/signal.c gives the signal.
const HANDLER_ENTERED: i32 = libc::SIGTRAP;
/// `si_code` of INT3's signal.
const SI_KERNEL: i32 = 0x80;

/// A process stopped under ptrace, our child.
struct Tracee {
    pid: libc::pid_t,
}

impl Tracee {
    /// A ptrace request without address and without memory of ours.
    fn request(&self, request: libc::c_uint, data: u64) -> Result<(), String> {
        // SAFETY: the requests used (SINGLESTEP, CONT, SETOPTIONS) take numbers, no pointers.
        match unsafe { libc::ptrace(request, self.pid, 0, data) } {
            -1 => Err(format!("ptrace({request}): {}", std::io::Error::last_os_error())),
            _ => Ok(()),
        }
    }

    fn wait(&self) -> Result<i32, String> {
        let mut status = 0;
        // SAFETY: status is a valid place for an int.
        while unsafe { libc::waitpid(self.pid, &raw mut status, 0) } == -1 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(format!("waitpid: {error}"));
            }
        }
        Ok(status)
    }

    fn registers(&self) -> Result<libc::user_regs_struct, String> {
        // SAFETY: a structure of integers, for which zero is a value; GETREGS fills it.
        unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            match libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers) {
                -1 => Err(format!("PTRACE_GETREGS: {}", std::io::Error::last_os_error())),
                _ => Ok(registers),
            }
        }
    }

    /// The next child or thread of one that has something to tell; only what this thread of ours has started.
    fn wait_for_any() -> Result<(Self, i32), String> {
        let mut status = 0;
        loop {
            // SAFETY: status is a valid place for an int.
            match unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) } {
                -1 => {
                    let error = std::io::Error::last_os_error();
                    if error.kind() != std::io::ErrorKind::Interrupted {
                        return Err(format!("waitpid: {error}"));
                    }
                }
                pid => return Ok((Self { pid }, status)),
            }
        }
    }

    /// `si_code` of the present stop.
    fn stop_code(&self) -> Result<i32, String> {
        // SAFETY: siginfo_t is plain data; GETSIGINFO fills it.
        unsafe {
            let mut information: libc::siginfo_t = std::mem::zeroed();
            match libc::ptrace(libc::PTRACE_GETSIGINFO, self.pid, 0, &raw mut information) {
                -1 => Err(format!("PTRACE_GETSIGINFO: {}", std::io::Error::last_os_error())),
                _ => Ok(information.si_code),
            }
        }
    }

    /// Up to 15 bytes of code; fewer at the end of a mapping.
    fn read(&self, address: u64) -> Vec<u8> {
        let mut bytes = vec![0u8; 15];
        let to_page_end = (4096 - (address % 4096) as usize).min(15);
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 15 };
        let parts = [(address, to_page_end), (address + to_page_end as u64, 15 - to_page_end)];
        let remote =
            parts.map(|(at, len)| libc::iovec { iov_base: at as *mut libc::c_void, iov_len: len });
        // SAFETY: local describes `bytes`; remote addresses are checked by the kernel.
        let got =
            unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, remote.as_ptr(), 2, 0) };
        bytes.truncate(usize::try_from(got).unwrap_or(0));
        bytes
    }

    fn peek(&self, address: u64) -> Result<u64, String> {
        // The libc wrapper returns the word itself, so -1 is told from an error by errno alone.
        // SAFETY: PEEKDATA reads the tracee's memory, none of ours; errno is this thread's own.
        unsafe {
            *libc::__errno_location() = 0;
            let word = libc::ptrace(libc::PTRACE_PEEKDATA, self.pid, address, 0);
            match *libc::__errno_location() {
                0 => Ok(word.cast_unsigned()),
                error => Err(format!("PTRACE_PEEKDATA at {address:#x}: errno {error}")),
            }
        }
    }

    fn poke(&self, address: u64, word: u64) -> Result<(), String> {
        // SAFETY: POKEDATA writes the tracee's memory, none of ours.
        match unsafe { libc::ptrace(libc::PTRACE_POKEDATA, self.pid, address, word) } {
            -1 => {
                Err(format!("PTRACE_POKEDATA at {address:#x}: {}", std::io::Error::last_os_error()))
            }
            _ => Ok(()),
        }
    }

    fn clear_pushed_trap_flag(&self, stack_pointer: u64) -> Result<(), String> {
        const TRAP_FLAG: u64 = 1 << 8;
        let word = self.peek(stack_pointer)?;
        self.poke(stack_pointer, word & !TRAP_FLAG)
    }

    /// The executable's entry point as loaded: AT_ENTRY of the auxiliary vector.
    fn entry(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/auxv", self.pid);
        let bytes = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("chunks of 8")))
            .collect();
        words
            .chunks_exact(2)
            .find(|pair| pair[0] == libc::AT_ENTRY)
            .map(|pair| pair[1])
            .ok_or_else(|| format!("{path}: no AT_ENTRY"))
    }

    /// Runs at full speed to `address`, with a breakpoint there that is gone afterwards.
    fn run_to(&self, address: u64) -> Result<(), String> {
        const INT3: u64 = 0xcc;
        let word = self.peek(address)?;
        self.poke(address, word & !0xff | INT3)?;
        self.request(libc::PTRACE_CONT, 0)?;
        let status = self.wait()?;
        if !libc::WIFSTOPPED(status) || libc::WSTOPSIG(status) != libc::SIGTRAP {
            return Err(format!("never came to {address:#x}: wait status {status:#x}"));
        }
        self.poke(address, word)?;
        let mut registers = self.registers()?;
        registers.rip = address;
        // SAFETY: SETREGS reads the structure that GETREGS filled.
        match unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0, &raw const registers) } {
            -1 => Err(format!("PTRACE_SETREGS: {}", std::io::Error::last_os_error())),
            _ => Ok(()),
        }
    }
}
