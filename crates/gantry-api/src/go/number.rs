//! Booleans, integers and timestamps of query parameters (Go's `strconv`, Docker's `httputils`).

/// What Go's `strconv` says of a text that is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    Syntax,
    Range,
}

impl std::fmt::Display for NumberError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        })
    }
}

/// Docker's boolean of a query parameter: anything but nothing, `0`, `no`, `false` and `none` is true.
pub fn truth(text: &str) -> bool {
    !matches!(
        text.trim().to_lowercase().as_str(),
        "" | "0" | "no" | "false" | "none"
    )
}

/// A decimal integer: an optional sign and digits.
pub fn integer(text: &str) -> Result<i64, NumberError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Syntax);
    }
    text.parse().map_err(|_| NumberError::Range)
}

/// `strconv.Atoi`, with its whole message.
pub fn atoi(text: &str) -> Result<i64, String> {
    integer(text).map_err(|error| format!("strconv.Atoi: parsing {}: {error}", quote(text)))
}

/// `strconv.ParseInt`, with its whole message.
pub fn parse_int(text: &str) -> Result<i64, String> {
    integer(text).map_err(|error| format!("strconv.ParseInt: parsing {}: {error}", quote(text)))
}

/// `strconv.ParseBool`, with its whole message.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            quote(text)
        )),
    }
}

/// Go's `%q` of a text.
pub fn quote(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A point in time as `seconds[.nanoseconds]` since 1970, as Unix nanoseconds (`timestamp.ParseTimestamps`).
pub fn timestamp(text: &str) -> Result<i64, String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = parse_int(seconds)?;
    let nanos = if fraction.is_empty() {
        0
    } else {
        parse_int(fraction)?;
        let padded: String = fraction
            .chars()
            .chain("000000000".chars())
            .take(9)
            .collect();
        parse_int(&padded)?
    };
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truths() {
        for no in ["", "0", "no", "False", " none "] {
            assert!(!truth(no), "{no:?}");
        }
        for yes in ["1", "true", "x", "2"] {
            assert!(truth(yes), "{yes:?}");
        }
    }

    #[test]
    fn integers_as_go_reads_them() {
        assert_eq!(atoi("-7"), Ok(-7));
        assert_eq!(atoi("+7"), Ok(7));
        assert_eq!(
            atoi("x"),
            Err("strconv.Atoi: parsing \"x\": invalid syntax".into())
        );
        assert_eq!(
            atoi(""),
            Err("strconv.Atoi: parsing \"\": invalid syntax".into())
        );
        assert_eq!(
            parse_int("99999999999999999999"),
            Err("strconv.ParseInt: parsing \"99999999999999999999\": value out of range".into())
        );
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp("1"), Ok(1_000_000_000));
        assert_eq!(timestamp("1.5"), Ok(1_500_000_000));
        assert_eq!(timestamp("1.000000005"), Ok(1_000_000_005));
        assert_eq!(
            timestamp("x"),
            Err("strconv.ParseInt: parsing \"x\": invalid syntax".into())
        );
    }
}
