//! One HTTPS request over a connection of its own, to a server that our own authority signs.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The largest answer: what a broker seals anew at a time, the value that goes beyond it, and what it says of each item.
const MAX_ANSWER: usize = 2 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// The authority cannot be used.
    #[error("the certificate authority cannot be used")]
    Authority(#[source] rustls::Error),
    /// The name is no name of a server.
    #[error("{0:?} is not a name that a certificate can carry")]
    Name(String),
    /// No connection.
    #[error("failed to connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The handshake failed.
    #[error("failed to shake hands with {name}")]
    Handshake {
        /// As whom.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Exchange(#[source] hyper::Error),
    /// The answer is too large, or broke off.
    #[error("the answer cannot be read")]
    Answer(#[source] axum::Error),
}

/// Sends `request` to `host:port`, whose certificate must be signed by `authority` (PEM) for `name`.
pub async fn send(authority: &str, host: &str, port: u16, name: &str, request: Request<Body>) -> Result<(StatusCode, Bytes), Error> {
    let tls = connector(authority)?;
    let server = ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.to_owned()))?;
    let connect = |source| Error::Connect { address: format!("{host}:{port}"), source };
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(connect)?;
    let stream = tls.connect(server, stream).await.map_err(|source| Error::Handshake { name: name.to_owned(), source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Error::Exchange)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(Error::Exchange)?;
        let status = response.status();
        Ok((status, to_bytes(Body::new(response.into_body()), MAX_ANSWER).await.map_err(Error::Answer)?))
    };
    tokio::pin!(answer);
    // The connection is driven here, beside the answer, and ends with it.
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended.map_err(Error::Exchange)?;
            answer.await
        }
    }
}

fn connector(authority: &str) -> Result<TlsConnector, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(authority.as_bytes()).flatten());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Authority)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
