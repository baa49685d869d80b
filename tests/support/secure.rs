//! Certificates that are as old as the test, and clients that trust them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use esockets::tls::Tls;
use esockets::tls::rustls::client::Resumption;
use esockets::tls::rustls::pki_types::pem::PemObject;
use esockets::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use esockets::tls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, crypto::ring,
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::support::connect;

/// A certificate with its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Who vouches for others.
pub(crate) struct Authority {
    pub(crate) root: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        // Two of one name would be taken for each other.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("Root {} of a test", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
        Authority { root, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, for servers and clients alike.
    pub(crate) fn vouch(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A server's side, with a certificate of its own.
    pub(crate) fn tls(&self) -> Tls {
        let Pair { certificate, key } = self.vouch("localhost");
        Tls::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// A client that trusts this one alone, with these protocols and a certificate of its own, if any.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.root)).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate(own)], key).unwrap()
            }
        };
        config.resumption = Resumption::disabled();
        config
    }
}

pub(crate) fn certificate(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}

pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn secure(config: &Arc<ClientConfig>, address: SocketAddr) -> Secure {
    over(config, connect(address))
}

pub(crate) fn over(config: &Arc<ClientConfig>, stream: TcpStream) -> Secure {
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// A question and its answer.
pub(crate) fn ask(stream: &mut Secure, question: &[u8]) {
    stream.write_all(question).unwrap();
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == question);
}

/// Nothing more comes but the end, as TLS says it.
pub(crate) fn expect_goodbye(stream: &mut Secure) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes more than were sent", rest.len());
}
