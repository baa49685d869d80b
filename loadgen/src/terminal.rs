//! How wide, and how high, what a person reads may be.

use std::io::stdout;
use std::os::fd::AsFd;

use terminal_size::{Height, Width, terminal_size_of};

/// Columns of the terminal that `output` is; 80 where it is none, or does not tell.
pub(crate) fn columns(output: impl AsFd) -> usize {
    size(output).0
}

/// Columns and rows of it; 80 and 24 where it is none, or does not tell.
pub(crate) fn size(output: impl AsFd) -> (usize, usize) {
    let told = |number: u16, usual| if number == 0 { usual } else { usize::from(number) };
    let (Width(columns), Height(rows)) = terminal_size_of(output).unwrap_or((Width(0), Height(0)));
    (told(columns, COLUMNS_USUAL), told(rows, ROWS_USUAL))
}

/// Columns for a report on standard output: lines longer than a page's are hard to read, however wide the window.
pub(crate) fn report_columns() -> usize {
    columns(stdout()).clamp(COLUMNS_LEAST, COLUMNS_MOST)
}

const COLUMNS_LEAST: usize = 40;
const COLUMNS_MOST: usize = 120;

/// What a file, a pipe and a terminal of unknown width are taken for.
pub(crate) const COLUMNS_USUAL: usize = 80;
const ROWS_USUAL: usize = 24;
