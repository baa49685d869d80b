//! Errors as sentences: what was tried, and what came of it.

use std::fmt::Display;

pub(crate) type Result<T> = std::result::Result<T, String>;

pub(crate) trait Tried<T> {
    /// Puts what was tried in front of the error.
    fn tried(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Tried<T> for std::result::Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| format!("{}: {error}", what()))
    }
}
