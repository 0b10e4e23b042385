//! A broker that says what a test tells it to, over real TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use kustody_core::secret::SecretBytes;
use kustody_core::wire::{BROKER_NAME, RELEASE_TYPE, Refusal, Release, ReleasedValue, Withdrawn};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{NamedGroup, ServerConfig, ServerConnection, StreamOwned};

/// Signs certificates of brokers.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap())
    }
}

/// What the broker was asked.
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: String,
    pub(super) group: NamedGroup,
    /// Which connection it came by, from 0.
    pub(super) connection: usize,
}

/// Answers each connection with the next reply, then with the last one for ever.
pub(super) struct Broker {
    pub(super) address: SocketAddr,
    pub(super) requests: Mutex<Receiver<Request>>,
}

impl Broker {
    pub(super) fn start(authority: &Authority, replies: Vec<Vec<u8>>) -> Self {
        Self::start_as(BROKER_NAME, authority, replies)
    }

    pub(super) fn start_as(name: &str, authority: &Authority, replies: Vec<Vec<u8>>) -> Self {
        Self::serve(&[authority.server(name)], replies, false)
    }

    /// The same, but a connection is kept for the next reply unless it says otherwise.
    pub(super) fn start_keeping(authority: &Authority, replies: Vec<Vec<u8>>) -> Self {
        Self::start_rolling(&[authority], replies)
    }

    /// The same, and each connection's certificate is of the next authority, then of the last one for ever.
    pub(super) fn start_rolling(authorities: &[&Authority], replies: Vec<Vec<u8>>) -> Self {
        let configs: Vec<_> = authorities.iter().map(|authority| authority.server(BROKER_NAME)).collect();
        Self::serve(&configs, replies, true)
    }

    fn serve(configs: &[Arc<ServerConfig>], replies: Vec<Vec<u8>>, keeping: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let configs = configs.to_vec();
        let (sender, requests) = channel();
        thread::spawn(move || {
            let mut replies = replies.into_iter().peekable();
            let mut last = Vec::new();
            for (number, stream) in listener.incoming().enumerate() {
                let config = &configs[number.min(configs.len() - 1)];
                let Ok(connection) = ServerConnection::new(Arc::clone(config)) else { return };
                let mut stream = BufReader::new(StreamOwned::new(connection, stream.unwrap()));
                // A client that does not trust this broker goes away in the middle.
                while let Ok(Some(request)) = receive(&mut stream, number) {
                    last = replies.next().unwrap_or(last);
                    let answered = sender.send(request).is_ok() && stream.get_mut().write_all(&last).is_ok();
                    if !answered || stream.get_mut().flush().is_err() {
                        break;
                    }
                    if !keeping || last.is_empty() || last.windows(17).any(|part| part == b"connection: close") {
                        stream.get_mut().conn.send_close_notify();
                        let _ = stream.get_mut().flush();
                        break;
                    }
                }
            }
        });
        Self { address, requests: Mutex::new(requests) }
    }

    pub(super) fn asked(&self) -> Vec<Request> {
        self.requests.lock().unwrap().try_iter().collect()
    }
}

fn receive(stream: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>, connection: usize) -> io::Result<Option<Request>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let group = stream.get_ref().conn.negotiated_key_exchange_group().ok_or_else(|| io::Error::other("no group"))?.name();
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Some(Request { head, body, group, connection }))
}

pub(super) fn http(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

pub(super) fn refuse(status: &str, reason: &str, retry: bool) -> Vec<u8> {
    refuse_with(status, reason, &format!("SecretBinding ns/{reason}.spec: rule; remedy"), retry)
}

pub(super) fn refuse_with(status: &str, reason: &str, message: &str, retry: bool) -> Vec<u8> {
    let message = message.to_owned();
    let refusal = Refusal { reason: reason.to_owned(), message, correlation_id: "01CORRELATION".to_owned(), retry };
    let json = format!(
        r#"{{"reason":{:?},"message":{:?},"correlationId":{:?},"retry":{}}}"#,
        refusal.reason, refusal.message, refusal.correlation_id, refusal.retry
    );
    http(status, "application/json", json.as_bytes())
}

pub(super) fn give(release: &Release) -> Vec<u8> {
    http("200 OK", RELEASE_TYPE, &release.encode().unwrap())
}

pub(super) fn values(values: &[(&str, &str, Option<&str>, &str)]) -> Release {
    let value = |&(binding, secret, property, value): &(&str, &str, Option<&str>, &str)| ReleasedValue {
        binding: binding.to_owned(),
        secret: secret.to_owned(),
        property: property.map(str::to_owned),
        value: SecretBytes::new(value.as_bytes().to_vec()),
    };
    Release { values: values.iter().map(value).collect(), ..Release::default() }
}

pub(super) fn withdrawn(binding: &str, item: &str, reason: &str) -> Withdrawn {
    Withdrawn { binding: binding.to_owned(), item: item.to_owned(), reason: reason.to_owned() }
}
