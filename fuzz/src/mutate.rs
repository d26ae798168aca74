//! Changes to tar archives that make sense: a field of a header gets another value, entries are doubled, dropped and
//! exchanged. Single bytes are left to libFuzzer itself.

const BLOCK: usize = 512;

/// A field's place, and what is put there.
const NAMES: &[(usize, usize)] = &[(0, 100), (157, 100), (345, 100)];
const NUMBERS: &[(usize, usize)] = &[
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (136, 12),
    (329, 8),
    (337, 8),
    (386, 12),
    (398, 12),
    (483, 12),
];
const WORDS: &[&[u8]] = &[
    b"",
    b".",
    b"..",
    b"../x",
    b"/",
    b"/x",
    b"a",
    b"b",
    b"a/b",
    b"a/",
    b"bad",
    b".wh.a",
    b".wh.",
    b"a/.wh..wh..opq",
    b".wh..wh..opq",
    b"../outside/canary",
    b"/proc/self/cwd",
    b"d/f",
    b"d/e",
];
const TYPES: &[u8] = b"\x000123456777xxgLKSV\xff";

/// A small generator: the same seed makes the same change.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
}

fn headers(data: &[u8]) -> Vec<usize> {
    let blocks = data.chunks_exact(BLOCK).enumerate();
    let headers = blocks.filter(|(_, block)| &block[257..262] == b"ustar");
    headers.map(|(at, _)| at * BLOCK).collect()
}

/// Changes an archive of `size` bytes in `data` in one way; its new size. None where there is nothing to change.
pub(crate) fn archive(data: &mut [u8], size: usize, seed: u32) -> Option<usize> {
    let mut dice = Dice(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let found = headers(&data[..size]);
    let at = *found.get(dice.roll(found.len()))?;
    match dice.roll(12) {
        0 => return double(data, size, &found, at, &mut dice),
        1 => {
            let end = found
                .iter()
                .copied()
                .find(|next| *next > at)
                .unwrap_or(size);
            data.copy_within(end..size, at);
            return Some(size - (end - at));
        }
        2 | 3 => data[at + 156] = TYPES[dice.roll(TYPES.len())],
        4..=6 => {
            let (from, length) = NAMES[dice.roll(NAMES.len())];
            let field = at + from..at + from + length;
            if dice.roll(2) == 0 {
                // The name of another entry.
                let other = found[dice.roll(found.len())];
                data.copy_within(other..other + length, field.start);
            } else {
                let word = dice.one(WORDS);
                data[field.clone()].fill(0);
                data[field.start..field.start + word.len()].copy_from_slice(word);
            }
        }
        _ => {
            let (from, length) = NUMBERS[dice.roll(NUMBERS.len())];
            let value = number(&mut dice, length);
            data[at + from..at + from + length].copy_from_slice(&value);
        }
    }
    Some(size)
}

/// An entry comes a second time, before or after others.
fn double(
    data: &mut [u8],
    size: usize,
    found: &[usize],
    at: usize,
    dice: &mut Dice,
) -> Option<usize> {
    let end = found
        .iter()
        .copied()
        .find(|next| *next > at)
        .unwrap_or(size);
    let entry = data[at..end].to_vec();
    let to = found[dice.roll(found.len())];
    let grown = size + entry.len();
    if grown > data.len() {
        return None;
    }
    data.copy_within(to..size, to + entry.len());
    data[to..to + entry.len()].copy_from_slice(&entry);
    Some(grown)
}

fn number(dice: &mut Dice, length: usize) -> Vec<u8> {
    let octal = |value: u64| {
        let text = format!("{value:0width$o}", width = length - 1);
        let mut bytes = text.into_bytes();
        bytes.truncate(length - 1);
        bytes.push(0);
        bytes
    };
    match dice.roll(8) {
        0 => vec![0xff; length],
        1 => {
            let mut bytes = vec![0; length];
            bytes[0] = 0x80;
            bytes[length - 1 - dice.roll(length - 1)] = dice.roll(256) as u8;
            bytes
        }
        2 => vec![b'7'; length],
        3 => octal(0),
        4 => octal(dice.roll(8) as u64 * 512),
        5 => octal(dice.roll(0o10000) as u64),
        6 => octal(1 << dice.roll(36)),
        _ => octal(dice.roll(2000) as u64),
    }
}
