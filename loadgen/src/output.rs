//! Where results go: standard output, and files that are opened before anything is run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write, stdout};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::args::Output;
use crate::problem::Problem;
use crate::report::{Report, csv, hgrm, hlog, html, json, text};
use crate::signals::Signals;
use crate::terminal::report_columns;

/// The places that results of the kind `R` will be written to.
pub(crate) struct Outlet<R> {
    text: fn(&R, usize) -> String,
    /// What standard output gets instead of the text for people.
    stdout: Option<Render<R>>,
    files: Vec<(Render<R>, PathBuf, File)>,
}

/// A format.
type Render<R> = fn(&R) -> String;

/// How results look in each format.
pub(crate) struct Formats<R> {
    /// For people, in lines of so many columns.
    pub(crate) text: fn(&R, usize) -> String,
    pub(crate) json: Render<R>,
    pub(crate) hgrm: Render<R>,
    pub(crate) hlog: Render<R>,
    pub(crate) csv: Render<R>,
    pub(crate) html: Render<R>,
}

/// Those of a run.
pub(crate) const RUN: Formats<Report> = Formats {
    text: text::render,
    json: json::render,
    hgrm: hgrm::render,
    hlog: hlog::render,
    csv: csv::render,
    html: html::render,
};

/// Whether two names are those of one file on a disk.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let [one, other] = [one, other].map(|path| fs::metadata(path).ok().filter(fs::Metadata::is_file));
    one.zip(other).is_some_and(|(one, other)| (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

impl<R> Outlet<R> {
    /// Opens what `output` names, so that a path that cannot be written is noticed before the run and not after it. For a
    /// FIFO it waits until somebody reads it, or `signals` come.
    ///
    /// # Errors
    /// The file that could not be created; two formats that are both to go to standard output.
    pub(crate) fn open(output: &Output, formats: Formats<R>, signals: &Signals) -> Result<Outlet<R>, Problem> {
        let mut outlet = Outlet { text: formats.text, stdout: None, files: Vec::new() };
        let formats = [
            (&output.json, formats.json),
            (&output.hgrm, formats.hgrm),
            (&output.hlog, formats.hlog),
            (&output.csv, formats.csv),
            (&output.html, formats.html),
        ];
        for (path, render) in formats.into_iter().filter_map(|(path, render)| Some((path.as_ref()?, render))) {
            if outlet.files.iter().any(|(_, other, _)| other == path || is_same_file(other, path)) {
                let sentence = format!("{} is given for two formats: each needs a file of its own", path.display());
                return Err(Problem::Usage(sentence));
            }
            if path.as_os_str() != "-" {
                outlet.files.push((render, path.clone(), await_file(path, signals)?));
            } else if outlet.stdout.replace(render).is_some() {
                let sentence = "only one of --json, --hgrm, --hlog, --csv and --html can be -, standard output";
                return Err(Problem::Usage(sentence.to_owned()));
            }
        }
        Ok(outlet)
    }

    /// Writes the results of `report`, and after the text `closing`.
    ///
    /// # Errors
    /// The first that could not be written; the others are.
    pub(crate) fn write(&mut self, report: &R, closing: &str) -> Result<(), Problem> {
        let to_stdout = match self.stdout {
            Some(render) => render(report),
            None => (self.text)(report, report_columns()) + closing,
        };
        let mut outcome = Ok(());
        match stdout().write_all(to_stdout.as_bytes()).and_then(|()| stdout().flush()) {
            // Someone like `head` has read enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                outcome = Err(Problem::Output { name: "standard output".to_owned(), error });
            }
            _ => {}
        }
        for (render, path, file) in &mut self.files {
            let written = file.write_all(render(report).as_bytes()).and_then(|()| sync(file));
            let written = written.map_err(|error| Problem::Output { name: path.display().to_string(), error });
            outcome = outcome.and(written);
        }
        outcome
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
