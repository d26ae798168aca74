//! JSON bodies as Go's `encoding/json` reads them.
//!
//! Keys of a struct match without regard to case, a `null` leaves a field alone, unknown keys are passed
//! over, and errors have Go's words (`json: cannot unmarshal number into Go struct field .Image of type
//! string`), since clients and people know them.

mod decode;
mod syntax;
#[cfg(test)]
mod tests;

pub use decode::decode;

use serde::de::DeserializeOwned;

/// Why a body is refused, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(pub String);

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JsonError {}

/// Parses one JSON value.
pub fn parse(bytes: &[u8]) -> Result<serde_json::Value, JsonError> {
    serde_json::from_slice(bytes)
        .map_err(|error| JsonError(syntax::complaint(bytes).unwrap_or_else(|| error.to_string())))
}

/// Parses and decodes one JSON value.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    decode(&parse(bytes)?)
}
