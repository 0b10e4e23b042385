//! Asks the broker: a token that is read anew, one request, one answer.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kustody_core::wire::watch::{AUTHORITIES_TYPE, Authorities, MAX_AUTHORITIES, WITH_REVISIONS};
use kustody_core::wire::{BROKER_NAME, MAX_RELEASE, RELEASE_TYPE, Refusal, Release};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::CertificateDer;
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::options::Options;

/// Headers, and what is in flight; the defaults of 128 KiB would be a twelfth of the agent's memory.
const BUFFER: usize = 16 * 1024;
/// The largest refusal that is read, and the largest token.
const MAX_SMALL: u64 = 16 * 1024;

/// What the broker gives for the plan of `options`, within `limit`.
///
/// Each call makes a new connection, so that a retry may reach another replica.
pub(crate) fn fetch(options: &Options, limit: Duration) -> Result<Release, Failure> {
    let response = post(&agent(options, &options.authorities, limit, 0), options, "/v1/release", options.plan.as_bytes())?;
    if response.status() == 200 { release(options, response) } else { Err(refusal(options, response)) }
}

/// Sends `body`; answers with whatever status.
pub(crate) fn post(agent: &Agent, options: &Options, path: &str, body: &[u8]) -> Result<Response<Body>, Failure> {
    let token = token(&options.token)?;
    let bearer = Zeroizing::new(format!("Bearer {}", token.trim_end()));
    let url = format!("https://{BROKER_NAME}:{}{path}", options.broker.port());
    let request = agent.post(url).header("authorization", bearer.as_str()).header("accept", WITH_REVISIONS);
    request.content_type("application/json").send(body).map_err(|cause| unreachable(options, &cause))
}

/// Read anew at each attempt: the kubelet may not have written it yet, or may have renewed it.
fn token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let fail = |rule: String| Failure::Token { path: path.to_owned(), rule };
    let mut token = Zeroizing::new(String::with_capacity(4096));
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    file.take(MAX_SMALL).read_to_string(&mut token).map_err(|error| fail(error.to_string()))?;
    if token.trim_end().is_empty() || !token.trim_end().bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fail("is not a token".to_owned()));
    }
    Ok(token)
}

/// A client that takes for the broker whom these vouch for, whose calls take at most `limit`, and which keeps so many connections
/// for the next call.
pub(crate) fn agent(options: &Options, authorities: &[CertificateDer<'_>], limit: Duration, kept: usize) -> Agent {
    let authorities = authorities.iter().map(|der| Certificate::from_der(der).to_owned());
    let tls = TlsConfig::builder().root_certs(RootCerts::from(authorities)).unversioned_rustls_crypto_provider(Arc::new(cryptography()));
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .https_only(true)
        // Neither a variable of the image nor an answer leads the token elsewhere.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(limit))
        .max_idle_connections(kept)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_response_header_size(BUFFER)
        .user_agent(concat!("kustody-agent/", env!("CARGO_PKG_VERSION")));
    Agent::with_parts(config.build(), DefaultConnector::default(), At(options.broker))
}

/// The broker is ours and of this release: TLS 1.3 and the post-quantum key exchange alone.
fn cryptography() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.kx_groups = vec![kx_group::X25519MLKEM768];
    provider
}

/// Resolves the broker's fixed name to the address that admission gave: host-network pods cannot resolve cluster names.
#[derive(Debug)]
struct At(SocketAddr);

impl Resolver for At {
    fn resolve(&self, _: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// The release of an answer of status 200.
pub(crate) fn release(options: &Options, mut response: Response<Body>) -> Result<Release, Failure> {
    let unusable = |rule: &str| Failure::Answer { broker: options.broker.to_string(), rule: rule.to_owned() };
    if response.body().mime_type() != Some(RELEASE_TYPE) {
        return Err(unusable("it is not of the release's content type"));
    }
    let announced = response.body().content_length().map_or(MAX_RELEASE, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced > MAX_RELEASE {
        return Err(unusable("it is larger than 1 MiB"));
    }
    // Reserved at once: a vector that grows leaves copies of what it held behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced));
    let reader = response.body_mut().with_config().reader();
    reader.take(MAX_RELEASE as u64 + 1).read_to_end(&mut bytes).map_err(|cause| unreachable(options, &ureq::Error::from(cause)))?;
    Release::decode(&bytes).map_err(|error| unusable(&error.to_string()))
}

/// Whether an answer of status 200 says who may vouch for the broker from now on.
pub(crate) fn names_authorities(response: &Response<Body>) -> bool {
    response.body().mime_type() == Some(AUTHORITIES_TYPE)
}

/// Whom it names.
pub(crate) fn authorities(options: &Options, mut response: Response<Body>) -> Result<Authorities, Failure> {
    let mut text = Vec::new();
    let reader = response.body_mut().with_config().reader();
    reader.take(MAX_AUTHORITIES as u64).read_to_end(&mut text).map_err(|cause| unreachable(options, &ureq::Error::from(cause)))?;
    let unreadable = |_| Failure::Answer { broker: options.broker.to_string(), rule: "its authorities cannot be read".to_owned() };
    serde_json::from_slice(&text).map_err(unreadable)
}

/// Why an answer of another status is none.
pub(crate) fn refusal(options: &Options, mut response: Response<Body>) -> Failure {
    let status = response.status().as_u16();
    let mut text = Vec::new();
    let read = response.body_mut().with_config().reader().take(MAX_SMALL).read_to_end(&mut text);
    match read.ok().and_then(|_| serde_json::from_slice::<Refusal>(&text).ok()) {
        Some(refusal) => Failure::Refused(refusal),
        None => Failure::Status { broker: options.broker.to_string(), status },
    }
}

fn unreachable(options: &Options, cause: &ureq::Error) -> Failure {
    Failure::Unreachable { broker: options.broker.to_string(), cause: cause.to_string() }
}
