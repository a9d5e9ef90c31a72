//! Texts that others wrote, as they may be shown: to a terminal that obeys escape sequences, and to readers
//! who are to see no password.

use std::io::{self, Write};

/// Whether a terminal or a reader would be led astray: control characters, what turns the direction of
/// writing round, and what is not seen at all (Unicode Standard Annex 9, 2; tags; line separators).
fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Characters that could steer the reader's terminal or mislead its reader are shown as escapes.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        escape(character, &mut shown);
    }
    shown
}

fn escape(character: char, shown: &mut String) {
    if misleads(character) {
        shown.extend(character.escape_default());
    } else {
        shown.push(character);
    }
}

/// A message for a terminal or a log: its lines stay lines, what names and servers put into it is harmless,
/// and addresses have no passwords.
pub fn message(text: &str) -> String {
    let lines: Vec<_> = without_passwords(text).split('\n').map(printable).collect();
    lines.join("\n")
}

/// Takes user and password out of each address (`scheme://user:password@host`), and the values of
/// parameters that are called so.
pub fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (at, word) in text.split(' ').enumerate() {
        if at > 0 {
            shown.push(' ');
        }
        let Some((scheme, rest)) = address(word) else {
            shown.push_str(word);
            continue;
        };
        shown.push_str(scheme);
        // A password may hold any character that somebody forgot to escape.
        let rest = match rest.rsplit_once('@') {
            Some((_, place)) => {
                shown.push_str("***@");
                place
            }
            None => rest,
        };
        // Behind a colon stands a port, unless somebody forgot the host.
        let end = rest.find(['/', '?', ',']).unwrap_or(rest.len());
        match rest[..end].split_once(':') {
            Some((host, port)) if !host.starts_with('[') && port.contains(char::is_alphabetic) => {
                shown.push_str(host);
                shown.push_str(":***");
                shown.push_str(&without_parameters(&rest[end..]));
            }
            _ => shown.push_str(&without_parameters(rest)),
        }
    }
    shown
}

/// An address in a word, parted behind its scheme; one of a server may lack its slashes.
fn address(word: &str) -> Option<(&str, &str)> {
    if let Some(at) = word.find("://") {
        return Some(word.split_at(at + 3));
    }
    let small = word.to_ascii_lowercase();
    let schemes = ["mysql:", "mariadb:", "jdbc:", "http:", "https:"];
    let ends = schemes.iter().filter_map(|scheme| Some(small.find(scheme)? + scheme.len()));
    ends.min().map(|end| word.split_at(end))
}

/// Hides the values of parameters with secrets.
fn without_parameters(place: &str) -> String {
    let Some((path, query)) = place.split_once('?') else { return place.to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // The file is none.
    name != "password_file"
        && ["pass", "pwd", "secret", "token", "key", "sig", "credential"]
            .iter()
            .any(|part| name.contains(part))
}

/// Data for a terminal: as it is but for what steers terminals; line ends and tabs stay.
pub struct Harmless<W> {
    to: W,
    /// The beginning of a character whose rest was not written yet.
    begun: Vec<u8>,
    /// Whether the last one was a carriage return: before a line end it is harmless.
    has_return: bool,
}

impl<W: Write> Harmless<W> {
    /// In front of a terminal.
    pub fn new(to: W) -> Harmless<W> {
        Harmless { to, begun: Vec::new(), has_return: false }
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            if std::mem::take(&mut self.has_return) && character != '\n' {
                escape('\r', &mut shown);
            }
            match character {
                '\n' | '\t' => shown.push(character),
                '\r' => self.has_return = true,
                other => escape(other, &mut shown),
            }
        }
        self.to.write_all(shown.as_bytes())
    }
}

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.begun);
        all.extend(bytes);
        let mut rest = all.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.put(text)?;
                    break;
                }
                Err(error) => {
                    let (sound, other) = rest.split_at(error.valid_up_to());
                    self.put(&String::from_utf8_lossy(sound))?;
                    let Some(length) = error.error_len() else {
                        self.begun = other.to_owned();
                        break;
                    };
                    self.put("\u{fffd}")?;
                    rest = &other[length..];
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The arguments of the recorded command line.
pub fn arguments(command_line: &[u8]) -> Vec<String> {
    let line = command_line.strip_suffix(b"\0").unwrap_or(command_line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_steer_no_terminal_and_show_no_password() {
        for (text, shown) in [
            ("a\u{1b}]0;x\u{7}b\nc", "a\\u{1b}]0;x\\u{7}b\nc"),
            ("evil\u{202e}txt.exe", "evil\\u{202e}txt.exe"),
            ("http://me:secret@host/app: refused", "http://***@host/app: refused"),
            (" MYSQL://me:se?cr@et@db/x", " MYSQL://***@db/x"),
            ("jdbc:mysql://db/x?user=me&password=secret", "jdbc:mysql://db/x?user=me&password=***"),
            ("mysql:/me:secret@db/x:", "mysql:***@db/x:"),
            ("mysql://me:secret", "mysql://me:***"),
            ("jdbc:mysql://[::1]:3306/x", "jdbc:mysql://[::1]:3306/x"),
            ("http://h:1/a?b=c", "http://h:1/a?b=c"),
            ("mail to me@host", "mail to me@host"),
        ] {
            assert_eq!(message(text), shown);
        }
    }

    #[test]
    fn data_on_a_terminal_is_harmless_however_it_is_cut() {
        let text = "a,\u{1b}[2Jb\u{9b}\rc\tü\r\n".as_bytes();
        for cut in 0..text.len() {
            let mut out = Harmless::new(Vec::new());
            out.write_all(&text[..cut]).unwrap();
            out.write_all(&text[cut..]).unwrap();
            assert_eq!(String::from_utf8(out.to).unwrap(), "a,\\u{1b}[2Jb\\u{9b}\\rc\tü\n");
        }
        let mut out = Harmless::new(Vec::new());
        out.write_all(b"x\xffy").unwrap();
        assert_eq!(String::from_utf8(out.to).unwrap(), "x\u{fffd}y");
    }
}
