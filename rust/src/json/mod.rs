//! JSON from a bundle, read strictly, and JSON for programs, written as Python writes it.
//!
//! Nothing is guessed and nothing is dropped: a key twice, a key too many, a number out of range are errors.

mod fields;
mod writing;

use std::collections::HashSet;

use crate::errors::{Error, Result};
pub(crate) use fields::{
    Table, any_number, choice, each, flag, formed, number, open_table, positive, refused, text, text_or_empty, whole,
};
pub(crate) use writing::shown;
pub use writing::{decimal, quoted, quoted_path, write, write_indented};

/// The largest whole number that every language's double holds exactly.
pub const MAX_WHOLE: i64 = (1 << 53) - 1;
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

impl Value {
    /// The value of a key of an object; nothing where there is none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
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
