//! What Stalker's blocks are made of: the application's instructions and what counts them.

use engine::foreign::{End, Guarded, Insertion, Refusal, Source};
use engine::{Notice, Redirect};
use frida_gum::instruction_writer::InstructionWriter;
use frida_gum::stalker::{Instruction, StalkerIterator, StalkerOutput};

use crate::thread::Followed;
use crate::{Tables, syscall};

/// Why a block is left to run natively.
struct Refused(Notice, u64);

/// Makes one block for this thread. Asked to end inside, Stalker forgets the block and goes on natively at its start.
pub fn block(
    thread: &mut Followed,
    mut instructions: StalkerIterator<'_>,
    output: &StalkerOutput<'_>,
) {
    let tracer = thread.tracer();
    let Some(first) = instructions.next() else {
        // Unknown to Stalker's disassembler. It does not say where: its own caller knows.
        return tracer.release(thread, Notice::Untranslatable, 0, Refusal::Undecodable as u64);
    };
    let pc = first.instr().address();
    match tracer.host.redirect(pc) {
        Redirect::Follow => {}
        Redirect::To(next) => return go_on_at(next, &instructions, output),
        Redirect::Native | Redirect::Leave => {
            first.keep();
            instructions.for_each(|instruction| instruction.keep());
            return;
        }
    }
    let made = tracer.with_tables(|tables| {
        if tables.insertion.memory() > tracer.limits.memory {
            return Err(Refused(Notice::MemoryLimit, tracer.limits.memory as u64));
        }
        let limit = match tables.code.lookup(pc, &Guarded::new()) {
            Some((Source::Stable, end)) => end,
            Some(_) => return Err(Refused(Notice::Untranslatable, Refusal::Unsupported as u64)),
            None => return Err(Refused(Notice::NotExecutable, 0)),
        };
        is_safe(&mut tables.insertion, pc, limit)?;
        fill(thread, tables, pc, limit, first, &mut instructions, output)
    });
    if let Err(Refused(notice, detail)) = made {
        tracer.release(thread, notice, pc, detail);
    }
}

/// A function of the host's stands before `next`: returns there. Entered by a call, so nothing lives below the stack.
fn go_on_at(next: u64, instructions: &StalkerIterator<'_>, output: &StalkerOutput<'_>) {
    let [low, high] = [next as u32, (next >> 32) as u32].map(u32::to_le_bytes);
    let writer = output.writer();
    writer.put_bytes(&[0x68, low[0], low[1], low[2], low[3]]); // push imm32
    writer.put_bytes(&[0xc7, 0x44, 0x24, 4, high[0], high[1], high[2], high[3]]); // mov dword [rsp+4], imm32
    instructions.put_chaining_return();
}

/// Whether Stalker may have everything up to the next branch: its block ends there, ours may end before.
fn is_safe(insertion: &mut Insertion, pc: u64, limit: u64) -> Result<(), Refused> {
    use engine::foreign::Mnemonic::{Jecxz, Jrcxz, Loop, Loope, Loopne, Popf, Popfq};
    let mut at = pc;
    loop {
        // SAFETY: the kernel says that the mapping is readable up to `limit`.
        let (end, next) = unsafe { insertion.look(at, limit) }
            .map_err(|refusal| Refused(Notice::Untranslatable, refusal as u64))?;
        // LOOP is copied with its displacement as it is; popf may set AC, with which Stalker's own code faults.
        let wrong = insertion.instructions().iter().any(|instruction| {
            matches!(instruction.mnemonic(), Loop | Loope | Loopne | Popf | Popfq | Jecxz | Jrcxz)
        });
        // Behind a trap Stalker would read on; natively its handler sees the true address.
        if wrong || end == End::Trap {
            return Err(Refused(Notice::Untranslatable, Refusal::Unsupported as u64));
        }
        if !matches!(end, End::Cut | End::Syscall) || next >= limit {
            return Ok(());
        }
        at = next;
    }
}

/// Writes the block: its instructions, the code that counts them, the callouts around system calls.
fn fill(
    thread: &mut Followed,
    tables: &mut Tables,
    pc: u64,
    limit: u64,
    first: Instruction<'_>,
    instructions: &mut StalkerIterator<'_>,
    output: &StalkerOutput<'_>,
) -> Result<(), Refused> {
    let here = &raw mut *thread as usize;
    let mut pending = Some(first);
    let mut at = pc;
    loop {
        // SAFETY: `is_safe` has looked at the same bytes.
        let Ok((end, next)) = (unsafe { tables.insertion.look(at, limit) }) else { return Ok(()) };
        tables.insertion.begin().ok_or(Refused(Notice::MemoryLimit, 0))?;
        tables.code.translated(at, next);
        let count = tables.insertion.instructions().len();
        for index in 0..count {
            let ip = tables.insertion.instructions()[index].ip();
            let Some(instruction) = pending.take().or_else(|| instructions.next()) else {
                return end_early(tables, ip, limit, index, output);
            };
            if instruction.instr().address() != ip {
                return Err(Refused(Notice::Untranslatable, Refusal::Undecodable as u64));
            }
            put(output, tables.insertion.before(index).bytes());
            let is_syscall = end == End::Syscall && index + 1 == count;
            if is_syscall {
                instruction.put_callout(move |context| syscall::before(here, context));
            }
            instruction.keep();
            if is_syscall {
                instruction.put_callout(move |context| syscall::after(here, context));
            }
            put(output, tables.insertion.after(index).bytes());
        }
        // Stalker's block may go on behind ours, even behind a call (of the next instruction).
        let Some(instruction) = instructions.next() else {
            let goes_on = matches!(end, End::Cut | End::Syscall);
            return if goes_on { end_early(tables, next, limit, 0, output) } else { Ok(()) };
        };
        at = instruction.instr().address();
        pending = Some(instruction);
        if !matches!(end, End::Cut | End::Syscall) {
            is_safe(&mut tables.insertion, at, limit)?;
        }
    }
}

fn put(output: &StalkerOutput<'_>, code: &[u8]) {
    if !code.is_empty() {
        output.writer().put_bytes(code);
    }
}

/// Stalker gives no more instructions, `kept` of the present block were kept: its memory is full and it goes on
/// elsewhere with a block that begins at `ip`, or it does not know what is there.
fn end_early(
    tables: &mut Tables,
    ip: u64,
    limit: u64,
    kept: usize,
    output: &StalkerOutput<'_>,
) -> Result<(), Refused> {
    if !is_known(ip, limit) {
        return Err(Refused(Notice::Untranslatable, Refusal::Undecodable as u64));
    }
    if kept > 0
        && let Some(code) = tables.insertion.cut(kept)
    {
        put(output, code.bytes());
    }
    Ok(())
}

/// Whether Stalker's disassembler knows the instruction at `ip`.
fn is_known(ip: u64, limit: u64) -> bool {
    use frida_gum_sys::{_frida_cs_close, _frida_cs_disasm, _frida_cs_free, _frida_cs_open};
    let mut handle = 0;
    let mut instruction = core::ptr::null_mut();
    // SAFETY: capstone's calls in their order; the bytes are readable up to `limit`.
    unsafe {
        let (x86, mode_64) =
            (frida_gum_sys::cs_arch_CS_ARCH_X86, frida_gum_sys::cs_mode_CS_MODE_64);
        if _frida_cs_open(x86, mode_64, &raw mut handle) != 0 {
            return false;
        }
        let len = (limit - ip).min(15) as usize;
        let known = _frida_cs_disasm(handle, ip as *const u8, len, ip, 1, &raw mut instruction);
        if known > 0 {
            _frida_cs_free(instruction, known);
        }
        _frida_cs_close(&raw mut handle);
        known > 0
    }
}

/// The kernel was told to change memory; whether translated code may lie there.
pub fn memory_changed(thread: &Followed, start: u64, len: u64) -> bool {
    let tracer = thread.tracer();
    tracer.with_tables(|tables| tables.code.changed(start, len))
}
