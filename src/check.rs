//! `check`: whether webhook and broker answer over TLS under their names; `helm test` runs it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::HOST;
use axum::http::uri::InvalidUri;
use axum::http::{Request, StatusCode, Uri};
use thiserror::Error;

use crate::args::CheckArgs;
use crate::runtime::https;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is not as it should be.
#[derive(Debug, Error)]
pub enum Error {
    /// The authority cannot be read.
    #[error("--ca {path}: cannot be read")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The URL cannot be read.
    #[error("{url}: is not a URL")]
    Url {
        /// Which.
        url: String,
        /// Why.
        #[source]
        source: InvalidUri,
    },
    /// The request cannot be written.
    #[error("{url}: cannot be asked")]
    Request {
        /// Which.
        url: String,
        /// Why.
        #[source]
        source: axum::http::Error,
    },
    /// There is no answer.
    #[error("{url}: does not answer; look at the pods of that role and their logs")]
    Silent {
        /// Which.
        url: String,
        /// Why.
        #[source]
        source: https::Error,
    },
    /// There is no answer in time.
    #[error("{url}: does not answer within 10 s; look at the pods of that role and at what lies between")]
    Slow {
        /// Which.
        url: String,
    },
    /// The answer is another.
    #[error("{url}: answers {status}")]
    Status {
        /// Which.
        url: String,
        /// With what.
        status: StatusCode,
    },
}

/// Asks both for their health.
pub async fn run(args: &CheckArgs) -> Result<(), Error> {
    let authority = fs::read_to_string(&args.ca).map_err(|source| Error::Authority { path: args.ca.clone(), source })?;
    for url in [&args.webhook, &args.broker] {
        let status = ask(&authority, url).await?;
        if status != StatusCode::OK {
            return Err(Error::Status { url: url.clone(), status });
        }
        tracing::info!(url, "answers over TLS");
    }
    Ok(())
}

async fn ask(authority: &str, url: &str) -> Result<StatusCode, Error> {
    let uri: Uri = url.parse().map_err(|source| Error::Url { url: url.to_owned(), source })?;
    let host = uri.host().unwrap_or_default();
    let request = Request::get("/healthz").header(HOST, host).body(Body::empty());
    let request = request.map_err(|source| Error::Request { url: url.to_owned(), source })?;
    let sending = https::send(authority, host, uri.port_u16().unwrap_or(443), host, request);
    match tokio::time::timeout(TIMEOUT, sending).await {
        Ok(answer) => answer.map(|(status, _)| status).map_err(|source| Error::Silent { url: url.to_owned(), source }),
        Err(_) => Err(Error::Slow { url: url.to_owned() }),
    }
}
