//! HTTP by hand over a unix socket, so that a test sees what is on the wire.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The type of most bodies.
const JSON: (&str, &str) = ("Content-Type", "application/json");
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer with its whole body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("no JSON ({error}): {}", String::from_utf8_lossy(&self.body))
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Panics unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// A connection that has left HTTP.
#[derive(Debug)]
pub struct Hijacked {
    pub status: u16,
    pub stream: UnixStream,
    /// What came together with the head.
    pub early: Vec<u8>,
}

impl Hijacked {
    /// Ends the writing side and reads all there is.
    pub fn finish(mut self) -> Vec<u8> {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("a stream can be shut down");
        let mut all = self.early;
        self.stream
            .read_to_end(&mut all)
            .expect("the stream can be read to its end");
        all
    }
}

/// Sends a request and reads its whole answer.
pub(crate) fn request(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.map_or(0, <[u8]>::len);
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: gantry\r\nConnection: close\r\nContent-Length: {length}\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // An engine may answer before it has read the body: its answer is still there to read.
    let sent = stream.write_all(body.unwrap_or_default());
    if let Err(error) = sent
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes)
}

/// Sends a request to a daemon that may go away in the middle of it.
///
/// # Errors
/// The connection ends before the answer does.
pub fn call(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
) -> std::io::Result<Answer> {
    let body = body.map(|body| body.to_string().into_bytes());
    request(socket, method, path, &[JSON], body.as_deref())
}

/// Sends a request that asks for the connection itself, and gives it after the answer's head.
///
/// # Errors
/// The connection ends before the answer's head does.
pub fn hijack(socket: &Path, path: &str, body: &[u8]) -> std::io::Result<Hijacked> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gantry\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    let end = loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend(&piece[..read]);
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
    };
    let (status, _) = head_of(&bytes[..end])?;
    Ok(Hijacked {
        status,
        stream,
        early: bytes.split_off(end + 4),
    })
}

/// The frames of a multiplexed stream: (1 for stdout or 2 for stderr, bytes), and what is left over.
pub fn read_frames(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, Vec<u8>) {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if head[0] > 2 || rest.len() < length {
            break;
        }
        frames.push((head[0], rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    (frames, bytes.to_vec())
}

fn parse(bytes: &[u8]) -> std::io::Result<Answer> {
    let end = find(bytes, b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let (status, headers) = head_of(&bytes[..end])?;
    let rest = &bytes[end + 4..];
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { joined(rest) } else { rest.to_vec() };
    Ok(Answer {
        status,
        headers,
        body,
    })
}

type Head = (u16, Vec<(String, String)>);

fn head_of(bytes: &[u8]) -> std::io::Result<Head> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|word| word.parse().ok())
        .ok_or(std::io::ErrorKind::InvalidData)?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    Ok((status, headers))
}

/// The chunks of a chunked body; what was cut off is left out.
fn joined(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]);
        let size = size.split(';').next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        let rest = &bytes[end + 2..];
        if size == 0 || rest.len() < size + 2 {
            break;
        }
        body.extend(&rest[..size]);
        bytes = &rest[size + 2..];
    }
    body
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let answer =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n");
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"abcde"[..])
        );
    }

    #[test]
    fn frames_are_told_apart() {
        let (frames, rest) = read_frames(b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!\x01\0");
        assert_eq!(frames, [(1, b"hi".to_vec()), (2, b"!".to_vec())]);
        assert_eq!(rest, b"\x01\0");
    }
}
