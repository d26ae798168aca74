//! Where the milliseconds of a start go: the daemon's own trace (`--trace-starts`), medians over many starts.

use std::collections::HashMap;
use std::fmt::Write as _;

/// The steps of all starts in a daemon's log, in the order of a start, with the median time of each.
///
/// A line of the log has them as `steps="spec 40 us, spawner 900 us"` and, for what the shim and the container's
/// first process did meanwhile, `in_the_shim="..."`.
pub(crate) fn medians(log: &str, field: &str) -> Vec<(String, u64)> {
    let mut order: Vec<String> = Vec::new();
    let mut times: HashMap<String, Vec<u64>> = HashMap::new();
    let opening = format!(" {field}=\"");
    for line in log.lines() {
        let Some((_, rest)) = line.split_once(&opening) else {
            continue;
        };
        let Some((steps, _)) = rest.split_once('"') else {
            continue;
        };
        for step in steps.split(", ") {
            let Some((name, micros)) = step
                .strip_suffix(" us")
                .and_then(|step| step.rsplit_once(' '))
                .and_then(|(name, micros)| Some((name, micros.parse().ok()?)))
            else {
                // A name with a comma in it: its beginning is left out.
                continue;
            };
            if !times.contains_key(name) {
                order.push(name.to_owned());
            }
            times.entry(name.to_owned()).or_default().push(micros);
        }
    }
    order
        .into_iter()
        .map(|name| {
            let mut all = times.remove(&name).unwrap_or_default();
            all.sort_unstable();
            let median = all.get(all.len().saturating_sub(1) / 2).copied();
            (name, median.unwrap_or(0))
        })
        .collect()
}

/// The table for one kind of run.
pub(crate) fn table(title: &str, log: &str) -> String {
    let mut text = format!("| {title} | us |\n|---|---|\n");
    for (name, field) in [
        ("daemon", "steps"),
        ("shim and first process", "in_the_shim"),
    ] {
        let steps = medians(log, field);
        let sum: u64 = steps.iter().map(|(_, micros)| micros).sum();
        writeln!(text, "| **{name}** | **{sum}** |").ok();
        for (step, micros) in steps {
            writeln!(text, "| {step} | {micros} |").ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_keep_the_order_of_a_start() {
        let log = "x INFO start steps=\"spec 40 us, spawner 900 us\" in_the_shim=\"clone3 5 us\"\n\
                   x INFO other\n\
                   x INFO start steps=\"spec 60 us, spawner 700 us\" in_the_shim=\"clone3 7 us\"\n\
                   x INFO start steps=\"spec 50 us, spawner 800 us\" in_the_shim=\"clone3 6 us\"\n";
        assert_eq!(
            medians(log, "steps"),
            [("spec".to_owned(), 50), ("spawner".to_owned(), 800)]
        );
        assert_eq!(medians(log, "in_the_shim"), [("clone3".to_owned(), 6)]);
    }
}
