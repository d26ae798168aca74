//! A file's bytes and times, and taking trees away.

use crate::reader::Entry;
use rustix::fs::{Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Runs of zeros from this length on become holes.
const HOLE: usize = 4096;

/// Writes an entry's data into an empty file; zeros become holes. The outer error is the archive's, the inner one the
/// file's. `chunk` is the buffer.
pub fn copy_content(
    entry: &Entry,
    data: &mut dyn Read,
    file: &mut File,
    chunk: &mut [u8],
) -> io::Result<io::Result<()>> {
    let whole = [(0, entry.size)];
    for (offset, length) in entry.segments.as_deref().unwrap_or(&whole) {
        if let Err(error) = file.seek(SeekFrom::Start(*offset)) {
            return Ok(Err(error));
        }
        let mut left = *length;
        while left > 0 {
            let most = usize::try_from(left).map_or(chunk.len(), |n| n.min(chunk.len()));
            let n = match data.read(&mut chunk[..most]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            left -= n as u64;
            if let Err(error) = put(file, &chunk[..n]) {
                return Ok(Err(error));
            }
        }
    }
    Ok(complete(file, entry.size))
}

fn put(file: &mut File, chunk: &[u8]) -> io::Result<()> {
    if chunk.len() >= HOLE && chunk.iter().all(|b| *b == 0) {
        return file.seek(SeekFrom::Current(chunk.len() as i64)).map(drop);
    }
    file.write_all(chunk)
}

/// What ends with a hole is shorter than it should be.
fn complete(file: &mut File, size: u64) -> io::Result<()> {
    if file.stream_position()? < size || file.metadata()?.len() < size {
        file.set_len(size)?;
    }
    Ok(())
}

/// Removes a directory with all that is in it, following nothing.
pub fn remove_tree(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    std::fs::remove_dir_all(
        Path::new("/proc/self/fd")
            .join(dir.as_raw_fd().to_string())
            .join(name),
    )
}

/// Both times of a file, from seconds and nanoseconds since 1970.
pub fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
