//! What a handshake of TLS has led to.

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, ProtocolVersion};

/// What was agreed on with a client, see `Client::tls`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Agreed {
    /// Which of the protocols of `Tls::alpn` is spoken; `None` if the client named none (RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// Who the client is, by certificates that have been verified, its own first; empty if
    /// none were asked for.
    pub certificates: Vec<CertificateDer<'static>>,
    /// TLS 1.2 or 1.3.
    pub version: Option<ProtocolVersion>,
}

impl Agreed {
    pub(crate) fn new(state: &CommonState) -> Agreed {
        Agreed {
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            certificates: state.peer_certificates().map(<[CertificateDer<'_>]>::to_vec).unwrap_or_default(),
            version: state.protocol_version(),
        }
    }
}
