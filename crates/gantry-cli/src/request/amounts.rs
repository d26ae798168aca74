//! Sizes, numbers of CPUs, durations and rates.

use gantry_api::container::{ThrottleDevice, WeightDevice as Weighted};

use crate::flags::{FlagValue, Rule};

/// Binary size as Docker reads it (`512m`, `1.5GiB`); bytes.
pub(crate) fn ram_in_bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("invalid size: '{text}'");
    let end = text
        .rfind(|letter: char| letter.is_ascii_digit() || letter == '.')
        .ok_or_else(wrong)?;
    let (number, suffix) = text.split_at(end + 1);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    if number < 0.0 {
        return Err(wrong());
    }
    let suffix = suffix
        .strip_prefix(' ')
        .unwrap_or(suffix)
        .to_ascii_lowercase();
    let shift = match suffix.as_bytes() {
        [] | [b'b'] => 0,
        [unit] | [unit, b'b'] | [unit, b'i', b'b'] => match unit {
            b'k' => 10,
            b'm' => 20,
            b'g' => 30,
            b't' => 40,
            b'p' => 50,
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    Ok((number * (1u64 << shift) as f64) as i64)
}

/// A size in bytes; 0 where it was not given.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bytes(pub(crate) i64);

impl FlagValue for Bytes {
    const KIND: &'static str = "bytes";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        self.0 = ram_in_bytes(text)?;
        Ok(())
    }
}

/// A size in bytes, or -1 for no limit.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MemorySwap(pub(crate) i64);

impl FlagValue for MemorySwap {
    const KIND: &'static str = "bytes";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        self.0 = if text == "-1" {
            -1
        } else {
            ram_in_bytes(text)?
        };
        Ok(())
    }
}

/// A number of CPUs, kept in billionths.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Cpus(pub(crate) i64);

impl FlagValue for Cpus {
    const KIND: &'static str = "decimal";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("failed to parse {text} as a rational number");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.chars().all(|digit| digit.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err("value is too precise".to_owned());
        }
        self.0 = format!("{whole}{fraction:0<9}")
            .parse()
            .map_err(|_| wrong())?;
        Ok(())
    }
}

/// Go's time.ParseDuration; nanoseconds.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    let wrong = |why: &str| format!("time: {why} \"{text}\"");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong("invalid duration"));
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let split = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..split]
            .parse()
            .map_err(|_| wrong("invalid duration"))?;
        rest = &rest[split..];
        let end = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(wrong("missing unit in duration")),
            unit => {
                return Err(format!(
                    "time: unknown unit \"{unit}\" in duration \"{text}\""
                ));
            }
        };
        total += number * unit;
        rest = &rest[end..];
    }
    Ok((sign * total).round() as i64)
}

/// A duration in nanoseconds; 0 where it was not given.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Duration(pub(crate) i64);

impl FlagValue for Duration {
    const KIND: &'static str = "duration";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        self.0 = duration(text)?;
        Ok(())
    }
}

/// `--blkio-weight`
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Weight(pub(crate) u16);

impl FlagValue for Weight {
    const KIND: &'static str = "uint16";
    fn accept(&mut self, text: &str) -> Result<(), String> {
        self.0 = text
            .parse()
            .map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))?;
        Ok(())
    }
}

fn device_and_value(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((path, value)) if !path.is_empty() && !value.contains(':') => {
            if path.starts_with("/dev/") {
                Ok((path, value))
            } else {
                Err(format!("bad format for device path: {text}"))
            }
        }
        _ => Err(format!("bad format: {text}")),
    }
}

/// `--blkio-weight-device /dev/sda:100`
#[derive(Debug)]
pub(crate) struct WeightDevice;

impl Rule for WeightDevice {
    type Item = Weighted;
    fn read(text: &str) -> Result<Weighted, String> {
        let (path, weight) = device_and_value(text)?;
        let weight = weight
            .parse()
            .ok()
            .filter(|weight| *weight == 0 || (10..=1000).contains(weight))
            .ok_or_else(|| format!("invalid weight for device: {text}"))?;
        Ok(Weighted {
            path: path.to_owned(),
            weight,
        })
    }
}

/// `--device-read-bps /dev/sda:1mb`
#[derive(Debug)]
pub(crate) struct ThrottleBps;

impl Rule for ThrottleBps {
    type Item = ThrottleDevice;
    fn read(text: &str) -> Result<ThrottleDevice, String> {
        let (path, rate) = device_and_value(text)?;
        let rate = ram_in_bytes(rate).map_err(|_| {
            format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
        })?;
        Ok(ThrottleDevice {
            path: path.to_owned(),
            rate: rate.unsigned_abs(),
        })
    }
}

/// `--device-read-iops /dev/sda:100`
#[derive(Debug)]
pub(crate) struct ThrottleIops;

impl Rule for ThrottleIops {
    type Item = ThrottleDevice;
    fn read(text: &str) -> Result<ThrottleDevice, String> {
        let (path, rate) = device_and_value(text)?;
        let rate = rate.parse().map_err(|_| {
            format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
        })?;
        Ok(ThrottleDevice {
            path: path.to_owned(),
            rate,
        })
    }
}
