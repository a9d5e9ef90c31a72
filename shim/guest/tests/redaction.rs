//! Redaction against tables of shapes: of secrets, and of what must stay readable.

use guest::redact::{command_line, path, text};

/// What stands where a secret stood.
const REDACTED: &str = "*********(redacted)";

/// The words that settings have by default.
fn words() -> Vec<String> {
    conf::Settings::default().redact
}

/// What is stored of a line of a table, and how it is without redaction.
fn stored(kind: &str, shape: &str) -> (String, String) {
    let words = words();
    let (bytes, plain) = match kind {
        "line" => {
            // A pipe of a shell is one argument's own.
            let arguments: Vec<&[u8]> = shape.split(" | ").map(str::as_bytes).collect();
            let plain =
                arguments.iter().flat_map(|one| [one, &b"\0"[..]]).collect::<Vec<_>>().concat();
            (command_line(arguments.into_iter(), &words), plain)
        }
        "path" => (path(shape.as_bytes(), &words).unwrap_or(shape.into()), shape.into()),
        "text" => (text(shape.as_bytes(), &words).unwrap_or(shape.into()), shape.into()),
        other => panic!("no kind {other}"),
    };
    (String::from_utf8(bytes).unwrap(), String::from_utf8(plain).unwrap())
}

fn table(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_once(": ").unwrap())
}

#[test]
fn secrets_go() {
    let mut count = 0;
    let mut left = Vec::new();
    for (kind, shape) in table(include_str!("secrets.txt")) {
        let (before, rest) = shape.split_once('[').unwrap();
        let (secret, after) = rest.rsplit_once(']').unwrap();
        let (stored, _) = stored(kind, &format!("{before}{secret}{after}"));
        count += 1;
        // Of a list of words each is one.
        let shows = secret.split([' ', ',']).filter(|word| word.len() > 1 || secret.len() == 1);
        if shows.clone().any(|word| stored.replace(REDACTED, "").contains(word)) {
            left.push(format!("{kind}: {shape}\n    {}", stored.replace('\0', " ")));
        }
    }
    assert!(left.is_empty(), "{} of {count}:\n{}", left.len(), left.join("\n"));
    assert!(count >= 150, "{count}");
}

#[test]
fn what_is_no_secret_stays() {
    let mut count = 0;
    let mut gone = Vec::new();
    for (kind, shape) in table(include_str!("readable.txt")) {
        let (stored, plain) = stored(kind, shape);
        count += 1;
        if stored != plain {
            gone.push(format!("{kind}: {shape}\n    {}", stored.replace('\0', " ")));
        }
    }
    assert!(gone.is_empty(), "{} of {count}:\n{}", gone.len(), gone.join("\n"));
    assert!(count >= 150, "{count}");
}

/// What was redacted once and comes again is as it was, and nothing ever panics.
#[test]
fn any_bytes_will_do() {
    let words = words();
    for (kind, shape) in
        table(include_str!("secrets.txt")).chain(table(include_str!("readable.txt")))
    {
        let (once, _) = stored(kind, shape);
        let bytes = once.as_bytes();
        for cut in 0..bytes.len() {
            for part in [&bytes[cut..], &bytes[..cut]] {
                text(part, &words);
                path(part, &words);
                command_line(part.split(|&byte| byte == 0), &words);
            }
        }
    }
}
