//! A streaming reader of tar archives: v7, ustar, PAX and GNU, with long names, PAX records of any bytes and the four
//! ways to write sparse files (GNU tar manual, "Basic Tar Format" and "Storing Sparse Files"; POSIX pax).
//!
//! Only parses: what the names and links mean, and whether they may be followed, is decided by the caller.

use crate::pax::{self, Records};
use crate::sparse;
use std::io::{self, ErrorKind, Read};

pub(crate) const BLOCK: usize = 512;
/// Long names, PAX records and sparse maps beyond this are refused (Go's archive/tar has the same limit).
const LARGEST_META: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Link,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
    /// A type that nobody unpacks.
    Other,
}

/// One entry, its header and records put together.
#[derive(Debug)]
pub struct Entry {
    pub kind: Kind,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    /// The permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub time: (i64, u32),
    /// Major and minor.
    pub device: (u32, u32),
    /// Names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file's size, holes included.
    pub size: u64,
    /// Where its data goes, as offsets and lengths, when it is sparse.
    pub segments: Option<Vec<(u64, u64)>>,
}

/// The archive. [`Read`] gives the data of the current entry.
#[derive(Debug)]
pub struct TarReader<R> {
    from: R,
    /// Bytes of the entry's data that are not read yet, and of the padding after it.
    left: u64,
    padding: u64,
}

pub(crate) fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.from.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

impl<R: Read> TarReader<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            padding: 0,
        }
    }

    /// What the archive is read from, byte by byte as far as it was needed.
    pub fn source(&mut self) -> &mut R {
        &mut self.from
    }

    /// Gives back what the archive was read from.
    pub fn into_source(self) -> R {
        self.from
    }

    /// The next entry; none at the archive's end. What is left of the data before is skipped.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut long_name = None;
        let mut long_link = None;
        let mut records = Records::default();
        let mut begun = false;
        loop {
            self.skip()?;
            let Some(block) = self.block()? else {
                return match begun {
                    true => Err(ErrorKind::UnexpectedEof.into()),
                    false => Ok(None),
                };
            };
            if block.iter().all(|b| *b == 0) {
                return match self.block()? {
                    _ if begun => Err(bad("a header is missing")),
                    None => Ok(None),
                    Some(second) if second.iter().all(|b| *b == 0) => Ok(None),
                    Some(_) => Err(bad("invalid header")),
                };
            }
            check_sum(&block)?;
            begun = true;
            match block[156] {
                b'x' | b'X' => {
                    let data = self.meta(&block)?;
                    records = pax::parse(&data)?;
                }
                // Global records: nothing that Docker heeds.
                b'g' => {
                    self.meta(&block)?;
                    begun = false;
                }
                b'L' => long_name = Some(until_nul(&self.meta(&block)?).to_vec()),
                b'K' => long_link = Some(until_nul(&self.meta(&block)?).to_vec()),
                flag => {
                    return self
                        .entry(&block, flag, long_name, long_link, records)
                        .map(Some);
                }
            }
        }
    }

    /// What comes after the archive's end is read to the stream's.
    pub fn finish(&mut self) -> io::Result<()> {
        io::copy(&mut self.from, &mut io::sink()).map(drop)
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        flag: u8,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        mut records: Records,
    ) -> io::Result<Entry> {
        let mut entry = Entry {
            kind: kind(flag),
            path: long_name.unwrap_or_else(|| name(block)),
            link: long_link.unwrap_or_else(|| until_nul(&block[157..257]).to_vec()),
            mode: (number(&block[100..108])? & 0o7777) as u32,
            uid: identity(number(&block[108..116])?)?,
            gid: identity(number(&block[116..124])?)?,
            time: (number(&block[136..148])?, 0),
            device: (0, 0),
            xattrs: std::mem::take(&mut records.xattrs),
            size: 0,
            segments: None,
        };
        if matches!(entry.kind, Kind::Char | Kind::Block) {
            let part = |field| u32::try_from(number(field)?).map_err(|_| bad("a device's number"));
            entry.device = (part(&block[329..337])?, part(&block[337..345])?);
        }
        let size = match records.size {
            Some(size) => size,
            None => u64::try_from(number(&block[124..136])?).map_err(|_| bad("a negative size"))?,
        };
        records.apply(&mut entry)?;
        if entry.kind == Kind::File && entry.path.ends_with(b"/") {
            // How archives older than ustar write directories.
            entry.kind = Kind::Dir;
        }
        // Links, devices and directories have no data, whatever their headers say (as Go reads them).
        let stored = match kind(flag) {
            Kind::File | Kind::Other => size,
            _ => 0,
        };
        if i64::try_from(stored).is_err() {
            return Err(bad("a number is too large"));
        }
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        entry.size = if entry.kind == Kind::Dir { 0 } else { stored };
        if flag == b'S' {
            let (segments, size) = self.old_map(block)?;
            entry.segments = Some(segments);
            entry.size = size;
        } else if entry.kind == Kind::File
            && let Some(found) = sparse::of_records(&records, self)?
        {
            entry.segments = Some(found.0);
            entry.size = found.1;
        }
        if let Some(segments) = &entry.segments {
            sparse::check(segments, entry.size, self.left)?;
        }
        Ok(entry)
    }

    /// The map of a GNU header of type `S`, which goes on in blocks of its own between header and data.
    fn old_map(&mut self, block: &[u8; BLOCK]) -> io::Result<(Vec<(u64, u64)>, u64)> {
        let size = u64::try_from(number(&block[483..495])?).map_err(|_| bad("a negative size"))?;
        let mut segments = sparse::old_entries(&block[386..482])?;
        let mut more = block[482] != 0;
        while more {
            let Some(block) = self.block()? else {
                return Err(ErrorKind::UnexpectedEof.into());
            };
            segments.extend(sparse::old_entries(&block[..504])?);
            if segments.len() as u64 * 24 > LARGEST_META {
                return Err(bad("a sparse map is too large"));
            }
            more = block[504] != 0;
        }
        Ok((segments, size))
    }

    /// The data of a header that says something of the next one.
    fn meta(&mut self, block: &[u8; BLOCK]) -> io::Result<Vec<u8>> {
        let size = u64::try_from(number(&block[124..136])?).map_err(|_| bad("a negative size"))?;
        if size > LARGEST_META {
            return Err(bad("a header is too large"));
        }
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let mut data = vec![0; size as usize];
        self.read_exact(&mut data)?;
        Ok(data)
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        // The padding after the last entry is missing in archives of some writers.
        if skipped < rest && rest - skipped >= BLOCK as u64 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// A block; none at the end of the stream.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.from.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(block))
    }
}

fn kind(flag: u8) -> Kind {
    match flag {
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::Link,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        _ => Kind::Other,
    }
}

fn check_sum(block: &[u8; BLOCK]) -> io::Result<()> {
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    let found = number(&block[148..156])?;
    if found == unsigned || found == signed {
        Ok(())
    } else {
        Err(bad("invalid header"))
    }
}

/// The header's name, with the prefix that ustar has.
fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    if &block[257..263] != b"ustar\0" {
        return name.to_vec();
    }
    let end = if &block[508..] == b"tar\0" { 476 } else { 500 };
    let prefix = until_nul(&block[345..end]);
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// A number in octal, or in base 256 where the first bit is set; nothing at all is 0.
pub(crate) fn number(field: &[u8]) -> io::Result<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let fill = if negative { 0xff } else { 0 };
        let mut value: i64 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            // The mark is no part of the number, the sign is.
            let byte = if at == 0 {
                (byte & 0x7f) | (fill & 0x80)
            } else {
                *byte
            };
            if !(i64::MIN >> 8..=i64::MAX >> 8).contains(&value) {
                return Err(bad("a number is too large"));
            }
            value = (value << 8) | i64::from(byte);
        }
        return Ok(value);
    }
    let text = until_nul(field.trim_ascii_start()).trim_ascii();
    text.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' if value <= i64::MAX >> 3 => Ok((value << 3) | i64::from(digit - b'0')),
        _ => Err(bad("invalid header")),
    })
}

/// A user or group. The last number stands for "no change" with the kernel, so nobody can have it.
pub(crate) fn identity(number: i64) -> io::Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| bad(format!("{number} is no user or group")))
}

#[cfg(test)]
mod tests;
