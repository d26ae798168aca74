//! What can go wrong, in the words of Go, which clients and people know from Docker.

use rustix::io::Errno;
use std::io;

/// A failure while packing or unpacking.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused: `mkdir /tmp/a: permission denied`.
    #[error("{operation} {path}: {}", words(source))]
    File {
        operation: &'static str,
        path: String,
        source: io::Error,
    },
    /// The archive asks for what it must not have.
    #[error("{0}")]
    Refused(String),
    /// The archive is broken, or does not come to its end.
    #[error("{}", archive_words(.0))]
    Archive(io::Error),
    /// Whoever takes the archive does not want it any more.
    #[error("{0}")]
    Write(io::Error),
}

/// The result of packing and unpacking.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Adds the operation and the path, as Go's `PathError` has them.
pub(crate) fn at<T, E: Into<io::Error>>(
    result: std::result::Result<T, E>,
    operation: &'static str,
    path: &[u8],
) -> Result<T> {
    result.map_err(|error| Error::File {
        operation,
        path: String::from_utf8_lossy(path).into_owned(),
        source: error.into(),
    })
}

/// An error number in Go's words (syscall/zerrors_linux); anything else as it is.
pub fn words(error: &io::Error) -> String {
    let text = match Errno::from_io_error(error) {
        Some(Errno::PERM) => "operation not permitted",
        Some(Errno::NOENT) => "no such file or directory",
        Some(Errno::IO) => "input/output error",
        Some(Errno::ACCESS) => "permission denied",
        Some(Errno::BUSY) => "device or resource busy",
        Some(Errno::EXIST) => "file exists",
        Some(Errno::XDEV) => "invalid cross-device link",
        Some(Errno::NOTDIR) => "not a directory",
        Some(Errno::ISDIR) => "is a directory",
        Some(Errno::INVAL) => "invalid argument",
        Some(Errno::FBIG) => "file too large",
        Some(Errno::NOSPC) => "no space left on device",
        Some(Errno::ROFS) => "read-only file system",
        Some(Errno::MLINK) => "too many links",
        Some(Errno::NAMETOOLONG) => "file name too long",
        Some(Errno::NOTEMPTY) => "directory not empty",
        Some(Errno::LOOP) => "too many levels of symbolic links",
        Some(Errno::NOTSUP) => "operation not supported",
        Some(Errno::DQUOT) => "disk quota exceeded",
        _ => return error.to_string(),
    };
    text.to_owned()
}

fn archive_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        io::ErrorKind::InvalidData if error.to_string() == "invalid header" => {
            "archive/tar: invalid tar header".to_owned()
        }
        io::ErrorKind::InvalidData => format!("archive/tar: {error}"),
        _ => error.to_string(),
    }
}
