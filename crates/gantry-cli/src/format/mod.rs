//! How things are shown: tables, Go templates, sizes, times, and a pull's progress.

mod listing;
mod note;
mod order;
mod progress;
pub(crate) mod shape;
mod table;
mod template;
mod times;
mod units;

pub(crate) use listing::{Listing, by_label, escaped};
pub(crate) use note::{Note, note};
pub(crate) use order::natural;
pub(crate) use progress::Display;
pub(crate) use table::table_of;
pub(crate) use template::{Template, from_json, indented};
pub(crate) use times::{ago, date, go_time, parse_when, rfc3339, text_of};
pub(crate) use units::{binary_size, human_size, human_size_short};

use serde::{Deserialize, Deserializer};

/// Takes Go's `null` for an empty list or map.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The first 12 digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, digits)| digits);
    id.get(..12).unwrap_or(id)
}

/// At most `width` columns, the last one an ellipsis where something is cut.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests;
