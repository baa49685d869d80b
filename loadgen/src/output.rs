//! Where results go: standard output, and a JSON file that is opened before anything is run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write, stdout};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::args::Output;
use crate::problem::Problem;
use crate::report::{Report, json, text};
use crate::signals::Signals;
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
    /// Opens what `output` names, so that a path that cannot be written is noticed before the run and not after it. For a
    /// FIFO it waits until somebody reads it, or `signals` come.
    ///
    /// # Errors
    /// The file that could not be created.
    pub(crate) fn open(output: &Output, signals: &Signals) -> Result<Outlet, Problem> {
        let json = match &output.json {
            None => Json::No,
            Some(path) if path.as_os_str() == "-" => Json::Stdout,
            Some(path) => Json::File(path.clone(), await_file(path, signals)?),
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
            let written = file.write_all(json::render(report).as_bytes()).and_then(|()| sync(file));
            written.map_err(|error| Problem::Output { name: path.display().to_string(), error })?;
        }
        Ok(())
    }
}

/// Writes, where results would have gone as JSON, that `problem` stood in the way of `command`: a script that reads them
/// finds an object in any case.
pub(crate) fn write_problem(output: &Output, command: &[String], problem: &str) {
    let text = json::render_problem(command, problem);
    // What went wrong was said on standard error, and with nobody to read it the exit code still tells.
    let _ = match &output.json {
        None => Ok(()),
        Some(path) if path.as_os_str() == "-" => stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()),
        Some(path) => create(path).and_then(|file| file.map_or(Ok(()), |mut file| file.write_all(text.as_bytes()))),
    };
}

/// Only what is kept can be synchronized: a FIFO, or /dev/stderr, refuses to.
fn sync(file: &File) -> io::Result<()> {
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) { file.sync_all() } else { Ok(()) }
}

fn await_file(path: &Path, signals: &Signals) -> Result<File, Problem> {
    while !signals.came() {
        match create(path) {
            Ok(Some(file)) => return Ok(file),
            Ok(None) => thread::sleep(LOOK_UP_TIME),
            Err(error) => return Err(Problem::Output { name: path.display().to_string(), error }),
        }
    }
    Err(Problem::Interrupted("anybody read the file for the results"))
}

/// Creates the file; for a FIFO that nobody reads `None`. To open such a one waits in the kernel for its reader, and std
/// takes no signal for an answer there.
fn create(path: &Path) -> io::Result<Option<File>> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return File::create(path).map(Some);
    }
    match OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path) {
        // As long as this end is open the reader stays, so that opening another one, whose writes may wait, does not wait.
        Ok(_open) => File::create(path).map(Some),
        Err(error) if error.raw_os_error() == Some(ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long a reader, or a signal, may wait to be noticed.
const LOOK_UP_TIME: Duration = Duration::from_millis(20);

/// Numbers of fcntl.h and errno.h: open without waiting, and "a FIFO without a reader" (fifo(7)). The former is another one
/// on MIPS, SPARC and Alpha, where the wait then is the kernel's.
const O_NONBLOCK: i32 = 0o4000;
const ENXIO: i32 = 6;
