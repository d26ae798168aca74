//! The `filters` parameter of lists, prunes and events.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Filter names, each with the values asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Why filters are refused, in Docker's words; always the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError(pub String);

impl std::fmt::Display for FilterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilterError {}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(BTreeSet<String>),
    /// The form of clients before 1.22: `{"label": {"a=b": true}}`.
    Map(BTreeMap<String, bool>),
}

impl Filters {
    /// Parses the parameter; an empty text is no filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let parsed: BTreeMap<String, Option<Values>> =
            serde_json::from_str(text).map_err(|_| FilterError("invalid filter".to_owned()))?;
        Ok(Self(
            parsed
                .into_iter()
                .map(|(name, values)| {
                    let values = match values {
                        None => BTreeSet::new(),
                        Some(Values::List(list)) => list,
                        Some(Values::Map(map)) => map
                            .into_iter()
                            .filter_map(|(value, on)| on.then_some(value))
                            .collect(),
                    };
                    (name, values)
                })
                .collect(),
        ))
    }

    /// Adds one value.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0
            .entry(name.to_owned())
            .or_default()
            .insert(value.to_owned());
    }

    /// Whether no filter is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the filter is set, with values or without.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of a filter, in order.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Refuses filters of other names.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), FilterError> {
        match self
            .0
            .keys()
            .find(|name| !accepted.contains(&name.as_str()))
        {
            Some(name) => Err(FilterError(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    /// A filter that is a boolean: `default` where it is not set.
    pub fn boolean(&self, name: &str, default: bool) -> Result<bool, FilterError> {
        let Some(values) = self.0.get(name) else {
            return Ok(default);
        };
        let is = |texts: [&str; 2]| texts.iter().any(|text| values.contains(*text));
        match (is(["1", "true"]), is(["0", "false"])) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => {
                let list: Vec<_> = values.iter().map(String::as_str).collect();
                Err(FilterError(format!(
                    "invalid filter '{name}=[{}]'",
                    list.join(" ")
                )))
            }
        }
    }

    /// True where the filter is not set, or has no value, or one of its values is `source`.
    pub fn matches_exactly(&self, name: &str, source: &str) -> bool {
        self.0
            .get(name)
            .is_none_or(|values| values.is_empty() || values.contains(source))
    }

    /// Like [`Self::matches_exactly`], or one of the values is how `source` begins.
    pub fn matches_prefix(&self, name: &str, source: &str) -> bool {
        self.0.get(name).is_none_or(|values| {
            values.is_empty()
                || values
                    .iter()
                    .any(|value| source.starts_with(value.as_str()))
        })
    }

    /// Labels: each value, `key` or `key=value`, must be found in `sources`. Not for an unset filter of
    /// labels that must be absent (`label!`): ask [`Self::contains`] first.
    pub fn matches_all_labels(&self, name: &str, sources: &BTreeMap<String, String>) -> bool {
        self.get(name).all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => sources.get(key).is_some_and(|found| found == value),
            None => sources.contains_key(wanted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        let old = Filters::parse(r#"{"label":{"a=b":true,"c":true,"d":false}}"#).unwrap();
        assert_eq!(new, old);
        assert!(Filters::parse("").unwrap().is_empty());
        for bad in ["nope", "[]", "5", r#"{"a":5}"#, r#"{"a":[1]}"#, "{"] {
            assert_eq!(
                Filters::parse(bad),
                Err(FilterError("invalid filter".into())),
                "{bad}"
            );
        }
    }

    #[test]
    fn words_of_refusal() {
        let filters = Filters::parse(r#"{"nonsense":["x"],"dangling":["maybe"]}"#).unwrap();
        assert_eq!(
            filters.validate(&["dangling"]).unwrap_err().0,
            "invalid filter 'nonsense'"
        );
        assert_eq!(
            filters.boolean("dangling", false).unwrap_err().0,
            "invalid filter 'dangling=[maybe]'"
        );
        assert!(filters.boolean("other", true).unwrap());
    }

    #[test]
    fn matching() {
        let mut filters = Filters::default();
        assert!(filters.matches_exactly("type", "container"));
        filters.add("type", "image");
        assert!(!filters.matches_exactly("type", "container"));
        filters.add("container", "abc");
        assert!(filters.matches_prefix("container", "abcdef"));
        filters.add("label", "a=b");
        filters.add("label", "c");
        let mut labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(!filters.matches_all_labels("label", &labels));
        labels.insert("c".to_owned(), String::new());
        assert!(filters.matches_all_labels("label", &labels));
    }
}
