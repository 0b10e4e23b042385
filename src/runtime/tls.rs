//! Serving certificates that can be replaced while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
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
        let pair = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()).map_err(Error::Pair)?;
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
