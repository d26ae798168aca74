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
    let widths = widths(&cells);
    let mut out = String::new();
    for (row, widths) in cells.iter().zip(&widths) {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(column) {
                let room = (*width + GAP).max(narrowest) - cell.chars().count();
                out.extend(std::iter::repeat_n(' ', room));
            }
        }
        out.push('\n');
    }
    out
}

/// The widths of each line's columns: one is as wide as its widest cell among the neighbouring lines that have it.
fn widths(cells: &[Vec<&str>]) -> Vec<Vec<usize>> {
    let mut widths: Vec<Vec<usize>> = Vec::with_capacity(cells.len());
    // Downwards, each line knows the widest so far; upwards, that of the last one goes to all.
    for row in cells {
        let above = widths.last().map_or(&[][..], Vec::as_slice);
        let columns = &row[..row.len().saturating_sub(1)];
        let own = columns.iter().enumerate().map(|(column, cell)| {
            let width = cell.chars().count();
            above.get(column).map_or(width, |other| width.max(*other))
        });
        widths.push(own.collect());
    }
    for at in (1..widths.len()).rev() {
        let (above, below) = widths.split_at_mut(at);
        if let (Some(above), Some(below)) = (above.last_mut(), below.first()) {
            for (width, other) in above.iter_mut().zip(below) {
                *width = (*width).max(*other);
            }
        }
    }
    widths
}
