//! `--where`: which rows are shown.
//!
//! # Format
//!
//! `stage=3 and instructions>1e9 or not (node~"node-1" and spark_failed_tasks=0)`: names of keys and figures, `=`, `!=`, `<`,
//! `<=`, `>`, `>=`, `~` (contains, for texts), `and`, `or`, `not`, parentheses. What is unknown is neither equal to nor above nor below
//! anything; a lower bound is above what it is above.

use crate::report::figure::{Figure, MILLION, Scale};
use crate::report::key::{Dimension, Key};
use crate::report::rows::{Row, Said};
use crate::report::stage_names::StageNames;
use crate::report::words::{shown_text, stage_text};
use crate::text::nearest::nearest;

/// Deeper conditions are refused.
const MAX_DEPTH: usize = 50;

/// A condition on rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Both.
    And(Box<Condition>, Box<Condition>),
    /// At least one.
    Or(Box<Condition>, Box<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// A comparison.
    Compare(Field, Operator, Value),
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field {
    /// A part of the key.
    Key(Dimension),
    /// Tasks or outside tasks.
    Part,
    /// The stage's name.
    Name,
    /// A figure.
    Figure(Figure),
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `~`
    Contains,
}

/// What it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::Unequal),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("=", Operator::Equal),
    ("<", Operator::Below),
    (">", Operator::Above),
    ("~", Operator::Contains),
];

/// A part of the text.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Operator(Operator),
    Open,
    Close,
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some((sign, operator)) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            tokens.push(Token::Operator(*operator));
            rest = &rest[sign.len()..];
            // `==` is what many write.
            rest = if *sign == "=" { rest.strip_prefix('=').unwrap_or(rest) } else { rest };
        } else if first == '(' || first == ')' {
            tokens.push(if first == '(' { Token::Open } else { Token::Close });
            rest = &rest[1..];
        } else if first == '"' || first == '\'' {
            let Some((inside, after)) = rest[1..].split_once(first) else {
                return Err(format!("{first} is not closed"));
            };
            tokens.push(Token::Quoted(inside.to_owned()));
            rest = after;
        } else {
            let ends = |one: char| one.is_whitespace() || "=!<>~()\"'".contains(one);
            let end = rest.find(ends).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("{first:?} is out of place"));
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// A condition that is being read.
struct Reader {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Reader {
    fn word_is(&mut self, word: &str) -> bool {
        let is_it =
            |token: &Token| matches!(token, Token::Word(one) if one.eq_ignore_ascii_case(word));
        self.tokens.next_if(is_it).is_some()
    }

    fn either(&mut self) -> Result<Condition, String> {
        let mut left = self.both()?;
        while self.word_is("or") {
            left = Condition::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Condition, String> {
        let mut left = self.one()?;
        while self.word_is("and") {
            left = Condition::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("too many conditions in each other".into());
        }
        let condition = if self.word_is("not") {
            Condition::Not(Box::new(self.one()?))
        } else if self.tokens.next_if_eq(&Token::Open).is_some() {
            let inner = self.either()?;
            if self.tokens.next() != Some(Token::Close) {
                return Err("a ) is missing".into());
            }
            inner
        } else {
            self.compare()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn compare(&mut self) -> Result<Condition, String> {
        let Some(Token::Word(name)) = self.tokens.next() else {
            return Err("the name of a key or figure is missing".into());
        };
        let field = Field::parse(&name)?;
        let Some(Token::Operator(operator)) = self.tokens.next() else {
            return Err(format!("behind {name} one of = != < <= > >= ~ is missing"));
        };
        let value = match self.tokens.next() {
            Some(Token::Quoted(text)) => Value::Text(text),
            Some(Token::Word(word)) => match number(&word) {
                Some(number) => Value::Number(number),
                None => Value::Text(word),
            },
            _ => return Err(format!("behind {name} a value is missing")),
        };
        if let (Field::Figure(_), Value::Text(text)) = (field, &value) {
            return Err(format!("{name} is a number, and {text:?} is none"));
        }
        Ok(Condition::Compare(field, operator, value))
    }
}

/// A number, with a prefix of a thousand if it has one: `1e9`, `64M`, `0.5`.
fn number(word: &str) -> Option<f64> {
    let (digits, factor) = match word.chars().last()? {
        'k' => (&word[..word.len() - 1], 1e3),
        'M' => (&word[..word.len() - 1], 1e6),
        'G' => (&word[..word.len() - 1], 1e9),
        'T' => (&word[..word.len() - 1], 1e12),
        _ => (word, 1.0),
    };
    let is_number =
        digits.starts_with(|one: char| one.is_ascii_digit() || one == '.' || one == '-');
    digits.parse::<f64>().ok().filter(|_| is_number).map(|number| number * factor)
}

/// Names of keys.
const KEYS: [(&str, Field); 13] = [
    ("app", Field::Key(Dimension::App)),
    ("application", Field::Key(Dimension::App)),
    ("node", Field::Key(Dimension::Node)),
    ("executor", Field::Key(Dimension::Executor)),
    ("process", Field::Key(Dimension::Process)),
    ("thread", Field::Key(Dimension::Thread)),
    ("directory", Field::Key(Dimension::Directory)),
    ("query", Field::Key(Dimension::Query)),
    ("job", Field::Key(Dimension::Job)),
    ("stage", Field::Key(Dimension::Stage)),
    ("task", Field::Key(Dimension::Task)),
    ("part", Field::Part),
    ("name", Field::Name),
];

impl Field {
    fn parse(word: &str) -> Result<Field, String> {
        if let Some((_, field)) = KEYS.iter().find(|(name, _)| *name == word) {
            return Ok(*field);
        }
        let all = Figure::all();
        if let Some(figure) = all.iter().find(|figure| figure.name() == word) {
            return Ok(Field::Figure(*figure));
        }
        let names: Vec<_> = all.iter().map(|figure| figure.name()).collect();
        let known = KEYS.iter().map(|(name, _)| *name).chain(names.iter().map(String::as_str));
        Err(match nearest(word, known) {
            Some(near) => format!("unknown name {word:?} (did you mean {near:?}?)"),
            None => format!("unknown name {word:?} (analyzer figures lists them)"),
        })
    }
}

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let mut reader = Reader { tokens: tokens(text)?.into_iter().peekable(), depth: 0 };
        let condition = reader.either()?;
        match reader.tokens.next() {
            None => Ok(condition),
            Some(token) => Err(format!("{token:?} is out of place: and, or?")),
        }
    }
}

impl Condition {
    /// The dimensions that rows must be told apart by.
    pub fn dimensions(&self, all: &mut Vec<Dimension>) {
        match self {
            Condition::And(one, other) | Condition::Or(one, other) => {
                one.dimensions(all);
                other.dimensions(all);
            }
            Condition::Not(one) => one.dimensions(all),
            Condition::Compare(Field::Key(dimension), ..) => all.push(*dimension),
            Condition::Compare(Field::Name, ..) => all.push(Dimension::Stage),
            Condition::Compare(..) => {}
        }
    }

    /// Whether it holds for a row; `None` if that is not known.
    fn holds(&self, key: &Key, row: &Row, names: &StageNames) -> Option<bool> {
        match self {
            Condition::And(one, other) => {
                match (one.holds(key, row, names), other.holds(key, row, names)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                }
            }
            Condition::Or(one, other) => {
                match (one.holds(key, row, names), other.holds(key, row, names)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                }
            }
            Condition::Not(one) => one.holds(key, row, names).map(|holds| !holds),
            Condition::Compare(field, operator, value) => match field {
                Field::Figure(figure) => of_figure(row.said(*figure), *figure, *operator, value),
                Field::Part => of_text(key.part.name(), *operator, value),
                Field::Name => {
                    let application = key.application.as_ref()?.0.clone();
                    let (stage, attempt) = key.stage?;
                    let name = names.get(&(application, stage, attempt.unwrap_or(0)))?;
                    of_text(&name.full(), *operator, value)
                }
                Field::Key(dimension) => of_key(key, *dimension, *operator, value),
            },
        }
    }

    /// Whether a row is shown.
    pub fn is_shown(&self, key: &Key, row: &Row, names: &StageNames) -> bool {
        self.holds(key, row, names) == Some(true)
    }
}

fn of_figure(said: Said, figure: Figure, operator: Operator, value: &Value) -> Option<bool> {
    let Value::Number(wanted) = value else { return None };
    let scale = if figure.scale() == Scale::Millionths { MILLION as f64 } else { 1.0 };
    match said {
        Said::Exactly(own) => compared(own as f64 / scale, *wanted, operator),
        // It may be any larger number.
        Said::AtLeast(own) => {
            let own = own as f64 / scale;
            match operator {
                Operator::Above if own > *wanted => Some(true),
                Operator::AtLeast if own >= *wanted => Some(true),
                Operator::Below if own >= *wanted => Some(false),
                Operator::AtMost if own > *wanted => Some(false),
                Operator::Unequal if own > *wanted => Some(true),
                _ => None,
            }
        }
        Said::Unknown => None,
    }
}

fn compared(own: f64, wanted: f64, operator: Operator) -> Option<bool> {
    Some(match operator {
        Operator::Equal | Operator::Contains => own == wanted,
        Operator::Unequal => own != wanted,
        Operator::Below => own < wanted,
        Operator::AtMost => own <= wanted,
        Operator::Above => own > wanted,
        Operator::AtLeast => own >= wanted,
    })
}

fn of_text(own: &str, operator: Operator, value: &Value) -> Option<bool> {
    let wanted = match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
    };
    let order = own.cmp(&wanted);
    Some(match operator {
        Operator::Equal => order.is_eq(),
        Operator::Unequal => order.is_ne(),
        Operator::Below => order.is_lt(),
        Operator::AtMost => order.is_le(),
        Operator::Above => order.is_gt(),
        Operator::AtLeast => order.is_ge(),
        Operator::Contains => own.to_lowercase().contains(&wanted.to_lowercase()),
    })
}

fn of_key(key: &Key, dimension: Dimension, operator: Operator, value: &Value) -> Option<bool> {
    let id = match dimension {
        Dimension::Query => Some(key.query?),
        Dimension::Job => Some(key.job?),
        Dimension::Task => Some(key.task?),
        Dimension::Thread => Some(key.thread.as_ref()?.tid),
        _ => None,
    };
    match (id, value) {
        (Some(id), Value::Number(wanted)) => compared(id as f64, *wanted, operator),
        _ if dimension == Dimension::Stage => {
            let (stage, attempt) = key.stage?;
            match value {
                // 3 is every attempt of stage 3, 3.1 its second one.
                Value::Number(wanted) if wanted.fract() == 0.0 => {
                    compared(stage as f64, *wanted, operator)
                }
                _ => of_text(&stage_text(stage, attempt), operator, value),
            }
        }
        _ => of_text(&shown_text(key, dimension)?, operator, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::key::{Part, Place};
    use crate::report::rows::Counted;

    fn row(instructions: u64, is_partial: bool) -> Row {
        let mut row = Row::default();
        let mut values = [None; records::METRIC_COUNT];
        values[records::metric::INSTRUCTIONS] = Some(instructions);
        row.add_counted(&Counted { values, is_partial, is_exact: !is_partial });
        row
    }

    fn key(stage: i64, node: &str) -> Key {
        let by = [Dimension::Node, Dimension::Stage];
        let place =
            Place { node: Some(node.into()), stage: Some((stage, Some(0))), ..Place::default() };
        Key::new(&by, &place, Part::Tasks)
    }

    #[test]
    fn conditions_hold_or_not() {
        let names = StageNames::new();
        let holds = |text: &str, row: &Row| {
            text.parse::<Condition>().unwrap().holds(&key(3, "node-1"), row, &names)
        };
        let exact = row(2_000_000_000, false);
        for (text, expected) in [
            ("stage=3 and instructions>1e9", Some(true)),
            ("stage == 3 AND instructions >= 2G", Some(true)),
            ("stage!=3 or node~NODE", Some(true)),
            ("not (stage=3 or node=\"x\")", Some(false)),
            ("instructions<2e9", Some(false)),
            ("barriers=0", None),
            ("barriers=0 or stage=3", Some(true)),
            ("barriers=0 and stage=3", None),
            ("not barriers=0", None),
            ("node='node-1'", Some(true)),
            ("part=tasks", Some(true)),
            ("stage>2", Some(true)),
        ] {
            assert_eq!(holds(text, &exact), expected, "{text}");
        }
        let bound = row(5, true);
        for (text, expected) in [
            ("instructions>4", Some(true)),
            ("instructions>5", None),
            ("instructions<5", Some(false)),
            ("instructions=5", None),
        ] {
            assert_eq!(holds(text, &bound), expected, "{text}");
        }
    }

    #[test]
    fn wrong_conditions_say_what_is_wrong() {
        let error = |text: &str| text.parse::<Condition>().unwrap_err();
        assert_eq!(
            error("instructoins>1"),
            "unknown name \"instructoins\" (did you mean \"instructions\"?)"
        );
        assert!(error("instructions>lots").contains("is none"));
        assert!(error("stage=3 instructions>1").contains("out of place"));
        assert!(error("(stage=3").contains(") is missing"));
        assert!(error("stage").contains("is missing"));
        assert!(error("").contains("missing"));
        assert!(error("node='x").contains("not closed"));
        assert!(error(&"(".repeat(1000)).contains("too many"));
        assert!(error(&"not ".repeat(1000)).contains("too many"));
    }
}
