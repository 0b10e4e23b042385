//! Serving certificates that can be replaced while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

/// Why a certificate cannot be served.
#[derive(Debug, Error)]
pub enum Error {
    /// `tls.crt` is not PEM.
    #[error("tls.crt holds no readable PEM certificate")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// `tls.key` is not PEM.
    #[error("tls.key holds no readable PEM private key")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// The two do not belong together, or the key is of an unknown kind.
    #[error("tls.crt and tls.key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// `ca.crt` is not PEM, or not that alone.
    #[error("ca.crt is not PEM certificates alone")]
    Authority(#[source] rustls::pki_types::pem::Error),
    /// `ca.crt` holds what is in PEM and is no authority.
    #[error("{0} of the certificates in ca.crt cannot be used as an authority; take them out")]
    Unusable(usize),
    /// Nobody who trusts `ca.crt` would take `tls.crt`.
    #[error("no certificate of ca.crt vouches for tls.crt: {0}")]
    Untrusted(#[source] rustls::Error),
    /// Whoever asks for `name` would refuse it.
    #[error("tls.crt is not for the name {name}")]
    Name {
        /// What it lacks.
        name: String,
    },
}

/// Whether somebody who trusts exactly `authority_pem` takes this chain of a server at `at`, whatever the server's name.
///
/// Agents refuse a bundle that is damaged anywhere: so does this.
pub fn vouched(authority_pem: &[u8], certificate_pem: &[u8], at: Timestamp) -> Result<(), Error> {
    let trusted: Vec<_> = CertificateDer::pem_slice_iter(authority_pem).collect::<Result<_, _>>().map_err(Error::Authority)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<_, _>>().map_err(Error::Certificate)?;
    let (leaf, between) = chain.split_first().ok_or(Error::Certificate(rustls::pki_types::pem::Error::NoItemsFound))?;
    let mut roots = RootCertStore::empty();
    if let (_, unusable @ 1..) = roots.add_parsable_certificates(trusted) {
        return Err(Error::Unusable(unusable));
    }
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default()));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let leaf = ParsedCertificate::try_from(leaf).map_err(Error::Untrusted)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, between, at, algorithms.all).map_err(Error::Untrusted)
}

/// Whether this certificate is taken by those who ask for any of `names`.
pub fn answers_to(certificate_pem: &[u8], names: &[String]) -> Result<(), Error> {
    let leaf = CertificateDer::from_pem_slice(certificate_pem).map_err(Error::Certificate)?;
    let leaf = ParsedCertificate::try_from(&leaf).map_err(Error::Untrusted)?;
    let answers = |name: &str| ServerName::try_from(name).is_ok_and(|name| verify_server_name(&leaf, &name).is_ok());
    names.iter().find(|name| !answers(name)).map_or(Ok(()), |name| Err(Error::Name { name: name.clone() }))
}

/// The certificate in force; clones share it.
#[derive(Clone, Default)]
pub struct Certificate(Arc<ArcSwapOption<CertifiedKey>>);

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// Puts a new certificate and key in force; a pair that cannot be used leaves the old one.
    pub fn replace(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), Error> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<_, _>>().map_err(Error::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(Error::Key)?;
        let pair = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(Error::Pair)?;
        self.0.store(Some(Arc::new(pair)));
        Ok(())
    }

    /// Whether there is one.
    pub fn is_present(&self) -> bool {
        self.0.load().is_some()
    }

    /// A server configuration that always serves the certificate in force; HTTP/1.1 alone.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}
