//! Which applications there are, and choosing some of them: by id, by name, by a pattern, or the latest.

use std::collections::BTreeMap;

use crate::console::exit::{Exit, Failure};
use crate::report::logs::{App, Attempts};
use crate::report::rated::{read, text};
use crate::store::{Store, StoreError, Table};

/// An application of a store.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// What reports call it.
    pub called: String,
    /// What its event log says, if there is one.
    pub app: App,
    /// When it, or the first of its processes, started, ms since the epoch.
    pub started_ms: Option<i64>,
    /// When the last record of a process was written.
    pub last_ms: Option<i64>,
    /// Whether there are records of its executors.
    pub has_records: bool,
}

/// All applications of a store, the newest first.
///
/// # Errors
/// When the store cannot be read.
pub fn list(store: &dyn Store) -> Result<Vec<Listed>, StoreError> {
    let mut found: BTreeMap<String, Listed> = BTreeMap::new();
    let mut attempts = Attempts::default();
    let apps = read(store, Table::SparkApps)?;
    let rows = apps.iter().flat_map(|frame| (0..frame.height()).map(move |at| (frame, at)));
    let text_of = |(frame, at): (&polars::prelude::DataFrame, usize), name| {
        text(frame.column(name).ok()?, at)
    };
    let number = |(frame, at): (&polars::prelude::DataFrame, usize), name| {
        frame.column(name).ok()?.i64().ok()?.get(at)
    };
    for row in rows.clone() {
        let id = text_of(row, "application_id").unwrap_or_default();
        attempts.add(&id, text_of(row, "application_attempt").as_deref());
    }
    for row in rows {
        let id = text_of(row, "application_id").unwrap_or_default();
        let called = attempts.called(&id, text_of(row, "application_attempt").as_deref());
        let app = App {
            name: text_of(row, "name"),
            user: text_of(row, "user"),
            version: text_of(row, "spark_version"),
            started_ms: number(row, "started_ms"),
            ended_ms: number(row, "ended_ms"),
        };
        let started_ms = app.started_ms;
        let listed = Listed { called: called.clone(), app, started_ms, ..Listed::default() };
        found.insert(called, listed);
    }
    let columns = ["application_id", "application_attempt", "start_real_ns", "last_real_ns"];
    store.scan(Table::Processes, Some(&columns), &[], &mut |frame| {
        for at in 0..frame.height() {
            let row = (&frame, at);
            let Some(id) = text_of(row, "application_id") else { continue };
            let called = attempts.called(&id, text_of(row, "application_attempt").as_deref());
            let one = found
                .entry(called.clone())
                .or_insert_with(|| Listed { called, ..Listed::default() });
            one.has_records = true;
            let ms = |name| number(row, name).map(|ns| ns / 1_000_000);
            if one.app.started_ms.is_none() {
                one.started_ms = [one.started_ms, ms("start_real_ns")].into_iter().flatten().min();
            }
            one.last_ms = one.last_ms.max(ms("last_real_ns"));
        }
        Ok(())
    })?;
    let mut all: Vec<_> = found.into_values().collect();
    all.sort_by(|one, other| (other.started_ms, &other.called).cmp(&(one.started_ms, &one.called)));
    Ok(all)
}

/// The word for the newest application.
const LATEST: &str = "latest";

/// Whether a text is like a pattern, in which `*` stands for anything and `?` for one character.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    // The place after the last star, and how much of the text it has taken.
    let (mut at, mut of, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of + 1, at));
                of += 1;
            }
            Some(one) if *one == '?' || *one == text[at] => (at, of) = (at + 1, of + 1),
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, of) = (taken + 1, after);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|one| *one == '*')
}

/// What reports call the applications that the user asks for.
///
/// # Errors
/// When a word fits none, with what there is.
pub fn chosen(listed: &[Listed], words: &[String]) -> Result<Vec<String>, Failure> {
    let mut chosen: Vec<String> = Vec::new();
    for word in words {
        let is_id = |one: &&Listed| one.called == *word;
        // Attempts of an application have its id in front.
        let is_attempt =
            |one: &&Listed| one.called.rsplit_once('/').is_some_and(|(id, _)| id == word);
        let is_named = |one: &&Listed| one.app.name.as_deref() == Some(word);
        let is_pattern = word.contains(['*', '?']);
        let fits = |one: &&Listed| {
            is_pattern
                && (is_like(&one.called, word)
                    || one.app.name.as_deref().is_some_and(|name| is_like(name, word)))
        };
        let mut found: Vec<_> = listed.iter().filter(is_id).collect();
        if found.is_empty() {
            found = listed.iter().filter(|one| is_attempt(one) || is_named(one)).collect();
        }
        if found.is_empty() && word == LATEST {
            found = listed.first().into_iter().collect();
        }
        if found.is_empty() {
            found = listed.iter().filter(fits).collect();
        }
        if found.is_empty() {
            let known: Vec<_> = listed
                .iter()
                .take(20)
                .map(|one| match &one.app.name {
                    Some(name) => format!("{} ({name})", one.called),
                    None => one.called.clone(),
                })
                .collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let more = if listed.len() > 20 { ", and more: analyzer apps" } else { "" };
            let message = format!("application {word} is not in the store (there: {known}{more})");
            return Err(Failure::new(Exit::BadInput, message));
        }
        for one in found {
            if !chosen.contains(&one.called) {
                chosen.push(one.called.clone());
            }
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(called: &str, name: Option<&str>) -> Listed {
        let app = App { name: name.map(str::to_owned), ..App::default() };
        Listed { called: called.into(), app, ..Listed::default() }
    }

    #[test]
    fn applications_are_chosen_by_id_name_pattern_and_age() {
        let all = [
            listed("app-3", Some("word count")),
            listed("app-2/1", Some("join")),
            listed("app-2/2", Some("join")),
            listed("app-1", None),
        ];
        let of = |word: &str| chosen(&all, &[word.to_owned()]).map_err(|failure| failure.message);
        assert_eq!(of("app-1").unwrap(), ["app-1"]);
        assert_eq!(of("latest").unwrap(), ["app-3"]);
        assert_eq!(of("join").unwrap(), ["app-2/1", "app-2/2"]);
        assert_eq!(of("app-2").unwrap(), ["app-2/1", "app-2/2"]);
        assert_eq!(of("app-2/2").unwrap(), ["app-2/2"]);
        assert_eq!(of("word*").unwrap(), ["app-3"]);
        assert_eq!(of("app-?").unwrap(), ["app-3", "app-1"]);
        let error = of("word").unwrap_err();
        assert!(
            error.contains("application word is not in the store (there: app-3 (word count)"),
            "{error}"
        );
    }

    #[test]
    fn patterns() {
        for (text, pattern) in
            [("abc", "a*c"), ("abc", "*"), ("abc", "???"), ("aXbXc", "a*X?"), ("", "*")]
        {
            assert!(is_like(text, pattern), "{text} {pattern}");
        }
        for (text, pattern) in [("abc", "a*d"), ("abc", "??"), ("abc", ""), ("ab", "ab?")] {
            assert!(!is_like(text, pattern), "{text} {pattern}");
        }
        assert!(!is_like(&"a".repeat(3000), &("a*".repeat(500) + "b")), "in no time");
    }
}
