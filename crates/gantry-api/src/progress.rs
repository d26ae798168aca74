//! The lines that pull, load and import stream: one JSON object each, ended by CR LF.

use serde::{Deserialize, Serialize};

/// `jsonmessage.JSONMessage`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The bar that old clients show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far a step is, in bytes. Both members are left out at 0 (`{}` clears a bar).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
}

/// The last line of a stream that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    pub message: String,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Progress {
    /// A line of text alone.
    pub fn status(text: impl Into<String>) -> Self {
        Self {
            status: Some(text.into()),
            ..Self::default()
        }
    }

    /// A line of text about one layer.
    pub fn of(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            progress_detail: Some(ProgressDetail::default()),
            ..Self::status(text)
        }
    }

    /// What `load` says: text that the client prints as it is.
    pub fn stream(text: impl Into<String>) -> Self {
        Self {
            stream: Some(text.into()),
            ..Self::default()
        }
    }

    /// The end of a stream that failed.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ErrorDetail {
                code: None,
                message: message.clone(),
            }),
            error: Some(message),
            ..Self::default()
        }
    }

    /// The line as it goes over the wire.
    pub fn line(&self) -> Vec<u8> {
        // A struct of strings and numbers always has a JSON form.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_docker_s_line() {
        let line = Progress::failure("no").line();
        assert_eq!(
            line,
            b"{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }

    #[test]
    fn a_layer_s_line_has_an_empty_detail() {
        let line = Progress::of("abc", "Pull complete").line();
        assert_eq!(
            line,
            b"{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n"
        );
    }
}
