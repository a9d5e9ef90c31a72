//! Where a JVM's compiled code lies, from the process's list of mappings (proc(5),
//! `/proc/PID/maps`).

use core::ops::Range;

/// The reservation around an address: the row of private mappings without a file that touch each
/// other and are either writable code (`rwxp`) or not accessible yet (`---p`). HotSpot reserves its
/// code cache in one piece and makes parts of it accessible as it grows. `None` where the address
/// does not lie in writable code.
pub fn reservation(maps: &[u8], address: u64) -> Option<Range<u64>> {
    let mut row: Range<u64> = 0..0;
    let mut found = false;
    for line in maps.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let (range, access, is_file) = mapping(line)?;
        let code = access == b"rwxp";
        let fits = !is_file && (code || access == b"---p");
        if fits && range.start == row.end {
            row.end = range.end;
        } else if found {
            break;
        } else {
            row = if fits { range.clone() } else { 0..0 };
        }
        found |= code && fits && range.contains(&address);
    }
    found.then_some(row)
}

/// One line: addresses, access, and whether a file or a name stands behind it.
fn mapping(line: &[u8]) -> Option<(Range<u64>, &[u8], bool)> {
    let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let addresses = core::str::from_utf8(fields.next()?).ok()?;
    let (start, end) = addresses.split_once('-')?;
    let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
    let access = fields.next()?;
    Some((range, access, fields.nth(3).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
7f0000000000-7f0000100000 rw-p 00000000 00:00 0 
7f0000100000-7f0000200000 ---p 00000000 00:00 0 
7f0000200000-7f0000300000 rwxp 00000000 00:00 0 
7f0000300000-7f0000800000 ---p 00000000 00:00 0 
7f0000800000-7f0000900000 rwxp 00000000 00:00 0 
7f0000900000-7f0000a00000 rwxp 00000000 08:02 17                         /tmp/file
7f0000b00000-7f0000c00000 rwxp 00000000 00:00 0 
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
";

    #[test]
    fn what_touches_belongs_to_it() {
        let whole = Some(0x7f00_0010_0000..0x7f00_0090_0000);
        assert_eq!(reservation(MAPS, 0x7f00_0020_0000), whole);
        assert_eq!(reservation(MAPS, 0x7f00_008f_ffff), whole);
        assert_eq!(reservation(MAPS, 0x7f00_00b0_0000), Some(0x7f00_00b0_0000..0x7f00_00c0_0000));
    }

    #[test]
    fn other_memory_has_none() {
        for address in [0, 0x7f00_0000_0000, 0x7f00_0010_0000, 0x7f00_0090_0000, 0x7ffd_0000_0000] {
            assert_eq!(reservation(MAPS, address), None, "{address:x}");
        }
        assert_eq!(reservation(b"nonsense\n", 0), None);
        assert_eq!(reservation(b"", 0), None);
    }
}
