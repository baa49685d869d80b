//! How wide what a person reads may be.

use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};

/// Columns of the terminal that `output` is; 80 where it is none, or does not tell.
pub(crate) fn columns(output: impl AsFd) -> usize {
    match terminal_size_of(output) {
        Some((Width(columns @ 1..), _)) => usize::from(columns),
        _ => COLUMNS_USUAL,
    }
}

/// What a file, a pipe and a terminal of unknown width are taken for.
pub(crate) const COLUMNS_USUAL: usize = 80;
