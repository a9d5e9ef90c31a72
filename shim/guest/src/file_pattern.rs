//! The name of a record file, from the pattern of the setting `file_name`.

use alloc::vec::Vec;

/// What the placeholders stand for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// `%n`
    pub node: &'a [u8],
    /// `%h`
    pub host: &'a [u8],
    /// `%p`
    pub pid: u32,
    /// `%a`
    pub application: &'a [u8],
    /// `%e`
    pub executor: &'a [u8],
    /// `%r`
    pub role: &'a [u8],
}

/// The longest prefix; the process id, the segment and the extension come after it (NAME_MAX is
/// 255).
pub const MAX_PREFIX_BYTES: usize = 160;

/// Expands the pattern. Bytes that have no place in a file name become `_`; an unknown placeholder
/// stays as it is; empty results and a leading dot are avoided.
pub fn expand<'a>(
    pattern: &[u8],
    names: &Names<'_>,
    variable: impl Fn(&[u8]) -> Option<&'a [u8]>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        match rest.first() {
            Some(b'n') => out.extend_from_slice(names.node),
            Some(b'h') => out.extend_from_slice(names.host),
            Some(b'a') => out.extend_from_slice(names.application),
            Some(b'e') => out.extend_from_slice(names.executor),
            Some(b'r') => out.extend_from_slice(names.role),
            Some(b'%') => out.push(b'%'),
            Some(b'p') => out.extend_from_slice(alloc::format!("{}", names.pid).as_bytes()),
            Some(b'{') => match rest.iter().position(|&byte| byte == b'}') {
                Some(end) => {
                    out.extend_from_slice(variable(&rest[1..end]).unwrap_or_default());
                    rest = &rest[end..];
                }
                None => {
                    out.push(b'%');
                    continue;
                }
            },
            _ => {
                out.push(b'%');
                continue;
            }
        }
        rest = &rest[1..];
    }
    out.truncate(MAX_PREFIX_BYTES);
    for byte in &mut out {
        if *byte == b'/' || byte.is_ascii_control() {
            *byte = b'_';
        }
    }
    if out.is_empty() || out[0] == b'.' {
        out.insert(0, b'_');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(pattern: &str) -> String {
        let names = Names {
            node: b"node-1",
            host: b"h",
            pid: 42,
            application: b"app-1",
            executor: b"0",
            role: b"executor",
        };
        let variable = |name: &[u8]| (name == b"JOB").then_some(b"a/b".as_slice());
        String::from_utf8(expand(pattern.as_bytes(), &names, variable)).unwrap()
    }

    #[test]
    fn placeholders() {
        assert_eq!(expanded("%n-%p"), "node-1-42");
        assert_eq!(expanded("%h.%a.%e.%r"), "h.app-1.0.executor");
        assert_eq!(expanded("%{JOB}-100%%"), "a_b-100%");
        assert_eq!(expanded("%{MISSING}x%"), "x%");
        assert_eq!(expanded("%z%{open"), "%z%{open");
    }

    #[test]
    fn never_a_path_hidden_or_too_long() {
        assert_eq!(expanded("../etc"), "_.._etc");
        assert_eq!(expanded(""), "_");
        assert_eq!(expanded(&"x".repeat(500)).len(), MAX_PREFIX_BYTES);
    }
}
