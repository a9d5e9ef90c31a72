//! The standard XSAVE format: where each component lies, and what it holds when it is not there.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use crate::random::Random;

/// Largest XSAVE area without AMX.
pub const XSAVE_BYTES: usize = 2752;
/// x87, SSE, AVX, opmask, upper ZMM halves, ZMM16-31 (SDM vol. 1, 13.1).
const COMPONENTS: u64 = 0xe7;
/// Opmask registers, which come with the upper halves of ZMM registers or not at all.
const OPMASK: usize = 5;
/// Upper halves of ZMM0-15.
const ZMM_HIGH: usize = 6;

/// Places of the components.
pub struct Layout {
    /// Offset and length of each component; nothing where this CPU has none.
    components: [(usize, usize); 8],
    /// Those that this CPU and kernel have, a bit each.
    pub present: u64,
    /// All of it.
    pub bytes: usize,
}

/// The components that the kernel has enabled (XCR0).
fn enabled() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: XGETBV of register 0 is there where XSAVE is, which every CPU with the AVX that the harness asks for has.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// This CPU's layout (CPUID leaf 0Dh).
pub fn layout() -> &'static Layout {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    LAYOUT.get_or_init(|| {
        let mut components = [(0, 0); 8];
        components[0] = (32, 128);
        components[1] = (160, 256);
        let present = COMPONENTS & enabled();
        let mut bytes = 576;
        for (number, component) in components.iter_mut().enumerate().skip(2) {
            if present & 1 << number == 0 {
                continue;
            }
            let leaf = __cpuid_count(0xd, number as u32);
            *component = (leaf.ebx as usize, leaf.eax as usize);
            bytes = bytes.max(component.0 + component.1);
        }
        assert!(bytes <= XSAVE_BYTES, "an XSAVE area of {bytes} bytes");
        Layout { components, present, bytes }
    })
}

impl Layout {
    /// A component that is in its initial state was not stored: writes what it stands for.
    pub fn normalise(&self, area: &mut [u8; XSAVE_BYTES]) {
        let stored = u64::from_le_bytes(area[512..520].try_into().expect("eight bytes"));
        for (number, &(at, length)) in self.components.iter().enumerate() {
            if stored & 1 << number == 0 {
                area[at..at + length].fill(0);
                if number == 0 {
                    area[..24].fill(0);
                    area[..2].copy_from_slice(&0x37fu16.to_le_bytes());
                }
            }
        }
        // What is reserved or the kernel's own, and the header.
        area[464..576].fill(0);
        area[512..520].copy_from_slice(&self.present.to_le_bytes());
    }

    /// Random contents; the elements of one vector register are small.
    pub fn random(&self, random: &mut Random, small: usize, area: &mut [u8; XSAVE_BYTES]) {
        random.fill(&mut area[..self.bytes]);
        area[..32].fill(0);
        area[464..576].fill(0);
        let control = 0x37f | (random.next() as u16 & 0xc00);
        area[..2].copy_from_slice(&control.to_le_bytes());
        area[3] = (random.next() as u8) & 0x38; // TOP
        area[4] = random.next() as u8; // which registers are in use
        let rounding = (random.next() as u32 & 0x6000) | if random.one_in(8) { 0x8040 } else { 0 };
        let masks = if random.one_in(40) { random.next() as u32 & 0x1f80 } else { 0x1f80 };
        area[24..28].copy_from_slice(&(rounding | masks).to_le_bytes());
        area[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
        for register in 0..8 {
            area[32 + 16 * register + 10..48 + 16 * register].fill(0);
            if !random.one_in(3) {
                // An exponent around 1.0 rather than a NaN or an invalid form.
                let exponent = 0x3fe0 + random.below(64) as u16;
                area[40 + 16 * register..42 + 16 * register]
                    .copy_from_slice(&exponent.to_le_bytes());
                area[39 + 16 * register] |= 0x80;
            }
        }
        for part in 0..4 {
            let value = random.below(8) as u32 * 4;
            let low =
                [value.to_le_bytes(), [0; 4], ((value / 2) & !3).to_le_bytes(), [0; 4]].concat();
            let at = match part {
                0 => self.components[1].0 + 16 * small,
                1 => self.components[2].0 + 16 * small,
                _ if self.present & 1 << ZMM_HIGH == 0 => break,
                2 => self.components[ZMM_HIGH].0 + 32 * small,
                _ => self.components[ZMM_HIGH].0 + 32 * small + 16,
            };
            area[at..at + 16].copy_from_slice(&low);
        }
        let (masks, length) = self.components[OPMASK];
        for register in 0..length / 8 {
            if random.one_in(4) {
                let bits = random.pick(&[0, u64::MAX, 1, 0x8000]);
                area[masks + 8 * register..masks + 8 * register + 8]
                    .copy_from_slice(&bits.to_le_bytes());
            }
        }
        area[512..520].copy_from_slice(&self.present.to_le_bytes());
    }

    /// An opmask register.
    pub fn opmask(&self, area: &[u8], register: usize) -> u64 {
        let at = self.components[OPMASK].0 + 8 * register;
        self.word(area, OPMASK, at)
    }

    /// The first 32 bytes of a vector register.
    pub fn vector(&self, area: &[u8], register: usize) -> [u8; 32] {
        let mut bytes = [0; 32];
        for half in 0..2 {
            let at = self.components[1 + half].0 + 16 * register;
            for word in 0..2 {
                let value = self.word(area, 1 + half, at + 8 * word).to_le_bytes();
                bytes[16 * half + 8 * word..16 * half + 8 * word + 8].copy_from_slice(&value);
            }
        }
        bytes
    }

    /// An MMX register.
    pub fn mmx(&self, area: &[u8], register: usize) -> [u8; 8] {
        // The area begins with the top of the stack, and MMX registers are numbered from its bottom.
        let top = usize::from(area[3] >> 3 & 7);
        self.word(area, 0, 32 + 16 * (register.wrapping_sub(top) & 7)).to_le_bytes()
    }

    fn word(&self, area: &[u8], component: usize, at: usize) -> u64 {
        let read =
            |at: usize| u64::from_le_bytes(area[at..at + 8].try_into().expect("eight bytes"));
        if read(512) & 1 << component == 0 { 0 } else { read(at) }
    }
}
