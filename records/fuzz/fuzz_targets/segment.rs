//! Any bytes as a segment: reading never panics, and every byte is used or counted.
//!
//! Random bytes die at a CRC. So an input's first byte says how much of the rest is made sound before it
//! is read: nothing, the header's CRC, or every record's CRC too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use records::{Header, MAX_HEADER_BYTES, MetricSet, RECORD_BYTES, Segment};

fuzz_target!(|input: &[u8]| {
    let Some((&how, body)) = input.split_first() else { return };
    let mut bytes = Vec::new();
    if how & 4 != 0 {
        // A good header before the input, so that its bytes are records.
        let mut header = vec![0; MAX_HEADER_BYTES];
        let metrics = MetricSet::ALL;
        let encoded = Header { metrics, command_line: b"a\0b\0", ..Header::default() };
        let len = encoded.encode(&mut header).expect("the documented size suffices");
        bytes.extend(&header[..len]);
    }
    bytes.extend(body);
    if how & 1 != 0 {
        seal_header(&mut bytes);
    }
    if how & 2 != 0 {
        let start = Segment::parse(&bytes).map_or(0, |segment| segment.records_at());
        for record in bytes[start..].chunks_exact_mut(RECORD_BYTES) {
            let crc = crc32(&record[4..]).to_le_bytes();
            record[..4].copy_from_slice(&crc);
        }
    }
    read(&bytes);
});

/// Makes the header's CRC right, if there is a header at all.
fn seal_header(bytes: &mut [u8]) {
    let Some(len) = bytes.get(12..16).map(|len| u32::from_le_bytes(len.try_into().unwrap())) else {
        return;
    };
    let Some(header) = bytes.get_mut(..len as usize).filter(|header| header.len() >= 20) else {
        return;
    };
    header[16..20].fill(0);
    let crc = crc32(header).to_le_bytes();
    header[16..20].copy_from_slice(&crc);
}

fn read(bytes: &[u8]) {
    let Ok(segment) = Segment::parse(bytes) else { return };
    let named = segment.directory().filter(|entry| entry.index.is_some()).count();
    assert!(named <= records::METRIC_COUNT);
    let mut used = 0;
    let mut groups = segment.groups();
    for group in groups.by_ref() {
        used += RECORD_BYTES * (1 + usize::from(bytes[group.offset + 5]));
        if let Some(values) = &group.values {
            let known = (0..records::METRIC_COUNT).filter(|&index| values.get(index).is_some());
            assert!(known.count() <= named);
        }
    }
    let left_out = groups.left_out();
    assert_eq!(segment.records_at() + used + left_out.total(), bytes.len());
    assert_eq!(segment.left_out(), left_out);
    // The same in two pieces.
    let middle = segment.records_at() + (bytes.len() - segment.records_at()) / 2;
    let mut first = segment.groups_in(&bytes[segment.records_at()..middle], segment.records_at(), false);
    let mut count = first.by_ref().count();
    let mut rest = segment.groups_in(&bytes[first.position()..], first.position(), true);
    count += rest.by_ref().count();
    assert_eq!(first.left_out().total() + rest.left_out().total(), left_out.total());
    assert_eq!(count, segment.groups().count());
}

/// CRC-32 (IEEE) by a table of our own: the fuzzed code's CRC is not trusted here.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};
