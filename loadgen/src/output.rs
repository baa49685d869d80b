//! Where results go: standard output, and a JSON file that is opened before anything is run.

use std::fs::File;
use std::io::{self, Write, stdout};
use std::path::PathBuf;

use crate::args::Output;
use crate::problem::Problem;
use crate::report::{Report, json, text};
use crate::terminal::report_columns;

/// The places that results will be written to.
pub(crate) struct Outlet {
    json: Json,
}

enum Json {
    No,
    Stdout,
    File(PathBuf, File),
}

impl Outlet {
    /// Opens what `output` names, so that a path that cannot be written is noticed before the run and not after it.
    ///
    /// # Errors
    /// The file that could not be created.
    pub(crate) fn open(output: &Output) -> Result<Outlet, Problem> {
        let json = match &output.json {
            None => Json::No,
            Some(path) if path.as_os_str() == "-" => Json::Stdout,
            Some(path) => match File::create(path) {
                Ok(file) => Json::File(path.clone(), file),
                Err(error) => return Err(Problem::Output { name: path.display().to_string(), error }),
            },
        };
        Ok(Outlet { json })
    }

    /// Writes the results of `report`, and after the text `closing`.
    ///
    /// # Errors
    /// What could not be written.
    pub(crate) fn write(&mut self, report: &Report, closing: &str) -> Result<(), Problem> {
        let to_stdout = if matches!(self.json, Json::Stdout) {
            json::render(report)
        } else {
            text::render(report, report_columns()) + closing
        };
        match stdout().write_all(to_stdout.as_bytes()).and_then(|()| stdout().flush()) {
            // Someone like `head` has read enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Problem::Output { name: "standard output".to_owned(), error });
            }
            _ => {}
        }
        if let Json::File(path, file) = &mut self.json {
            let written = file.write_all(json::render(report).as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| Problem::Output { name: path.display().to_string(), error })?;
        }
        Ok(())
    }
}
