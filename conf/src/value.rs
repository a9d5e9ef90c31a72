//! Types of settings: how each is read from TOML and from text, and how its default is written.

use crate::nearest::nearest;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// A value as found, before its setting's type is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A list of strings.
    List(Vec<String>),
    /// True or false.
    Truth(bool),
    /// Anything else; its TOML name.
    Other(&'static str),
}

/// A type that a setting may have.
pub trait Value: Sized {
    /// What messages and documentation call the type.
    fn type_name() -> String;
    /// Takes the value out of a file.
    fn from_raw(raw: &Raw) -> Result<Self, String>;
    /// Takes the value out of the environment.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Writes the value as TOML.
    fn to_toml(&self) -> String;
}

fn wrong_type<T: Value>(raw: &Raw) -> String {
    let found = match raw {
        Raw::Text(_) => "a string",
        Raw::Integer(_) => "an integer",
        Raw::List(_) => "a list of strings",
        Raw::Truth(_) => "a boolean",
        Raw::Other(name) => name,
    };
    format!("{} is expected, not {found}", T::type_name())
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out += &format!("\\u{:04X}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Value for String {
    fn type_name() -> String {
        "a string".into()
    }

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => Ok(text.clone()),
            _ => Err(wrong_type::<Self>(raw)),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl Value for bool {
    fn type_name() -> String {
        "true or false".into()
    }

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Truth(truth) => Ok(*truth),
            _ => Err(wrong_type::<Self>(raw)),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{} is expected, not {text:?}", Self::type_name());
        text.trim().parse().map_err(wrong)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

/// An integer between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    fn check(value: i128) -> Result<Self, String> {
        if value < i128::from(MIN) || value > i128::from(MAX) {
            return Err(format!("{value} is not between {MIN} and {MAX}"));
        }
        Ok(Bounded(value as u64))
    }
}

impl<const MIN: u64, const MAX: u64> Value for Bounded<MIN, MAX> {
    fn type_name() -> String {
        format!("an integer between {MIN} and {MAX}")
    }

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Integer(value) => Self::check(i128::from(*value)),
            _ => Err(wrong_type::<Self>(raw)),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim().parse::<i64>() {
            Ok(value) => Self::check(i128::from(value)),
            Err(_) => Err(format!("{} is expected, not {text:?}", Self::type_name())),
        }
    }

    fn to_toml(&self) -> String {
        self.0.to_string()
    }
}

/// A word out of a fixed choice; made by [`choice!`](crate::choice).
pub trait Choice: Copy + PartialEq + Sized + 'static {
    /// The words and what they stand for.
    const WORDS: &'static [(&'static str, Self)];

    /// The value's word.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }

    /// The value of a word.
    fn of(word: &str) -> Result<Self, String> {
        if let Some((_, value)) = Self::WORDS.iter().find(|(known, _)| *known == word) {
            return Ok(*value);
        }
        match nearest(word, Self::WORDS.iter().map(|(known, _)| *known)) {
            Some(meant) => Err(format!("unknown value {word:?} (did you mean {meant:?}?)")),
            None => Err(format!("unknown value {word:?} ({})", one_of::<Self>())),
        }
    }
}

fn one_of<C: Choice>() -> String {
    let words: Vec<String> = C::WORDS.iter().map(|(word, _)| quoted(word)).collect();
    format!("one of {}", words.join(", "))
}

/// Declares a [`Choice`] with its words.
#[macro_export]
#[doc(hidden)]
macro_rules! choice {
    ($( #[$doc:meta] )* $name:ident { $( $( #[$word_doc:meta] )* $variant:ident = $word:literal, )* }) => {
        $( #[$doc] )*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $( #[$word_doc] )* $variant, )* }

        impl $crate::value::Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[ $( ($word, $name::$variant) ),* ];
        }

        $crate::choice_value!($name);
    };
}

/// Makes a [`Choice`] of an enumeration of the table of metrics, by its own names.
#[macro_export]
#[doc(hidden)]
macro_rules! choice_of_table {
    ($name:ident) => {
        impl $crate::value::Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &{
                let mut words = [("", $name::ALL[0]); $name::ALL.len()];
                let mut at = 0;
                while at < words.len() {
                    words[at] = ($name::ALL[at].name(), $name::ALL[at]);
                    at += 1;
                }
                words
            };
        }

        $crate::choice_value!($name);
    };
}

/// Reads and writes a [`Choice`] as a [`Value`].
#[macro_export]
#[doc(hidden)]
macro_rules! choice_value {
    ($name:ident) => {
        impl $crate::value::Value for $name {
            fn type_name() -> alloc::string::String {
                $crate::value::choice_type_name::<$name>()
            }
            fn from_raw(raw: &$crate::value::Raw) -> Result<Self, alloc::string::String> {
                $crate::value::choice_from_raw(raw)
            }
            fn from_text(text: &str) -> Result<Self, alloc::string::String> {
                <$name as $crate::value::Choice>::of(text.trim())
            }
            fn to_toml(&self) -> alloc::string::String {
                alloc::format!("{:?}", <$name as $crate::value::Choice>::word(*self))
            }
        }
    };
}

pub(crate) fn choice_type_name<C: Choice>() -> String {
    one_of::<C>()
}

pub(crate) fn choice_from_raw<C: Choice + Value>(raw: &Raw) -> Result<C, String> {
    match raw {
        Raw::Text(text) => C::of(text),
        _ => Err(wrong_type::<C>(raw)),
    }
}

impl<T: Value> Value for Vec<T> {
    fn type_name() -> String {
        format!("a list, each {}", T::type_name())
    }

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::List(items) => items.iter().map(|item| T::from_text(item)).collect(),
            _ => Err(wrong_type::<Self>(raw)),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::from_text).collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<String> = self.iter().map(Value::to_toml).collect();
        format!("[{}]", items.join(", "))
    }
}
