//! JSON from a bundle, read strictly, and JSON for programs, written as Python writes it.
//!
//! Nothing is guessed and nothing is dropped: a key twice, a key too many, a number out of range are errors.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::errors::{Error, Result};

/// The largest whole number that every language's double holds exactly.
pub const MAX_WHOLE: i64 = (1 << 53) - 1;
const MAX_NUMBER: f64 = 1e308;
const MAX_DEPTH: usize = 64;

/// A JSON value. 3, 3.0 and 3e0 are one whole number.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// A number that is whole, up to `MAX_WHOLE`
    Whole(i64),
    /// Any other number
    Number(f64),
    /// A string
    Text(String),
    /// A list
    List(Vec<Value>),
    /// An object, its keys in the order of the file
    Object(Vec<(String, Value)>),
    /// What has been written as JSON already; it is never read
    Written(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Value {
    /// The number; null where it is not finite, for which JSON has no word.
    fn from(number: f64) -> Self {
        if number.is_finite() { Self::Number(number) } else { Self::Null }
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Whole(number as i64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// An object of these keys.
pub fn object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The JSON value in `data`, which is UTF-8 without a byte order mark.
///
/// # Errors
/// `BundleInvalid` where it is not JSON, or has a key twice in one object, or half of a surrogate pair.
pub fn parse(data: &[u8], place: &str) -> Result<Value> {
    let fail = |words: String| Error::invalid("a file of the bundle is not strict JSON").at(place).found(words);
    let text = std::str::from_utf8(data).map_err(|error| fail(error.to_string()))?;
    let mut reader = Reader { text, at: 0 };
    reader.document().map_err(|words| fail(format!("{words} at byte {}", reader.at)))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Parsed<T> = std::result::Result<T, String>;

impl Reader<'_> {
    fn document(&mut self) -> Parsed<Value> {
        let value = self.value(0)?;
        self.skip_blank();
        if self.at < self.text.len() { Err("more than one value".into()) } else { Ok(value) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> Parsed<()> {
        if self.peek() != Some(wanted) {
            return Err(format!("no '{}'", char::from(wanted)));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Parsed<Value> {
        if depth > MAX_DEPTH {
            return Err("too deep".into());
        }
        self.skip_blank();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
                {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                Err("no JSON value".into())
            }
        }
    }

    /// Whether another item follows in a list or an object that ends with `end`.
    fn another(&mut self, end: u8, is_first: bool) -> Parsed<bool> {
        self.skip_blank();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(false);
        }
        if !is_first {
            self.take(b',')?;
            self.skip_blank();
        }
        Ok(true)
    }

    fn list(&mut self, depth: usize) -> Parsed<Value> {
        self.take(b'[')?;
        let mut items = Vec::new();
        while self.another(b']', items.is_empty())? {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::List(items))
    }

    fn object(&mut self, depth: usize) -> Parsed<Value> {
        self.take(b'{')?;
        let mut pairs: Vec<(String, Value)> = Vec::new();
        let mut seen = HashSet::new();
        while self.another(b'}', pairs.is_empty())? {
            let key = self.string()?;
            if !seen.insert(key.clone()) {
                return Err(format!("the key {} stands twice in one object", quoted(&key)));
            }
            self.skip_blank();
            self.take(b':')?;
            pairs.push((key, self.value(depth + 1)?));
        }
        Ok(Value::Object(pairs))
    }

    fn string(&mut self) -> Parsed<String> {
        self.take(b'"')?;
        let mut found = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(['"', '\\']).ok_or("a string without an end")?;
            if rest.as_bytes()[..plain].iter().any(|byte| *byte < 0x20) {
                return Err("a control character in a string".into());
            }
            found.push_str(&rest[..plain]);
            self.at += plain + 1;
            if rest.as_bytes()[plain] == b'"' {
                return Ok(found);
            }
            found.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let letter = self.peek().ok_or("a string without an end")?;
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.four()?;
                let code = if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    let second = self.four()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err("half of a surrogate pair".into());
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code).ok_or("half of a surrogate pair")?
            }
            _ => return Err("an unknown escape".into()),
        })
    }

    fn four(&mut self) -> Parsed<u32> {
        let digits = self.text.get(self.at..self.at + 4).ok_or("a short escape")?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("an escape that is not four hexadecimal digits".into());
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|error| error.to_string())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Parsed<Value> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leads_with_zero = self.peek() == Some(b'0');
        let count = self.digits();
        if count == 0 || (leads_with_zero && count > 1) {
            return Err("no JSON number".into());
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err("no digit after a point".into());
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err("no digit in an exponent".into());
            }
        }
        let value: f64 = self.text[start..self.at].parse().map_err(|_| "no JSON number")?;
        let is_whole = value.fract() == 0.0 && value.abs() <= MAX_WHOLE as f64;
        Ok(if is_whole { Value::Whole(value as i64) } else { Value::Number(value) })
    }
}

/// An object that has every key of `required` and no other, which is asked for its values by name.
pub struct Table<'a> {
    pairs: &'a [(String, Value)],
    /// Where it stands.
    pub place: &'a str,
}

impl<'a> Table<'a> {
    /// `value` as an object of exactly these keys.
    pub fn of(value: &'a Value, place: &'a str, required: &[&str]) -> Result<Self> {
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
        Ok(Self { pairs, place })
    }

    /// The value of a key that is there.
    pub fn get(&self, key: &str) -> &'a Value {
        self.pairs.iter().find(|(name, _)| name == key).map_or(&Value::Null, |(_, value)| value)
    }
}

impl Value {
    /// The value of a key of an object; nothing where there is none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
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

/// `value` for a message: ASCII, and short.
pub fn shown(value: &Value) -> String {
    let words = write(value);
    if words.len() <= 100 { words } else { format!("{}...", &words[..97]) }
}

/// A string as JSON has it, in ASCII.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_text(&mut out, text);
    out
}

/// A path as JSON has it, in ASCII. A byte that is not UTF-8 is `\udcXX`, as Python's `os.fsdecode` has it.
#[must_use]
pub fn quoted_path(path: &Path) -> String {
    let mut out = String::from("\"");
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        let quoted = quoted(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\udc{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// `value` as one line of ASCII, as Python's `json.dumps` writes it.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, None);
    out
}

/// `value` over several lines, indented by two blanks, as `json.dumps(value, indent=2)` writes it.
pub fn write_indented(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Some(0));
    out
}

fn write_value(out: &mut String, value: &Value, depth: Option<usize>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Whole(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Number(number) => out.push_str(&decimal(*number)),
        Value::Text(text) => write_text(out, text),
        Value::Written(json) => out.push_str(json),
        Value::List(items) => {
            let inner = open(out, '[', items.is_empty(), depth);
            for (index, item) in items.iter().enumerate() {
                separate(out, index, inner);
                write_value(out, item, inner);
            }
            close(out, ']', items.is_empty(), depth);
        }
        Value::Object(pairs) => {
            let inner = open(out, '{', pairs.is_empty(), depth);
            for (index, (key, item)) in pairs.iter().enumerate() {
                separate(out, index, inner);
                write_text(out, key);
                out.push_str(": ");
                write_value(out, item, inner);
            }
            close(out, '}', pairs.is_empty(), depth);
        }
    }
}

fn open(out: &mut String, bracket: char, is_empty: bool, depth: Option<usize>) -> Option<usize> {
    out.push(bracket);
    let inner = depth.map(|depth| depth + 1);
    if !is_empty {
        new_line(out, inner);
    }
    inner
}

fn close(out: &mut String, bracket: char, is_empty: bool, depth: Option<usize>) {
    if !is_empty {
        new_line(out, depth);
    }
    out.push(bracket);
}

fn separate(out: &mut String, index: usize, depth: Option<usize>) {
    if index > 0 {
        out.push(',');
        if depth.is_none() {
            out.push(' ');
        }
        new_line(out, depth);
    }
}

fn new_line(out: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for one in text.chars() {
        match one {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(one),
            _ => {
                for unit in one.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// A finite number in the fewest digits that give it back, in the form of Python's `repr`.
pub fn decimal(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Kind;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (1.9e-6, "1.9e-06"),
            (0.0001, "0.0001"),
            (1e16, "1e+16"),
            (1.5e15, "1500000000000000.0"),
            (1e-300, "1e-300"),
            (0.999_999_940_395_355_2, "0.9999999403953552"),
        ] {
            assert_eq!(decimal(number), text);
        }
    }

    #[test]
    fn text_is_ascii() {
        assert_eq!(quoted("a\"\\\n\u{7f}ä😀"), r#""a\"\\\n\u007f\u00e4\ud83d\ude00""#);
    }

    #[test]
    fn a_number_is_its_value() {
        for text in ["3", "3.0", "3e0", "0.3e1"] {
            assert_eq!(parse(text.as_bytes(), "here").unwrap(), Value::Whole(3));
        }
        assert_eq!(parse(b"-0.0", "here").unwrap(), Value::Whole(0));
        assert_eq!(parse(b"0.5", "here").unwrap(), Value::Number(0.5));
    }

    #[test]
    fn what_is_not_strict_is_refused() {
        let bad: [&[u8]; 14] = [
            b"",
            b"{} {}",
            b"[1,]",
            b"{\"a\": 1, \"a\": 2}",
            b"NaN",
            b"-Infinity",
            b"01",
            b"1.",
            b".5",
            b"\"\\ud800\"",
            b"\"\\udc00\"",
            b"\"a\nb\"",
            b"\xef\xbb\xbf{}",
            b"\"\xff\"",
        ];
        for data in bad {
            assert_eq!(parse(data, "here").unwrap_err().kind(), Kind::BundleInvalid, "{data:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes(), "here").is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let value = object([
            ("list", Value::List(vec![Value::Null, true.into(), 3usize.into(), 0.25.into()])),
            ("empty", Value::List(Vec::new())),
            ("text", "späße \u{1f600}".into()),
        ]);
        assert_eq!(parse(write(&value).as_bytes(), "here").unwrap(), value);
        assert_eq!(parse(write_indented(&value).as_bytes(), "here").unwrap(), value);
    }
}
