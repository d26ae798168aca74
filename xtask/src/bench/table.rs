//! Samples and the table made of them.

use std::fmt;
use std::time::Duration;

/// Times of one measure, in order of size.
#[derive(Debug)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The smallest time that `share` of all times do not exceed, in milliseconds.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let time = self.0.get(rank.max(1) - 1).copied().unwrap_or_default();
        time.as_secs_f64() * 1e3
    }
}

/// A row for each measure, a column for each engine.
#[derive(Debug)]
pub(crate) struct Table {
    engines: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(crate) fn new(engines: Vec<String>) -> Self {
        Self {
            engines,
            rows: Vec::new(),
        }
    }

    pub(crate) fn times(&mut self, title: &str, samples: Vec<Option<Samples>>) {
        let cell = |samples: Option<Samples>| {
            samples.map_or("-".to_owned(), |samples| {
                format!(
                    "{:.1} / {:.1}",
                    samples.quantile(0.5),
                    samples.quantile(0.99)
                )
            })
        };
        self.rows.push((
            format!("{title} (ms, median / p99)"),
            samples.into_iter().map(cell).collect(),
        ));
    }

    /// Amounts that are small.
    pub(crate) fn fine(&mut self, title: &str, unit: &str, values: Vec<Option<f64>>) {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        self.rows.push((
            format!("{title} ({unit})"),
            values.into_iter().map(cell).collect(),
        ));
    }

    /// Rows that are known of the first engines alone.
    pub(crate) fn extend(&mut self, other: Table) {
        let columns = self.engines.len();
        self.rows
            .extend(other.rows.into_iter().map(|(title, mut cells)| {
                cells.resize(columns, "-".to_owned());
                (title, cells)
            }));
    }

    pub(crate) fn amounts(&mut self, title: &str, unit: &str, values: Vec<Option<f64>>) {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        self.rows.push((
            format!("{title} ({unit})"),
            values.into_iter().map(cell).collect(),
        ));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = std::iter::once(String::new()).chain(self.engines.iter().cloned());
        let mut lines: Vec<Vec<String>> = vec![header.collect()];
        lines.extend(
            self.rows
                .iter()
                .map(|(title, cells)| std::iter::once(title).chain(cells).cloned().collect()),
        );
        let widths: Vec<usize> = (0..=self.engines.len())
            .map(|column| {
                lines
                    .iter()
                    .filter_map(|line| line.get(column).map(String::len))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (number, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{:-<1$}", "", width + 2)?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_of_twenty() {
        let samples = Samples::new((1..=20).rev().map(Duration::from_millis).collect());
        assert_eq!(samples.quantile(0.5), 10.0);
        assert_eq!(samples.quantile(0.99), 20.0);
    }

    #[test]
    fn columns_are_even() {
        let mut table = Table::new(vec!["a".into(), "bb".into()]);
        table.amounts("size", "MB", vec![Some(1.0), None]);
        assert_eq!(
            table.to_string(),
            "|           | a   | bb |\n|-----------|-----|----|\n| size (MB) | 1.0 | -  |\n"
        );
    }
}
