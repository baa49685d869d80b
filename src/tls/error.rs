//! Certificates and keys that cannot be used.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

/// Why a [`Tls`](super::Tls) could not be made, or goes on with the certificates that it has.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What should be PEM (RFC 7468) is none, or holds nothing of what is looked for.
    Pem {
        /// What is looked for.
        what: &'static str,
        /// What stands in its place.
        source: pem::Error,
    },
    /// They can be read, but not used: a key that is not that of the certificate, for example.
    Refused {
        /// What rustls says.
        source: rustls::Error,
    },
    /// What is to be reloaded was not loaded from PEM: [replace](super::Tls::replace) the configuration.
    NotFromPem,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Error::Pem { what, source: pem::Error::NoItemsFound } => {
                write!(f, "there is no {what} in the PEM file (it has no such `-----BEGIN …-----`)")
            }
            Error::Pem { what, source } => write!(f, "the {what} is no valid PEM: {source}"),
            Error::Refused { source: rustls::Error::InconsistentKeys(_) } => {
                f.write_str("the private key does not belong to the certificate: are they of the same pair, and is the certificate the first of the chain?")
            }
            Error::Refused { source } => write!(f, "the certificates or the key cannot be used: {source}"),
            Error::NotFromPem => f.write_str("made from a rustls::ServerConfig: replace that, there is no PEM to reload"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Read { source, .. } => Some(source),
            Error::Pem { source, .. } => Some(source),
            Error::Refused { source } => Some(source),
            Error::NotFromPem => None,
        }
    }
}

impl From<rustls::Error> for Error {
    fn from(source: rustls::Error) -> Error {
        Error::Refused { source }
    }
}
