//! systemd-journald's native protocol: `NAME=value` lines, or with a newline in the value the name on a line, its length as
//! eight bytes (little endian), and the value.

use super::{Entry, Stream};
use crate::log::format;
use rustix::fs::{MemfdFlags, SealFlags};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

/// A message with Docker's fields.
pub(super) fn message(
    fields: &[(String, String)],
    entry: &Entry<'_>,
    epoch: &str,
    ordinal: u64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + entry.text.len());
    let priority = match entry.stream {
        Stream::Stdout => "6",
        Stream::Stderr => "3",
    };
    field(&mut out, "PRIORITY", priority.as_bytes());
    field(&mut out, "MESSAGE", entry.text);
    for (name, value) in fields {
        field(&mut out, name, value.as_bytes());
    }
    field(&mut out, "CONTAINER_LOG_EPOCH", epoch.as_bytes());
    field(
        &mut out,
        "CONTAINER_LOG_ORDINAL",
        ordinal.to_string().as_bytes(),
    );
    let mut time = Vec::new();
    format::timestamp(&mut time, entry.since_1970());
    field(&mut out, "SYSLOG_TIMESTAMP", &time);
    if let Some((id, part)) = entry.part {
        field(&mut out, "CONTAINER_PARTIAL_ID", id.as_bytes());
        field(
            &mut out,
            "CONTAINER_PARTIAL_ORDINAL",
            part.to_string().as_bytes(),
        );
        let last: &[u8] = if entry.ends { b"true" } else { b"false" };
        field(&mut out, "CONTAINER_PARTIAL_LAST", last);
        if !entry.ends {
            field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
    }
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Sends a message that is too long for a datagram: as a sealed file in memory.
pub(super) fn send_in_file(socket: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("journal-entry", flags)?);
    file.write_all(message)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    crate::sys::wire::send(socket, &[], &[file.as_fd()])
}
