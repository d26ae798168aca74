//! Order as people see it: `web9` before `web10`.

use std::cmp::Ordering;

/// Compares texts with the numbers in them by their value, as Docker's client sorts lists of names (`sortorder`).
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let ([x, ..], [y, ..]) = (left, right) {
        let order = match (x.is_ascii_digit(), y.is_ascii_digit()) {
            (true, true) => numbers(&mut left, &mut right),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => {
                let order = x.cmp(y);
                (left, right) = (&left[1..], &right[1..]);
                order
            }
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Compares the numbers at the start, and takes them away: by value, then by their leading zeros.
fn numbers(left: &mut &[u8], right: &mut &[u8]) -> Ordering {
    let (zeros, digits) = number(left);
    let (other_zeros, others) = number(right);
    digits
        .len()
        .cmp(&others.len())
        .then_with(|| digits.cmp(others))
        .then(zeros.cmp(&other_zeros))
}

fn number<'a>(text: &mut &'a [u8]) -> (usize, &'a [u8]) {
    let end = |bytes: &[u8], test: fn(&u8) -> bool| {
        bytes
            .iter()
            .position(|byte| !test(byte))
            .unwrap_or(bytes.len())
    };
    let zeros = end(text, |byte| *byte == b'0');
    let length = end(&text[zeros..], u8::is_ascii_digit);
    let digits = &text[zeros..zeros + length];
    *text = &text[zeros + length..];
    (zeros, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_by_value() {
        // Zeros count before what follows the number.
        let ordered = [
            "", "1", "01", "2", "10", "a", "a1", "a1b", "a01", "a2", "a10", "a10b", "aa", "b",
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(natural(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }
}
