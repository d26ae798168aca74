//! The query of a request, read as Go reads it.

use crate::error::{ApiError, Result};
use gantry_api::filter::Filters;
use gantry_api::go::number;

/// Names and values, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c`; what is not well-formed stands as it is.
    pub(crate) fn parse(text: &str) -> Self {
        Self(
            text.split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name, true), decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(key, _)| key == name)?;
        Some(&pair.1)
    }

    /// All values of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value, empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The first value where it is given and not empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A boolean, false where it is not given.
    pub(crate) fn truth(&self, name: &str) -> bool {
        number::truth(self.text(name))
    }

    /// A boolean with another value where it is not given at all.
    pub(crate) fn truth_or(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, number::truth)
    }

    /// An integer, where it is given and not empty.
    // COMPAT: Docker answers 500 to an integer that is none.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>> {
        self.given(name)
            .map(number::atoi)
            .transpose()
            .map_err(ApiError::system)
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<Filters> {
        Filters::parse(self.text("filters")).map_err(|error| ApiError::invalid(error.0))
    }
}

/// Undoes percent-encoding; `+` is a space in a query.
pub(crate) fn decode(text: &str, query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(match bytes[at] {
                    b'+' if query => b' ',
                    other => other,
                });
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let query = Query::parse("a=1&b=x+y%2Fz&a=2&flag&e=&bad=%zz%4");
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("b"), Some("x y/z"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.given("e"), None);
        assert_eq!(query.get("bad"), Some("%zz%4"));
        assert_eq!(query.get("none"), None);
        assert!(query.truth("a") && !query.truth("e") && query.truth_or("none", true));
        assert_eq!(query.integer("a").unwrap(), Some(1));
        assert_eq!(query.integer("e").unwrap(), None);
        assert_eq!(
            query.integer("b").unwrap_err().message,
            "strconv.Atoi: parsing \"x y/z\": invalid syntax"
        );
    }

    #[test]
    fn a_plus_in_a_path_is_a_plus() {
        assert_eq!(decode("a+b%20c", false), "a+b c");
    }
}
