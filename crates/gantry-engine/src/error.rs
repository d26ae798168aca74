//! The engine's one error: a kind, which the server maps to a status, and Docker's words.

/// What sort of failure it is. The server alone knows which HTTP status each one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    InvalidParameter,
    Conflict,
    Unauthorized,
    Forbidden,
    /// Nothing to do (304): `start` of a running container.
    NotModified,
    Unavailable,
    NotImplemented,
    /// The engine's or the kernel's fault (500).
    System,
}

/// A failure: what a caller may see in `message`, the rest of the story in `source` for the log.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, message)
    }
    /// A system failure with its cause: the message is the cause's chain, outermost first.
    pub fn caused(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut message = what.to_owned();
        let mut next: Option<&dyn std::error::Error> = Some(&source);
        while let Some(error) = next {
            message.push_str(": ");
            message.push_str(&error.to_string());
            next = error.source();
        }
        Self {
            kind: ErrorKind::System,
            message,
            source: Some(Box::new(source)),
        }
    }
}

impl From<gantry_store::StoreError> for Error {
    fn from(error: gantry_store::StoreError) -> Self {
        use gantry_store::StoreError as S;
        let kind = match &error {
            S::NotFound(_) => ErrorKind::NotFound,
            S::Conflict(_) => ErrorKind::Conflict,
            S::Invalid(_) => ErrorKind::InvalidParameter,
            _ => ErrorKind::System,
        };
        let mut message = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            next = cause.source();
        }
        Self {
            kind,
            message,
            source: Some(Box::new(error)),
        }
    }
}
