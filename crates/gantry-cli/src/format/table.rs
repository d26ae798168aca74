//! Columns as Go's tabwriter sets them for Docker: at least 10 wide, 3 spaces between.

const NARROWEST: usize = 10;
const GAP: usize = 3;

/// Sets lines whose cells are separated by tabs. The last cell of a line belongs to no column.
pub(crate) fn table(lines: &[String]) -> String {
    table_of(lines, NARROWEST)
}

/// The same with columns that are at least so wide.
pub(crate) fn table_of(lines: &[String], narrowest: usize) -> String {
    let cells: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut out = String::new();
    for (at, row) in cells.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                let width = column_width(&cells, at, column).max(narrowest);
                out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

/// A column is as wide as its widest cell among the neighbouring lines that have it.
fn column_width(cells: &[Vec<&str>], at: usize, column: usize) -> usize {
    let has = |row: &&Vec<&str>| row.len() > column + 1;
    let above = cells[..at].iter().rev().take_while(has);
    let below = cells[at..].iter().take_while(has);
    let widest = above
        .chain(below)
        .map(|row| row[column].chars().count())
        .max()
        .unwrap_or(0);
    widest + GAP
}
