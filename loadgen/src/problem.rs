//! Why the program cannot do what it was asked, and with which exit code it says so.

use std::io;
use std::process::ExitCode;

use thiserror::Error;

use crate::crew::CrewError;
use crate::preflight::Shortage;

/// What stands in the way of a run; a run that was possible but failed is a [`Report`](crate::report::Report).
#[derive(Debug, Error)]
pub(crate) enum Problem {
    /// The command line asks for something that exists nowhere.
    #[error("{0}")]
    Usage(String),
    /// The command line asks for something that this machine does not have: a core, an address.
    #[error("{0}")]
    Machine(String),
    /// The target's name has no address.
    #[error("{0}")]
    Resolve(String),
    /// The machine is too small for the plan.
    #[error("{0}")]
    Shortage(#[from] Shortage),
    /// The workers could not be started, or broke down.
    #[error("{0}")]
    Crew(#[from] CrewError),
    /// The moment for which a measurement was asked had passed when everything was ready for it.
    #[error("{0}")]
    Late(String),
    /// The echo server could not be started, or broke down.
    #[error("{0}")]
    Server(String),
    /// Results could not be written.
    #[error("cannot write {name}: {error}")]
    Output {
        /// The file.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A signal came before anything was begun.
    #[error("interrupted before {0}")]
    Interrupted(&'static str),
    /// Signal handlers could not be installed.
    #[error("cannot catch SIGINT and SIGTERM: {0}")]
    Signals(io::Error),
}

impl Problem {
    /// 2 for what the arguments alone make impossible, 1 for what the machine or the server does.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Problem::Usage(_)) { 2 } else { 1 })
    }
}
