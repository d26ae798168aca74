//! The one place where a failure becomes an HTTP status.

use crate::reply::{self, Response};
use gantry_api::ErrorBody;
use gantry_engine::ErrorKind;
use http::StatusCode;

/// A failure, ready to be answered.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn system(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Docker's answer to a path, or a method, that it does not know.
    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// The answer: JSON, or plain text for clients older than API 1.23.
    pub(crate) fn respond(self, plain: bool) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return reply::empty(self.status);
        }
        if plain {
            return reply::text(self.status, self.message + "\n");
        }
        let body = ErrorBody {
            message: self.message,
        };
        reply::json(self.status, &body)
    }
}

impl From<gantry_engine::Error> for ApiError {
    fn from(error: gantry_engine::Error) -> Self {
        let status = match error.kind {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::System => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            message: error.message,
        }
    }
}
