//! What is said on a connection: what a request is made of, and when its reply is whole and right.

pub(crate) mod frames;
pub(crate) mod http;
pub(crate) mod script;

use std::sync::Arc;

use self::http::Http;
use self::script::Script;

/// What all connections of a run speak. Cheap to clone: what is long is shared.
#[derive(Debug, Clone)]
pub(crate) enum Protocol {
    /// The server sends back what it receives: messages of so many bytes, each connection's its own.
    Echo {
        /// Bytes in a message.
        size: u32,
    },
    /// The same request each time, and a reply that matches a pattern.
    Script(Arc<Script>),
    /// HTTP/1.1, GET, one connection kept alive.
    Http(Arc<Http>),
}

impl Protocol {
    /// Its name in results.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Protocol::Echo { .. } => "echo",
            Protocol::Script(_) => "script",
            Protocol::Http(_) => "http",
        }
    }

    /// Whether it is HTTP, whose servers may close connections between responses.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self, Protocol::Http(_))
    }

    /// `--send` and `--expect`, where it is made of those.
    pub(crate) fn texts(&self) -> [Option<&str>; 2] {
        match self {
            Protocol::Script(script) => script.texts().map(Some),
            Protocol::Echo { .. } | Protocol::Http(_) => [None; 2],
        }
    }

    /// The request to the destination of this index; `None` where each connection makes its own bytes.
    pub(crate) fn request(&self, destination: usize) -> Option<&[u8]> {
        match self {
            Protocol::Echo { .. } => None,
            Protocol::Script(script) => Some(script.request()),
            Protocol::Http(http) => Some(http.request(destination)),
        }
    }

    /// Bytes of a request to the destination of this index.
    pub(crate) fn request_len(&self, destination: usize) -> u32 {
        match self {
            Protocol::Echo { size } => *size,
            _ => self.request(destination).map_or(0, |request| request.len() as u32),
        }
    }
}
