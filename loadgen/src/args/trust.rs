//! Whom a run believes to be who they say they are, through TLS.

use std::path::PathBuf;

use super::LOAD;

/// How certificates of servers are looked at.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Trust {
    /// Believe certificates of these roots, in PEM [default: the system's]
    ///
    /// Of tls://, https:// and wss:// targets.
    #[arg(long, help_heading = LOAD, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,
    /// Believe any certificate
    ///
    /// Of tls://, https:// and wss:// targets: of a server of one's own, whose certificate nobody vouches for.
    #[arg(short = 'k', long, help_heading = LOAD)]
    pub(crate) insecure: bool,
}

impl Trust {
    /// Where nothing goes through TLS, what was given in vain.
    pub(crate) fn refuse(&self) -> Option<String> {
        let given = if self.insecure { "--insecure" } else { self.cacert.as_ref().map(|_| "--cacert")? };
        Some(format!("{given} is for targets that speak TLS: tls://, https://, wss://"))
    }
}
