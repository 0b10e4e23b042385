//! Asks the broker whether a binding would open: booleans and reasons come back, never a value.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::uri::InvalidUri;
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kustody_core::wire::{BROKER_NAME, InspectAnswer, InspectRequest, Refusal};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::config::Config;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer.
const MAX_ANSWER: usize = 256 * 1024;

/// Why there is no answer. No text of these holds the token.
#[derive(Debug, Error)]
pub enum Error {
    /// Our certificate authority is not made yet.
    #[error("the operator's certificate authority is not ready yet")]
    NoAuthority,
    /// The authority cannot be used.
    #[error("the operator's certificate authority cannot be used")]
    Authority(#[source] rustls::Error),
    /// The address cannot be read.
    #[error("the broker's address cannot be read")]
    Address(#[from] InvalidUri),
    /// The token cannot be read.
    #[error("the controller's token for the broker cannot be read from {path}")]
    Token {
        /// Where it should be.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No connection, or it broke.
    #[error("the broker at {address} cannot be reached: {detail}")]
    Unreachable {
        /// Which address.
        address: String,
        /// What was seen.
        detail: String,
    },
    /// The broker has not seen this generation of the binding yet.
    #[error("the broker has not seen this version of the binding yet")]
    Behind,
    /// The broker refuses.
    #[error("the broker refuses ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The broker's message.
        message: String,
    },
}

/// Asks once.
pub async fn ask(config: &Config, authority: Option<&str>, question: &InspectRequest) -> Result<InspectAnswer, Error> {
    let address = config.broker_url.clone().unwrap_or_else(|| format!("https://{}.{}.svc:443", config.broker_service(), config.namespace));
    let unreachable = |detail: String| Error::Unreachable { address: address.clone(), detail };
    let asking = async {
        let uri: Uri = address.parse()?;
        let tls = client(authority.ok_or(Error::NoAuthority)?)?;
        let token = token(config).await?;
        let stream = TcpStream::connect((uri.host().unwrap_or_default().trim_matches(['[', ']']), uri.port_u16().unwrap_or(443)));
        let stream = stream.await.map_err(|error| unreachable(error.to_string()))?;
        let name = ServerName::try_from(BROKER_NAME).map_err(|error| unreachable(error.to_string()))?;
        let stream = tls.connect(name, stream).await.map_err(|error| unreachable(error.to_string()))?;
        exchange(stream, question, token).await.map_err(|failure| failure.unwrap_or_else(unreachable))
    };
    match tokio::time::timeout(TIMEOUT, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
    }
}

fn client(authority: &str) -> Result<TlsConnector, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(authority.as_bytes()).flatten());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Authority)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The token as a header; read anew for each question, since the kubelet replaces it.
async fn token(config: &Config) -> Result<HeaderValue, Error> {
    let failed = |source| Error::Token { path: config.broker_token.display().to_string(), source };
    let token = Zeroizing::new(tokio::fs::read_to_string(&config.broker_token).await.map_err(failed)?);
    let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut value = HeaderValue::from_str(&bearer).map_err(|_| failed(std::io::ErrorKind::InvalidData.into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Either an error that says itself what it is, or what was seen of a connection that broke.
enum Failure {
    Known(Error),
    Broken(String),
}

impl Failure {
    fn unwrap_or_else(self, broken: impl FnOnce(String) -> Error) -> Error {
        match self {
            Self::Known(error) => error,
            Self::Broken(detail) => broken(detail),
        }
    }
}

async fn exchange<S>(stream: S, question: &InspectRequest, token: HeaderValue) -> Result<InspectAnswer, Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &dyn std::fmt::Display| Failure::Broken(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let body = serde_json::to_vec(question).map_err(|error| broken(&error))?;
    let request = Request::post("/v1/inspect")
        .header(HOST, BROKER_NAME)
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, token)
        .body(Body::from(body))
        .map_err(|error| broken(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), MAX_ANSWER).await.map_err(|error| broken(&error))?;
        Ok((status, body))
    };
    tokio::pin!(answer);
    // The connection is driven here, beside the answer, and ends with it.
    let (status, body) = tokio::select! {
        answer = &mut answer => answer?,
        ended = connection => {
            ended.map_err(|error| broken(&error))?;
            answer.await?
        }
    };
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|error| broken(&error)),
        StatusCode::CONFLICT => Err(Failure::Known(Error::Behind)),
        status => {
            let message = serde_json::from_slice::<Refusal>(&body).map_or_else(|_| "no reason given".to_owned(), |refusal| refusal.message);
            Err(Failure::Known(Error::Refused { status, message }))
        }
    }
}
