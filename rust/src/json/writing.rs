//! JSON in ASCII, as Python's `json.dumps` writes it.

use std::fmt::Write as _;
use std::path::Path;

use super::Value;

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
