//! Maps of sparse files (GNU tar manual, "Storing Sparse Files"): where in the file the archive's bytes go.

use crate::pax::Records;
use crate::reader::{BLOCK, TarReader, bad, number};
use std::io::{self, Read};

/// Offsets and lengths, and the size of the whole file.
type Map = (Vec<(u64, u64)>, u64);

/// Numbers in a map at most.
const MOST_NUMBERS: usize = 1 << 17;

/// The entries of 24 bytes of an old GNU header.
pub(crate) fn old_entries(bytes: &[u8]) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    for entry in bytes.as_chunks::<24>().0 {
        // An empty field ends the list.
        if entry[0] == 0 {
            break;
        }
        let part = |field| u64::try_from(number(field)?).map_err(|_| bad("invalid sparse map"));
        segments.push((part(&entry[..12])?, part(&entry[12..])?));
    }
    Ok(segments)
}

/// The map of formats 0.0, 0.1 (both in the records) and 1.0 (before the data).
pub(crate) fn of_records<R: Read>(
    records: &Records,
    reader: &mut TarReader<R>,
) -> io::Result<Option<Map>> {
    let parse = |text: &str| text.parse::<u64>().map_err(|_| bad("invalid sparse map"));
    let version = (records.sparse("major"), records.sparse("minor"));
    if version == (Some("1"), Some("0")) {
        let size = records.sparse("realsize").or(records.sparse("size"));
        let size = size.ok_or_else(|| bad("a sparse file without a size"))?;
        return Ok(Some((leading(reader)?, parse(size)?)));
    }
    let Some(size) = records.sparse("size") else {
        return Ok(None);
    };
    let mut numbers = Vec::new();
    match records.sparse("map") {
        Some("") => {}
        Some(map) => {
            for text in map.split(',') {
                numbers.push(parse(text)?);
            }
        }
        None => {
            let own = records
                .sparse
                .iter()
                .filter(|(key, _)| matches!(&**key, "offset" | "numbytes"));
            for (at, (key, value)) in own.enumerate() {
                if key != ["offset", "numbytes"][at % 2] {
                    return Err(bad("invalid sparse map"));
                }
                numbers.push(parse(value)?);
            }
        }
    }
    Ok(Some((pairs(&numbers)?, parse(size)?)))
}

fn pairs(numbers: &[u64]) -> io::Result<Vec<(u64, u64)>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(bad("invalid sparse map"));
    }
    Ok(pairs.iter().map(|[offset, len]| (*offset, *len)).collect())
}

/// Lines of decimal numbers, the first of which says how many pairs follow, padded to a block.
fn leading<R: Read>(reader: &mut TarReader<R>) -> io::Result<Vec<(u64, u64)>> {
    let (mut numbers, mut wanted) = (Vec::new(), None);
    let mut digits = String::new();
    let mut block = [0; BLOCK];
    loop {
        reader.read_exact(&mut block)?;
        for byte in block {
            match byte {
                b'0'..=b'9' if digits.len() < 20 => digits.push(char::from(byte)),
                b'\n' => {
                    let number: u64 = digits.parse().map_err(|_| bad("invalid sparse map"))?;
                    digits.clear();
                    match wanted {
                        None if number as usize > MOST_NUMBERS / 2 => {
                            return Err(bad("a sparse map is too large"));
                        }
                        None => wanted = Some(number as usize * 2),
                        Some(_) => numbers.push(number),
                    }
                    if wanted == Some(numbers.len()) {
                        return pairs(&numbers);
                    }
                }
                _ => return Err(bad("invalid sparse map")),
            }
        }
    }
}

/// Segments must be in order, inside the file, and as many bytes as the archive has for it.
pub(crate) fn check(segments: &[(u64, u64)], size: u64, stored: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (offset, len) in segments {
        if *offset < end {
            return Err(bad("invalid sparse map"));
        }
        end = offset
            .checked_add(*len)
            .filter(|end| *end <= size)
            .ok_or_else(|| bad("invalid sparse map"))?;
        sum += len;
    }
    if sum != stored || size > i64::MAX as u64 {
        return Err(bad("invalid sparse map"));
    }
    Ok(())
}
