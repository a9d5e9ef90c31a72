//! Reading fields that are not as they should be: what makes no sense is unknown, and costs nothing else of its event.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a field of a number holds.
#[derive(Clone, Debug)]
enum Scalar {
    Unsigned(u64),
    Signed(i64),
    Text(String),
    /// Null, or anything else.
    Other,
}

struct Scalars;

impl<'de> Visitor<'de> for Scalars {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Signed(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Scalar, A::Error> {
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Scalar, A::Error> {
        while all.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// A number that is not negative; everything else is unknown. Clocks that were set back make figures of Spark's negative.
pub fn unsigned<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(match from.deserialize_any(Scalars)? {
        Scalar::Unsigned(value) => Some(value),
        _ => None,
    })
}

/// A number; everything else is unknown.
pub fn signed<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Ok(match from.deserialize_any(Scalars)? {
        Scalar::Unsigned(value) => i64::try_from(value).ok(),
        Scalar::Signed(value) => Some(value),
        _ => None,
    })
}

/// A text, or a number as a text; everything else is unknown.
pub fn any_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match from.deserialize_any(Scalars)? {
        Scalar::Unsigned(value) => Some(value.to_string()),
        Scalar::Signed(value) => Some(value.to_string()),
        Scalar::Text(text) => Some(text),
        Scalar::Other => None,
    })
}

/// Elements that the lists of one line may have together: a pair of brackets is two bytes of a line, and may be a
/// hundred of memory.
pub const MAX_ELEMENTS: usize = 1_000_000;

thread_local! {
    static LEFT: Cell<usize> = const { Cell::new(MAX_ELEMENTS) };
}

/// Begins a line.
pub fn begin_line() {
    LEFT.set(MAX_ELEMENTS);
}

/// Whether the line that was begun last has more elements in its lists than it may.
pub fn has_too_many_elements() -> bool {
    LEFT.get() == 0
}

/// A list; null is an empty one.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Elements<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(one) = all.next_element()? {
                list.push(one);
                let left = LEFT.get().saturating_sub(1);
                LEFT.set(left);
                if left == 0 {
                    return Err(de::Error::custom("too many elements in lists"));
                }
            }
            Ok(list)
        }
    }
    from.deserialize_any(Elements(PhantomData))
}

/// What the field holds; null is as good as no field.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Fields {
        #[serde(default, deserialize_with = "unsigned")]
        bytes: Option<u64>,
        #[serde(default, deserialize_with = "signed")]
        time: Option<i64>,
        #[serde(default, deserialize_with = "any_text")]
        text: Option<String>,
        #[serde(default, deserialize_with = "or_default")]
        list: Vec<i64>,
    }

    #[test]
    fn one_wrong_field_costs_itself_alone() {
        for wrong in ["-7", "1.5", "\"x\"", "null", "[1,{}]", "{\"a\":[1]}", "true"] {
            let line = format!("{{\"bytes\":{wrong},\"time\":-3,\"text\":12,\"list\":null}}");
            let fields: Fields = serde_json::from_str(&line).unwrap();
            let expected =
                Fields { bytes: None, time: Some(-3), text: Some("12".into()), list: Vec::new() };
            assert_eq!(fields, expected, "{wrong}");
        }
        let fields: Fields = serde_json::from_str("{\"time\":18446744073709551615}").unwrap();
        assert_eq!(fields.time, None);
    }
}
