//! Whom a server says that it is, and what it asks of its clients.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::error::Error;

/// Certificates, a key, and how to use them, for [`Builder::tls`](crate::Builder::tls). A clone is the same: whoever keeps one can
/// [reload](Tls::reload_pem_files) them while the server runs.
///
/// Cost: a shard that uses it looks at a lock once a connection, which is held only to be changed.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
    tag: Option<u8>,
    handshakes_max: usize,
    handshake_timeout: Option<Duration>,
}

/// What has become of handshakes, see [`Tls::handshakes`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Handshakes {
    /// Those that led to a connection.
    pub done: u64,
    /// Connections that ended because TLS could not be agreed on, not in time, or was broken later; not those that peers gave up.
    pub failed: u64,
    /// Why the last of these did.
    pub last_failure: Option<rustls::Error>,
}

struct Shared {
    config: RwLock<Arc<ServerConfig>>,
    done: AtomicU64,
    failed: AtomicU64,
    last_failure: Mutex<Option<rustls::Error>>,
    /// If it was loaded from PEM.
    identity: Option<Arc<Identity>>,
}

/// The certificates that are shown from now on.
#[derive(Debug)]
struct Identity(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// An elliptic signature takes 0.1 ms, one of RSA almost one: so many delay the others by as much as they may be used to.
const HANDSHAKES_MAX: usize = 8;
/// As much as a WebSocket has for its own.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl Tls {
    /// From PEM files (RFC 7468): the certificate, followed by those that lead to a root which clients know; and its private
    /// key, in PKCS #8, PKCS #1 or SEC1.
    ///
    /// # Errors
    /// [`Error`], if they cannot be read, or do not belong together.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Tls, Error> {
        Tls::from_pem(&read(chain.as_ref())?, &read(key.as_ref())?)
    }

    /// The same from memory.
    ///
    /// # Errors
    /// [`Error`], if there are none, or they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Tls, Error> {
        let identity = Arc::new(Identity(RwLock::new(certified(chain, key)?)));
        let config = configure(Arc::new(NoClientAuth), Arc::clone(&identity))?;
        Ok(Tls::with(config.into(), Some(identity)))
    }

    /// From a configuration of rustls, for all that there is no method for: several names with certificates of their own, for
    /// example.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Tls {
        Tls::with(config, None)
    }

    fn with(config: Arc<ServerConfig>, identity: Option<Arc<Identity>>) -> Tls {
        let (done, failed, last_failure) = Default::default();
        let shared = Arc::new(Shared { config: RwLock::new(config), done, failed, last_failure, identity });
        Tls { shared, tag: None, handshakes_max: HANDSHAKES_MAX, handshake_timeout: Some(HANDSHAKE_TIMEOUT) }
    }

    /// The protocols that can be spoken, as ALPN (RFC 7301) names them, the one liked best first. A client that knows none of
    /// them is refused; one that does not ask is not. Default: none are named, and nobody is refused.
    #[must_use]
    pub fn alpn(self, protocols: &[&str]) -> Tls {
        let names = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut config = self.shared.config.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut config).alpn_protocols = names;
        drop(config);
        self
    }

    /// Asks clients for certificates that lead to one of these roots, in PEM, and refuses who has none (mutual TLS). To be called
    /// before the server starts.
    ///
    /// # Errors
    /// [`Error`], if the file cannot be read or holds no certificate that can be a root; and [`Error::NotFromPem`], if this was
    /// made [from a configuration](Tls::new), which is where such roots belong.
    pub fn client_roots_from_pem_file(self, roots: impl AsRef<Path>) -> Result<Tls, Error> {
        let pem = read(roots.as_ref())?;
        self.client_roots_from_pem(&pem)
    }

    /// The same from memory.
    ///
    /// # Errors
    /// Those of [`client_roots_from_pem_file`](Tls::client_roots_from_pem_file).
    pub fn client_roots_from_pem(self, pem: &[u8]) -> Result<Tls, Error> {
        let identity = Arc::clone(self.shared.identity.as_ref().ok_or(Error::NotFromPem)?);
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem)? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error: VerifierBuilderError| rustls::Error::General(error.to_string()))?;
        let mut config = configure(verifier, identity)?;
        let mut current = self.shared.config.write().unwrap_or_else(PoisonError::into_inner);
        config.alpn_protocols.clone_from(&current.alpn_protocols);
        *current = Arc::new(config);
        drop(current);
        Ok(self)
    }

    /// Only who comes to an address with [this tag](crate::Address::tag) speaks TLS; the others do not. Default: everybody does.
    #[must_use]
    pub fn only_tag(mut self, tag: u8) -> Tls {
        self.tag = Some(tag);
        self
    }

    /// How many steps of handshakes a shard makes in a turn, between which all others are served. Default: 8, of which each takes
    /// 0.1 ms, or 0.7 ms with a key of RSA. At least 1.
    #[must_use]
    pub fn handshakes_max(mut self, handshakes: usize) -> Tls {
        self.handshakes_max = handshakes.max(1);
        self
    }

    /// How long a peer may take for what a handshake waits for: its first message, whole, and then each further one. Default: 10 s.
    /// Who takes longer is closed with [`CloseReason::Failed`](crate::CloseReason::Failed) and ETIME (62). Who waits for this server
    /// is not counted as slow. `None` waits for as long as
    /// [`first_message_timeout`](crate::Builder::first_message_timeout) does. Costs 32 bytes for each connection, until its time
    /// would be over, and a look at the clock.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Option<Duration>) -> Tls {
        self.handshake_timeout = timeout;
        self
    }

    /// Shows these certificates to those who come from now on. Who is connected stays so.
    ///
    /// # Errors
    /// [`Error`], if they cannot be read or do not belong together; then it goes on with those that it has.
    pub fn reload_pem_files(&self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<(), Error> {
        self.reload_pem(&read(chain.as_ref())?, &read(key.as_ref())?)
    }

    /// The same from memory.
    ///
    /// # Errors
    /// Those of [`reload_pem_files`](Tls::reload_pem_files).
    pub fn reload_pem(&self, chain: &[u8], key: &[u8]) -> Result<(), Error> {
        let Identity(current) = &**self.shared.identity.as_ref().ok_or(Error::NotFromPem)?;
        let renewed = certified(chain, key)?;
        *current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// Serves those who come from now on with another configuration.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What has become of handshakes so far, on all shards of all servers that have this.
    #[must_use]
    pub fn handshakes(&self) -> Handshakes {
        let Shared { done, failed, last_failure, .. } = &*self.shared;
        let last_failure = last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Handshakes { done: done.load(Ordering::Relaxed), failed: failed.load(Ordering::Relaxed), last_failure }
    }

    pub(super) fn note_done(&self) {
        self.shared.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_failed(&self, why: rustls::Error) {
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        *self.shared.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// For somebody who comes now.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shared.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_for(&self, tag: u8) -> bool {
        self.tag.is_none_or(|only| only == tag)
    }

    pub(super) fn budget(&self) -> usize {
        self.handshakes_max
    }

    pub(super) fn time_for_handshakes(&self) -> Option<Duration> {
        self.handshake_timeout
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Tls");
        debug.field("tag", &self.tag).field("handshakes_max", &self.handshakes_max);
        debug.field("handshake_timeout", &self.handshake_timeout).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = |source| Error::Pem { what: "certificate", source };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(bad)?;
    if all.is_empty() { Err(bad(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(all) }
}

/// A chain and its key, if they belong together.
fn certified(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| Error::Pem { what: "private key", source })?;
    Ok(Arc::new(CertifiedKey::from_der(certificates(chain)?, key, &rustls::crypto::ring::default_provider())?))
}

fn configure(verifier: Arc<dyn ClientCertVerifier>, identity: Arc<Identity>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(identity);
    // The client keeps its session, and nothing is kept of it here.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}
