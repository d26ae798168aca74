//! What a flag's text may become.

use std::marker::PhantomData;

/// A type that a flag can have.
pub(crate) trait FlagValue {
    /// The word for it in the help.
    const KIND: &'static str;
    const SWITCH: bool = false;
    /// Takes the text of one occurrence of the flag; the error is Docker's words.
    fn accept(&mut self, text: &str) -> Result<(), String>;
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing \"{text}\": invalid syntax"
        )),
    }
}

impl FlagValue for bool {
    const KIND: &'static str = "";
    const SWITCH: bool = true;
    fn accept(&mut self, text: &str) -> Result<(), String> {
        *self = truth(text)?;
        Ok(())
    }
}

/// A switch of which it matters whether it was given.
impl FlagValue for Option<bool> {
    const KIND: &'static str = "";
    const SWITCH: bool = true;
    fn accept(&mut self, text: &str) -> Result<(), String> {
        *self = Some(truth(text)?);
        Ok(())
    }
}

impl FlagValue for String {
    const KIND: &'static str = "string";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }
}

impl FlagValue for Option<String> {
    const KIND: &'static str = "string";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        *self = Some(text.to_owned());
        Ok(())
    }
}

impl FlagValue for Vec<String> {
    const KIND: &'static str = "list";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        self.push(text.to_owned());
        Ok(())
    }
}

/// Go's strconv.ParseInt with base 0, for the signs and bases people write.
fn integer(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match (lower.get(..2), lower.len() > 1 && lower.starts_with('0')) {
        (Some("0x"), _) => (16, &lower[2..]),
        (Some("0o"), _) => (8, &lower[2..]),
        (Some("0b"), _) => (2, &lower[2..]),
        (_, true) => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    let wrong = |why| format!("strconv.ParseInt: parsing \"{text}\": {why}");
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(wrong("invalid syntax"));
    }
    i128::from_str_radix(digits, base)
        .ok()
        .and_then(|number| i64::try_from(sign * number).ok())
        .ok_or_else(|| wrong("value out of range"))
}

impl FlagValue for i64 {
    const KIND: &'static str = "int";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        *self = integer(text)?;
        Ok(())
    }
}

impl FlagValue for Option<i64> {
    const KIND: &'static str = "int";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        *self = Some(integer(text)?);
        Ok(())
    }
}

/// How one text of a [`Checked`] list is read.
pub(crate) trait Rule {
    const KIND: &'static str = "list";
    type Item;
    fn read(text: &str) -> Result<Self::Item, String>;
}

/// A list whose members are read as they come, so that a wrong one is told with its flag's name.
pub(crate) struct Checked<R: Rule> {
    pub(crate) items: Vec<R::Item>,
    rule: PhantomData<R>,
}

impl<R: Rule> Default for Checked<R> {
    fn default() -> Self {
        Checked {
            items: Vec::new(),
            rule: PhantomData,
        }
    }
}

impl<R: Rule> std::fmt::Debug for Checked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} items", self.items.len())
    }
}

impl<R: Rule> Checked<R> {
    /// The last one given.
    pub(crate) fn last(&self) -> Option<&R::Item> {
        self.items.last()
    }
}

impl<R: Rule> FlagValue for Checked<R> {
    const KIND: &'static str = R::KIND;
    fn accept(&mut self, text: &str) -> Result<(), String> {
        self.items.push(R::read(text)?);
        Ok(())
    }
}

/// One line of comma-separated values; `"` keeps commas together.
pub(crate) fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(field) = fields.last_mut() else {
            break;
        };
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err("parse error on line 1: bare \" in non-quoted-field".to_owned()),
            ',' if !quoted => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    if quoted {
        return Err("parse error on line 1: extraneous or missing \" in quoted-field".to_owned());
    }
    Ok(fields)
}

/// A list of which one text may bring several members, with commas between them.
#[derive(Debug, Default)]
pub(crate) struct Strings(pub(crate) Vec<String>);

impl FlagValue for Strings {
    const KIND: &'static str = "strings";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        if !text.is_empty() {
            self.0.extend(csv(text)?);
        }
        Ok(())
    }
}
