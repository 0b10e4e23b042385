//! Asks the broker whether a binding would open, and what pods hold: booleans, reasons and numbers come back, never a value.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::uri::InvalidUri;
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use kustody_core::wire::watch::HeldAnswer;
use kustody_core::wire::{BROKER_NAME, InspectAnswer, InspectRequest, Refusal};
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::runtime::https;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer. No text of these holds the token.
#[derive(Debug, Error)]
pub enum Error {
    /// Our certificate authority is not made yet.
    #[error("the operator's certificate authority is not ready yet")]
    NoAuthority,
    /// The address cannot be read.
    #[error("the broker's address cannot be read")]
    Address(#[from] InvalidUri),
    /// The question cannot be written.
    #[error("the question to the broker cannot be written")]
    Question(#[from] axum::http::Error),
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
    // A question is names and a number: its serialisation cannot fail, and the broker refuses an empty one.
    post(config, authority, address, "/v1/inspect", serde_json::to_vec(question).unwrap_or_default()).await
}

/// Asks every replica what the pods that wait at it hold; an answer is of all of them.
pub async fn held(config: &Config, authority: Option<&str>) -> Result<Vec<HeldAnswer>, Error> {
    let address = config.broker_url.clone().unwrap_or_else(|| {
        // Its name has the address of each replica that is ready.
        format!("https://{}-pods.{}.svc:{}", config.broker_service(), config.namespace, config.broker_address.port())
    });
    let uri: Uri = address.parse()?;
    let named = (uri.host().unwrap_or_default().trim_matches(['[', ']']), uri.port_u16().unwrap_or(443));
    let found =
        tokio::time::timeout(TIMEOUT, tokio::net::lookup_host(named)).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let found: BTreeSet<_> = found.map_err(|error| Error::Unreachable { address: address.clone(), detail: error.to_string() })?.collect();
    let asked = found.iter().map(|replica| post(config, authority, format!("https://{replica}"), "/v1/held", Vec::new()));
    futures::future::try_join_all(asked).await
}

async fn post<T: DeserializeOwned>(
    config: &Config,
    authority: Option<&str>,
    address: String,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Error> {
    let unreachable = |detail: String| Error::Unreachable { address: address.clone(), detail };
    let uri: Uri = address.parse()?;
    let authority = authority.ok_or(Error::NoAuthority)?;
    let request = request(path, body, token(config).await?)?;
    let sending = https::send(authority, uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(443), BROKER_NAME, request);
    let (status, body) = match tokio::time::timeout(TIMEOUT, sending).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(chain(&error))),
        Err(_) => return Err(unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
    };
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|error| unreachable(error.to_string())),
        StatusCode::CONFLICT => Err(Error::Behind),
        status => {
            let message = serde_json::from_slice::<Refusal>(&body).map_or_else(|_| "no reason given".to_owned(), |refusal| refusal.message);
            Err(Error::Refused { status, message })
        }
    }
}

fn request(path: &str, body: Vec<u8>, token: HeaderValue) -> Result<Request<Body>, axum::http::Error> {
    Request::post(path)
        .header(HOST, BROKER_NAME)
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, token)
        .body(Body::from(body))
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

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}
