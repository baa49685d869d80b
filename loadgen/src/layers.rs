//! What lies between a socket and what is said on it: TLS, WebSocket frames, both, or nothing. The same for all connections.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha1::{Digest, Sha1};

use crate::args::trust::Trust;
use crate::protocol::frames::Shape;
use crate::target::{Scheme, Target};

/// What every connection of a run goes through. Cheap to clone: what is long is shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) websocket: Option<Arc<WebSocket>>,
}

/// TLS with each destination.
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    names: Vec<ServerName<'static>>,
    /// What the first handshake that failed failed of, in rustls's words.
    pub(crate) trouble: OnceLock<String>,
}

/// WebSockets with each destination.
#[derive(Debug)]
pub(crate) struct WebSocket {
    requests: Vec<Vec<u8>>,
    /// What the server has to answer to the key.
    pub(crate) accept: String,
    pub(crate) shape: Shape,
}

impl Layers {
    /// What `targets` ask for.
    ///
    /// # Errors
    /// A sentence: targets of several kinds, a host that cannot have a certificate, roots that cannot be read.
    pub(crate) fn new(targets: &[Target], trust: &Trust, shape: Shape, seed: u64) -> Result<Layers, String> {
        let Some(first) = targets.first() else { return trust.refuse().map_or(Ok(Layers::default()), Err) };
        let kind = |target: &Target| (target.scheme, target.is_secure);
        if let Some(other) = targets.iter().find(|target| kind(target) != kind(first)) {
            return Err(format!("some targets are {} and others {}: measure one kind", first.prefix(), other.prefix()));
        }
        if !first.is_secure
            && let Some(why) = trust.refuse()
        {
            return Err(why);
        }
        let tls = first.is_secure.then(|| Tls::new(targets, trust)).transpose()?;
        let websocket = (first.scheme == Scheme::WebSocket).then(|| WebSocket::new(targets, shape, seed));
        Ok(Layers { tls: tls.map(Arc::new), websocket: websocket.map(Arc::new) })
    }

    /// Whether there is nothing between.
    pub(crate) fn is_bare(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }
}

impl Tls {
    fn new(targets: &[Target], trust: &Trust) -> Result<Tls, String> {
        let name = |target: &Target| {
            let name = ServerName::try_from(target.host.clone());
            name.map_err(|_| format!("'{}' is no name that a certificate can be for", target.host))
        };
        let names = targets.iter().map(name).collect::<Result<_, _>>()?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| format!("TLS cannot be spoken: {error}"))?;
        let builder = if trust.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots(trust.cacert.as_deref())?), provider);
            builder
                .with_webpki_verifier(verifier.build().map_err(|error| format!("the roots cannot be used: {error}"))?)
        };
        let mut config = builder.with_no_client_auth();
        // Each handshake is a whole one, as those of strangers are; and a million tickets would be memory.
        config.resumption = Resumption::disabled();
        if targets.iter().any(|target| target.scheme != Scheme::Tcp) {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Tls { config: Arc::new(config), names, trouble: OnceLock::new() })
    }

    /// Whom the certificate of the destination of this index has to be for.
    pub(crate) fn name(&self, destination: usize) -> ServerName<'static> {
        self.names[destination].clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("names", &self.names).finish_non_exhaustive()
    }
}

impl WebSocket {
    fn new(targets: &[Target], shape: Shape, seed: u64) -> WebSocket {
        // One key for all: it keeps caches from answering (RFC 6455, 1.3), and none stands between.
        let key = STANDARD.encode([seed.to_le_bytes(), (!seed).to_le_bytes()].concat());
        let request = |target: &Target| {
            let (path, authority) = (target.path.as_deref().unwrap_or("/"), target.authority());
            format!(
                "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nUser-Agent: loadgen/{}\r\n\r\n",
                env!("CARGO_PKG_VERSION")
            )
        };
        let requests = targets.iter().map(request).map(String::into_bytes).collect();
        let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
        WebSocket { requests, accept, shape }
    }

    /// The request to the destination of this index.
    pub(crate) fn request(&self, destination: usize) -> &[u8] {
        &self.requests[destination]
    }
}

/// The roots of this machine, or those of a file.
fn roots(cacert: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match cacert {
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err("this machine knows no root certificates: give --cacert FILE, or --insecure".to_owned());
            }
        }
        Some(path) => {
            let failed = |why: &dyn fmt::Display| format!("--cacert {}: {why}", path.display());
            let pem = fs::read(path).map_err(|error| failed(&error))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| failed(&format!("no PEM: {error}")))?;
                roots.add(certificate).map_err(|error| failed(&error))?;
            }
            if roots.is_empty() {
                return Err(failed(&"there is no certificate in it (-----BEGIN CERTIFICATE-----)"));
            }
        }
    }
    Ok(roots)
}

/// Believes whoever answers, if they have the key of the certificate that they show.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
