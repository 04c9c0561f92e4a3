//! Fields of parsed JSON, each held to what it may be.

use super::{Value, quoted, shown};
use crate::errors::{Error, Result};

const MAX_NUMBER: f64 = 1e308;

/// An object that has every key of `required` and no other, which is asked for its values by name.
pub struct Table<'a> {
    pairs: &'a [(String, Value)],
}

impl<'a> Table<'a> {
    /// `value` as an object of exactly these keys.
    pub fn of(value: &'a Value, place: &str, required: &[&str]) -> Result<Self> {
        let Value::Object(pairs) = value else {
            return Err(refused("an object is needed here", place, "an object", value));
        };
        if let Some(key) = required.iter().find(|key| !pairs.iter().any(|(name, _)| name == *key)) {
            return Err(Error::invalid("a key is missing").at(place).expected(format!("'{key}'")));
        }
        if let Some((key, _)) = pairs.iter().find(|(name, _)| !required.contains(&name.as_str())) {
            let known = format!("only {}", required.join(", "));
            return Err(Error::invalid("an unknown key").at(place).expected(known).found(quoted(key)));
        }
        Ok(Self { pairs })
    }

    /// The value of a key that is there.
    pub fn get(&self, key: &str) -> &'a Value {
        self.pairs.iter().find(|(name, _)| name == key).map_or(&Value::Null, |(_, value)| value)
    }
}

/// `value` as an object of at most 200 keys, each of which is a plain lower-case name.
pub fn open_table<'a>(value: &'a Value, place: &str) -> Result<&'a [(String, Value)]> {
    let Value::Object(pairs) = value else {
        return Err(refused("an object is needed here", place, "an object of at most 200 keys", value));
    };
    if pairs.len() > 200 {
        return Err(refused("an object has too many keys", place, "at most 200", value));
    }
    for (key, _) in pairs {
        let is_name = key.len() <= 100
            && key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name {
            return Err(Error::invalid("a key has the wrong form").at(place).found(quoted(key)));
        }
    }
    Ok(pairs)
}

/// `value` as a string of at most `limit` characters (code points), none of them a control character.
pub fn text<'a>(value: &'a Value, place: &str, limit: usize) -> Result<&'a str> {
    match value {
        Value::Text(found) if found.is_empty() => {
            Err(refused("a string is empty", place, &format!("1 to {limit} characters"), value))
        }
        _ => text_or_empty(value, place, limit),
    }
}

/// The same, which may be empty.
pub fn text_or_empty<'a>(value: &'a Value, place: &str, limit: usize) -> Result<&'a str> {
    let Value::Text(found) = value else {
        return Err(refused("a string is needed here", place, "a string", value));
    };
    if found.chars().count() > limit {
        return Err(refused("a string is too long", place, &format!("at most {limit} characters"), value));
    }
    if found.chars().any(|one| matches!(one, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}')) {
        return Err(refused("a string has a control character", place, "printable characters", value));
    }
    Ok(found)
}

/// `value` as a string of a form that `fits` tells.
pub fn formed<'a>(
    value: &'a Value,
    place: &str,
    limit: usize,
    form: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<&'a str> {
    let found = text(value, place, limit)?;
    if fits(found) { Ok(found) } else { Err(refused("a string has the wrong form", place, form, value)) }
}

/// `value`, which is one of the strings `allowed`.
pub fn choice<'a>(value: &'a Value, place: &str, allowed: &[&str]) -> Result<&'a str> {
    match value {
        Value::Text(found) if allowed.contains(&found.as_str()) => Ok(found),
        _ => Err(refused("not one of the values that the format knows", place, &allowed.join(" or "), value)),
    }
}

/// `value` as true or false.
pub fn flag(value: &Value, place: &str) -> Result<bool> {
    match value {
        Value::Bool(found) => Ok(*found),
        _ => Err(refused("not one of the values that the format knows", place, "true or false", value)),
    }
}

/// `value` as a whole number from `low` to `high`.
pub fn whole(value: &Value, place: &str, low: i64, high: i64) -> Result<usize> {
    match value {
        Value::Whole(found) if (low..=high).contains(found) && *found >= 0 => Ok(*found as usize),
        _ => {
            let wanted = format!("a whole number from {low} to {high}");
            Err(refused("a whole number is needed here", place, &wanted, value))
        }
    }
}

/// `value` as a finite number from `low` to `high`.
pub fn number(value: &Value, place: &str, low: f64, high: f64) -> Result<f64> {
    let found = match value {
        Value::Whole(found) => *found as f64,
        Value::Number(found) => *found,
        _ => f64::NAN,
    };
    if (low..=high).contains(&found) {
        return Ok(found);
    }
    Err(refused("a number is needed here", place, &format!("a finite number from {low} to {high}"), value))
}

/// `value` as any finite number.
pub fn any_number(value: &Value, place: &str) -> Result<f64> {
    number(value, place, -MAX_NUMBER, MAX_NUMBER)
}

/// `value` as a finite number that is not below 0.
pub fn positive(value: &Value, place: &str) -> Result<f64> {
    number(value, place, 0.0, MAX_NUMBER)
}

/// The items of the list `value`, of which there are `low` to `high`.
pub fn list<'a>(value: &'a Value, place: &str, low: usize, high: usize) -> Result<&'a [Value]> {
    let Value::List(items) = value else {
        return Err(refused("a list is needed here", place, "a list", value));
    };
    if !(low..=high).contains(&items.len()) {
        return Err(Error::invalid("a list is too short or too long")
            .at(place)
            .expected(format!("{low} to {high} items"))
            .found(items.len()));
    }
    Ok(items)
}

/// The items of the list `value`, each as `read(item, place)` gives it.
pub fn each<'a, T>(
    value: &'a Value,
    place: &str,
    low: usize,
    high: usize,
    mut read: impl FnMut(&'a Value, &str) -> Result<T>,
) -> Result<Vec<T>> {
    let items = list(value, place, low, high)?;
    items.iter().enumerate().map(|(index, item)| read(item, &format!("{place}[{index}]"))).collect()
}

/// An error about a value that is not as it must be.
pub fn refused(what: &str, place: &str, expected: &str, found: &Value) -> Error {
    Error::invalid(what).at(place).expected(expected).found(shown(found))
}
