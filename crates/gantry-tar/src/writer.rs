//! Writes archives as Go's archive/tar does: ustar headers, with PAX records before them for what does not fit.

use crate::reader::{BLOCK, Entry, Kind};
use std::io::{self, Write};

/// The largest number of an octal field of 8 and of 12 bytes.
const SMALL: u64 = 0o7_777_777;
const LARGE: u64 = 0o77_777_777_777;

/// The archive. After [`TarWriter::entry`] of a file its bytes are written, exactly as many as the entry says.
#[derive(Debug)]
pub struct TarWriter<W: Write> {
    to: W,
    /// Bytes of the entry's data that are not written yet, and of the padding after it.
    left: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    pub fn new(to: W) -> Self {
        Self {
            to,
            left: 0,
            padding: 0,
        }
    }

    /// Writes an entry's header. `segments` are not heeded: the data is the whole file's.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        debug_assert_eq!(self.left, 0, "an entry has less data than it said");
        let mut records = Vec::new();
        let mut block = header(entry, &mut records);
        if !records.is_empty() {
            let mut extended = new_block();
            let base = entry.path.rsplit(|b| *b == b'/').find(|p| !p.is_empty());
            let name = [b"PaxHeaders.0/", base.unwrap_or_default()].concat();
            put_text(&mut extended[..100], &name);
            octal(&mut extended[100..108], 0o644);
            octal(&mut extended[124..136], records.len() as u64);
            octal(&mut extended[136..148], 0);
            extended[156] = b'x';
            sign(&mut extended);
            self.to.write_all(&extended)?;
            self.to.write_all(&records)?;
            self.to
                .write_all(&[0; BLOCK][..padding(records.len() as u64)])?;
        }
        sign(&mut block);
        self.to.write_all(&block)?;
        self.left = if entry.kind == Kind::File {
            entry.size
        } else {
            0
        };
        self.padding = padding(self.left);
        self.end_of_data()
    }

    /// The next bytes of the entry's data.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return Err(io::Error::other("an entry has more data than it said"));
        };
        self.to.write_all(bytes)?;
        self.left = left;
        self.end_of_data()
    }

    /// Bytes of the entry's data that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn end_of_data(&mut self) -> io::Result<()> {
        if self.left == 0 {
            let padding = std::mem::take(&mut self.padding);
            self.to.write_all(&[0; BLOCK][..padding])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }
}

fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

fn new_block() -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    block
}

fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let text = format!("{number:0width$o}");
    field[..width].copy_from_slice(&text.as_bytes()[text.len() - width..]);
    field[width] = 0;
}

/// As much of a text as the field takes, in ASCII.
fn put_text(field: &mut [u8], text: &[u8]) {
    let ascii = text.iter().copied().filter(u8::is_ascii);
    for (to, from) in field.iter_mut().zip(ascii) {
        *to = from;
    }
}

fn sign(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// `<length> <key>=<value>\n`, the length counting itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(length.to_string().bytes());
    records.push(b' ');
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

/// The block, not signed yet; what it cannot hold goes into the records.
fn header(entry: &Entry, records: &mut Vec<u8>) -> [u8; BLOCK] {
    let mut block = new_block();
    let mut text = |at: std::ops::Range<usize>, key: &[u8], text: &[u8]| {
        put_text(&mut block[at.clone()], text);
        if text.len() > at.len() || !text.is_ascii() {
            record(records, key, text);
        }
    };
    text(0..100, b"path", &entry.path);
    text(157..257, b"linkpath", &entry.link);
    let mut number = |at: std::ops::Range<usize>, key: &[u8], number: u64, most: u64| {
        if number > most {
            record(records, key, number.to_string().as_bytes());
            octal(&mut block[at], 0);
        } else {
            octal(&mut block[at], number);
        }
    };
    number(108..116, b"uid", entry.uid.into(), SMALL);
    number(116..124, b"gid", entry.gid.into(), SMALL);
    let size = if entry.kind == Kind::File {
        entry.size
    } else {
        0
    };
    number(124..136, b"size", size, LARGE);
    octal(&mut block[100..108], (entry.mode & 0o7777).into());
    let (seconds, nanos) = entry.time;
    match u64::try_from(seconds).ok().filter(|s| *s <= LARGE) {
        Some(seconds) => octal(&mut block[136..148], seconds),
        None => octal(&mut block[136..148], 0),
    }
    if nanos != 0 || !(0..=LARGE as i64).contains(&seconds) {
        record(records, b"mtime", decimal(seconds, nanos).as_bytes());
    }
    octal(&mut block[329..337], u64::from(entry.device.0) & SMALL);
    octal(&mut block[337..345], u64::from(entry.device.1) & SMALL);
    for (key, value) in &entry.xattrs {
        record(records, &[b"SCHILY.xattr.", &key[..]].concat(), value);
    }
    block[156] = match entry.kind {
        Kind::File | Kind::Other => b'0',
        Kind::Link => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Dir => b'5',
        Kind::Fifo => b'6',
    };
    block
}

/// Seconds and what is after them as one number.
fn decimal(seconds: i64, nanos: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (sign, total) = if total < 0 {
        ("-", -total)
    } else {
        ("", total)
    };
    let text = format!(
        "{sign}{}.{:09}",
        total / 1_000_000_000,
        total % 1_000_000_000
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::TarReader;
    use std::io::Read;

    fn entry(path: &[u8]) -> Entry {
        Entry {
            kind: Kind::File,
            path: path.to_vec(),
            link: Vec::new(),
            mode: 0o4755,
            uid: 7,
            gid: 8,
            time: (1_700_000_000, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            segments: None,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = vec![b'n'; 300];
        let entries = [
            entry(b"plain"),
            Entry {
                size: 600,
                ..entry(b"data")
            },
            Entry {
                uid: 3_000_000_000,
                gid: 2_097_152,
                ..entry(b"\xff\xfebytes")
            },
            Entry {
                time: (-5, 250_000_000),
                ..entry(&long)
            },
            Entry {
                kind: Kind::Symlink,
                link: long.clone(),
                ..entry(b"link")
            },
            Entry {
                kind: Kind::Char,
                device: (259, 70_000),
                ..entry(b"device")
            },
            Entry {
                kind: Kind::Dir,
                ..entry(b"dir/")
            },
            Entry {
                xattrs: vec![(b"user.a".to_vec(), b"v\n\0\xff".to_vec())],
                ..entry(b"x")
            },
        ];
        let mut writer = TarWriter::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
            writer.data(&vec![7; entry.size as usize]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = TarReader::new(&bytes[..]);
        for wanted in &entries {
            let got = reader.next_entry().unwrap().unwrap();
            assert_eq!(format!("{got:?}"), format!("{wanted:?}"));
            let mut data = Vec::new();
            reader.read_to_end(&mut data).unwrap();
            assert_eq!(data.len() as u64, wanted.size);
        }
        assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn lengths_count_themselves() {
        for n in [1, 85, 86, 87, 88, 984, 985, 986] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'a'; n]);
            let text = String::from_utf8(records).unwrap();
            let length: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, text.len());
        }
    }

    #[test]
    fn more_data_than_said_is_refused() {
        let mut writer = TarWriter::new(Vec::new());
        writer
            .entry(&Entry {
                size: 2,
                ..entry(b"a")
            })
            .unwrap();
        assert!(writer.data(b"abc").is_err());
    }
}
