//! Numbers as Python's format `g` shows them.

/// `value` with at most so many significant digits, without zeros at the end.
pub fn general(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    without_zeros(&format!("{value:.*}", (digits as i32 - 1 - exponent).max(0) as usize)).to_owned()
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::general;

    #[test]
    fn numbers_are_shown_as_python_shows_them() {
        for (value, digits, text) in [
            (0.0, 3, "0"),
            (1.9e-6, 3, "1.9e-06"),
            (0.000_123_45, 3, "0.000123"),
            (0.1, 3, "0.1"),
            (99.96, 3, "100"),
            (1234.0, 3, "1.23e+03"),
            (17.0, 8, "17"),
            (-0.05, 4, "-0.05"),
            (f64::INFINITY, 4, "inf"),
        ] {
            assert_eq!(general(value, digits), text);
        }
    }
}
