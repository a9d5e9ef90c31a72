//! Reading the settings: the file's text, then the environment.

use crate::{
    ENVIRONMENT_PREFIX,
    nearest::nearest,
    settings::{SETTINGS, Setting, Settings},
    value::Raw,
};
use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use toml::de::{DeTable, DeValue};

/// What is wrong and where: a file and line, or a variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// `path:line`, or the variable's name.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl core::error::Error for Error {}

/// Settings from the file's text (with its path, for messages) and from `(name, value)` pairs of the
/// environment; names that are no `SPARKANALYZER_<KEY>` are passed over.
pub fn load<'e>(
    file: Option<(&str, &str)>,
    environment: impl Iterator<Item = (&'e str, &'e str)>,
) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    if let Some((path, text)) = file {
        read_file(&mut settings, path, text)?;
    }
    for (name, value) in environment {
        let setting = name
            .strip_prefix(ENVIRONMENT_PREFIX)
            .and_then(|key| SETTINGS.iter().find(|setting| is_in_capitals(key, setting.key)));
        if let Some(setting) = setting {
            (setting.set_text)(&mut settings, value)
                .map_err(|problem| Error { place: name.to_string(), problem })?;
        }
    }
    Ok(settings)
}

fn is_in_capitals(capitals: &str, key: &str) -> bool {
    capitals.len() == key.len()
        && capitals.bytes().zip(key.bytes()).all(|(c, k)| c == k.to_ascii_uppercase())
}

fn read_file(settings: &mut Settings, path: &str, text: &str) -> Result<(), Error> {
    let place = |offset: usize| {
        let line =
            1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count();
        format!("{path}:{line}")
    };
    let table = DeTable::parse(text).map_err(|error| Error {
        place: place(error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })?;
    // The table is ordered by name; the first mistake in the file is the one to tell.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let at = |problem: String| Error { place: place(key.span().start), problem };
        let setting = find(key.get_ref()).map_err(at)?;
        (setting.set_raw)(settings, &raw(value.get_ref()))
            .map_err(|problem| at(format!("{}: {problem}", setting.key)))?;
    }
    Ok(())
}

fn find(key: &str) -> Result<&'static Setting, String> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
        return Ok(setting);
    }
    Err(match nearest(key, SETTINGS.iter().map(|setting| setting.key)) {
        Some(meant) => format!("unknown key {key:?} (did you mean {meant:?}?)"),
        None => format!("unknown key {key:?}"),
    })
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Raw::Other("a number that is too large"), Raw::Integer),
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> = items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.to_string()),
                    _ => None,
                })
                .collect();
            texts.map_or(Raw::Other("a list of other things than strings"), Raw::List)
        }
        DeValue::Float(_) => Raw::Other("a float"),
        DeValue::Boolean(truth) => Raw::Truth(*truth),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Enabled, LogLevel, Role};

    const SHIPPED: &str = include_str!("../sparkanalyzer.toml");

    fn from_text(text: &str) -> Result<Settings, String> {
        load(Some(("my.toml", text)), [].into_iter()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        assert_eq!(from_text(SHIPPED), Ok(Settings::default()));
    }

    /// To write it anew after a change of the table: `UPDATE_CONF=1 cargo test -p conf`.
    #[test]
    fn the_shipped_file_documents_every_key_with_its_default() {
        if std::env::var_os("UPDATE_CONF").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/sparkanalyzer.toml");
            std::fs::write(path, crate::document()).unwrap();
        }
        assert_eq!(SHIPPED, crate::document());
    }

    #[test]
    fn a_wrong_key_is_named_with_the_nearest_right_one() {
        assert_eq!(
            from_text("# comment\nenabled = \"all\"\noutput_dri = \"/x\"\n").unwrap_err(),
            "my.toml:3: unknown key \"output_dri\" (did you mean \"output_dir\"?)"
        );
        assert_eq!(from_text("zebra = 1").unwrap_err(), "my.toml:1: unknown key \"zebra\"");
    }

    #[test]
    fn a_wrong_value_is_named() {
        assert_eq!(
            from_text("roles = [\"executer\"]").unwrap_err(),
            "my.toml:1: roles: unknown value \"executer\" (did you mean \"executor\"?)"
        );
        assert_eq!(
            from_text("\nsnapshot_interval_ms = 1").unwrap_err(),
            "my.toml:2: snapshot_interval_ms: 1 is not between 10 and 3600000"
        );
        assert_eq!(
            from_text("node = 7").unwrap_err(),
            "my.toml:1: node: a string is expected, not an integer"
        );
        assert!(from_text("enabled = [").unwrap_err().starts_with("my.toml:1: "));
        assert!(from_text("segment_bytes = 99999999999999999999").is_err());
        assert!(
            from_text("[section]\nroles = []").unwrap_err().contains("unknown key \"section\"")
        );
    }

    #[test]
    fn the_environment_comes_last() {
        let environment = [
            ("SPARKANALYZER_ENABLED", "request"),
            ("SPARKANALYZER_ROLES", "python, executor"),
            ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "250"),
            ("SPARKANALYZER_CONF", "ignored"),
            ("SPARKANALYZER_enabled", "ignored"),
            ("HOME", "/root"),
        ];
        let settings =
            load(Some(("f", "enabled = \"off\"\nlog_level = \"info\"")), environment.into_iter())
                .unwrap();
        assert_eq!(settings.enabled, Enabled::Request);
        assert_eq!(settings.roles, [Role::Python, Role::Executor]);
        assert_eq!(settings.snapshot_interval_ms.0, 250);
        assert_eq!(settings.log_level, LogLevel::Info);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = load(None, [("SPARKANALYZER_TRACER", "engin")].into_iter()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "SPARKANALYZER_TRACER: unknown value \"engin\" (did you mean \"engine\"?)"
        );
    }

    #[test]
    fn settings_in_force_can_be_read_again() {
        let settings = Settings { node: "a \"b\"\\".into(), ..Settings::default() };
        let text: Vec<String> = settings.in_force().collect();
        assert_eq!(from_text(&text.join("\n")), Ok(settings));
    }
}
