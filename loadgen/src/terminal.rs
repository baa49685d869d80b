//! How wide what a person reads may be.

use std::io::stdout;
use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};

/// Columns of the terminal that `output` is; 80 where it is none, or does not tell.
pub(crate) fn columns(output: impl AsFd) -> usize {
    match terminal_size_of(output) {
        Some((Width(columns @ 1..), _)) => usize::from(columns),
        _ => COLUMNS_USUAL,
    }
}

/// Columns for a report on standard output: lines longer than a page's are hard to read, however wide the window.
pub(crate) fn report_columns() -> usize {
    columns(stdout()).clamp(COLUMNS_LEAST, COLUMNS_MOST)
}

const COLUMNS_LEAST: usize = 40;
const COLUMNS_MOST: usize = 120;

/// What a file, a pipe and a terminal of unknown width are taken for.
pub(crate) const COLUMNS_USUAL: usize = 80;
