//! A walk over a Java method's bytecodes, to find the places where the method is left.
//!
//! Source: The Java Virtual Machine Specification, SE 17, chapter 6 (operand layouts) and 4.7.3 (a
//! method has at most 65,535 bytes).

/// A place where a method is, or may be, left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// One of the return instructions: the method is left.
    Return,
    /// `athrow`: the method is left unless one of its own handlers catches it.
    Throw,
}

const TABLESWITCH: u8 = 0xaa;
const LOOKUPSWITCH: u8 = 0xab;
const IRETURN: u8 = 0xac;
const RETURN: u8 = 0xb1;
const ATHROW: u8 = 0xbf;
const WIDE: u8 = 0xc4;
const IINC: u8 = 0x84;

/// Visits every instruction that leaves the method, with its index in `code`.
///
/// False if the bytes are not a sequence of known instructions up to the last byte: nothing was
/// then understood for sure, and what was visited must not be used.
#[must_use]
pub fn exits(code: &[u8], mut visit: impl FnMut(u32, Exit)) -> bool {
    let mut at = 0usize;
    while at < code.len() {
        let opcode = code[at];
        let Some(length) = instruction_length(code, at) else { return false };
        match opcode {
            IRETURN..=RETURN => visit(at as u32, Exit::Return),
            ATHROW => visit(at as u32, Exit::Throw),
            _ => {}
        }
        at += length;
    }
    at == code.len()
}

/// Bytes of the instruction at `at`; `None` if it is unknown or runs past the end.
fn instruction_length(code: &[u8], at: usize) -> Option<usize> {
    let length = match code[at] {
        TABLESWITCH => {
            let operands = (at | 3) + 1;
            let low = word(code, operands + 4)?;
            let high = word(code, operands + 8)?;
            let entries = i64::from(high) - i64::from(low) + 1;
            if entries < 0 {
                return None;
            }
            operands - at + 12 + usize::try_from(entries).ok()?.checked_mul(4)?
        }
        LOOKUPSWITCH => {
            let operands = (at | 3) + 1;
            let pairs = usize::try_from(word(code, operands + 4)?).ok()?;
            operands - at + 8 + pairs.checked_mul(8)?
        }
        WIDE => match *code.get(at + 1)? {
            IINC => 6,
            _ => 4,
        },
        opcode => fixed_length(opcode)?,
    };
    (at + length <= code.len()).then_some(length)
}

fn word(code: &[u8], at: usize) -> Option<i32> {
    let bytes = code.get(at..at + 4)?;
    Some(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Bytes of an instruction whose length its opcode alone decides; `None` for opcodes that no class
/// file has (0xca and above are reserved for debuggers and the VM).
fn fixed_length(opcode: u8) -> Option<usize> {
    Some(match opcode {
        0x10 | 0x12 => 2,                      // bipush, ldc
        0x11 | 0x13 | 0x14 => 3,               // sipush, ldc_w, ldc2_w
        0x15..=0x19 | 0x36..=0x3a | 0xa9 => 2, // loads, stores, ret
        IINC => 3,
        0x99..=0xa8 => 3, // if*, goto, jsr
        0xb2..=0xb8 => 3, // fields, invokevirtual, invokespecial, invokestatic
        0xb9 | 0xba => 5, // invokeinterface, invokedynamic
        0xbb => 3,        // new
        0xbc => 2,        // newarray
        0xbd => 3,        // anewarray
        0xc0 | 0xc1 => 3, // checkcast, instanceof
        0xc5 => 4,        // multianewarray
        0xc6 | 0xc7 => 3, // ifnull, ifnonnull
        0xc8 | 0xc9 => 5, // goto_w, jsr_w
        0x00..=0xc3 => 1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn found(code: &[u8]) -> Option<Vec<(u32, Exit)>> {
        let mut list = Vec::new();
        exits(code, |at, exit| list.push((at, exit))).then_some(list)
    }

    #[test]
    fn operands_are_not_instructions() {
        // sipush 0xb1b1; ldc 0xbf; bipush 0xb1; return
        assert_eq!(
            found(&[0x11, 0xb1, 0xb1, 0x12, 0xbf, 0x10, 0xb1, 0xb1]),
            Some(std::vec![(7, Exit::Return)])
        );
    }

    #[test]
    fn every_return_and_athrow() {
        assert_eq!(
            found(&[0xac, 0xad, 0xae, 0xaf, 0xb0, 0xb1, 0xbf]),
            Some(std::vec![
                (0, Exit::Return),
                (1, Exit::Return),
                (2, Exit::Return),
                (3, Exit::Return),
                (4, Exit::Return),
                (5, Exit::Return),
                (6, Exit::Throw)
            ])
        );
    }

    #[test]
    fn tableswitch_at_every_alignment() {
        for before in 0..4usize {
            let mut code = std::vec![0u8; before];
            code.push(TABLESWITCH);
            while code.len() % 4 != 0 {
                code.push(0);
            }
            code.extend_from_slice(&0xb1b1_b1b1u32.to_be_bytes()); // default
            code.extend_from_slice(&(-1i32).to_be_bytes());
            code.extend_from_slice(&1i32.to_be_bytes());
            for _ in 0..3 {
                code.extend_from_slice(&0xbfbf_bfbfu32.to_be_bytes());
            }
            let end = code.len() as u32;
            code.push(RETURN);
            assert_eq!(found(&code), Some(std::vec![(end, Exit::Return)]), "{before} bytes before");
        }
    }

    #[test]
    fn lookupswitch_at_every_alignment() {
        for before in 0..4usize {
            let mut code = std::vec![0u8; before];
            code.push(LOOKUPSWITCH);
            while code.len() % 4 != 0 {
                code.push(0xb1);
            }
            code.extend_from_slice(&0u32.to_be_bytes());
            code.extend_from_slice(&2u32.to_be_bytes());
            for _ in 0..4 {
                code.extend_from_slice(&0xb1bf_acadu32.to_be_bytes());
            }
            let end = code.len() as u32;
            code.push(ATHROW);
            assert_eq!(found(&code), Some(std::vec![(end, Exit::Throw)]), "{before} bytes before");
        }
    }

    #[test]
    fn wide_forms() {
        // wide iload 0xb1b1; wide iinc 0xb1b1 by 0xbfbf; areturn
        assert_eq!(
            found(&[WIDE, 0x15, 0xb1, 0xb1, WIDE, IINC, 0xb1, 0xb1, 0xbf, 0xbf, 0xb0]),
            Some(std::vec![(10, Exit::Return)])
        );
    }

    #[test]
    fn damaged_code_is_refused() {
        for code in [
            &[0x11, 0x00][..],                                           // sipush cut short
            &[0xca],                                                     // breakpoint
            &[0xff],                                                     // reserved
            &[TABLESWITCH, 0, 0, 0],                                     // no operands
            &[TABLESWITCH, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1], // high < low
            &[LOOKUPSWITCH, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            &[LOOKUPSWITCH, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
            &[WIDE],
        ] {
            assert_eq!(found(code), None, "{code:02x?}");
        }
    }
}
