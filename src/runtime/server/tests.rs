//! Real sockets: what slow, silent and many clients meet, what a drain looks like from outside, and reload.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Bounds, Ending, serve_within};
use crate::runtime::patience::Patience;
use crate::runtime::tls::Certificate;

/// Patience in these tests, which wait in real time for real sockets.
const HEAD: Duration = Duration::from_millis(400);
const UNREAD: Duration = Duration::from_millis(400);
/// What even a busy machine needs less than.
const SOON: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n";

struct Server {
    address: std::net::SocketAddr,
    ending: Ending,
    task: JoinHandle<()>,
    /// What an answer of `/slow` waits for.
    slow: Arc<Notify>,
}

async fn server(connections: usize, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
    server_within(connections, connections, tls).await
}

#[expect(clippy::disallowed_methods, reason = "a test's own server, which it waits for")]
async fn server_within(connections: usize, of_one_address: usize, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
    let slow = Arc::new(Notify::new());
    let gate = Arc::clone(&slow);
    let router = Router::new().route("/hello", get(|| async { "hello" })).route("/large", get(|| async { vec![b'x'; 64 << 20] })).route(
        "/slow",
        post(move || async move {
            gate.notified().await;
            "done"
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ending = Ending { draining: CancellationToken::new(), stop: CancellationToken::new() };
    let bounds = Bounds { connections, of_one_address, patience: Patience { head: HEAD, unread: UNREAD, idle: HEAD * 4 } };
    let task = tokio::spawn(serve_within(bounds, listener, tls, router, ending.clone()));
    Server { address, ending, task, slow }
}

/// What comes until `end` is seen or the server closes.
async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(end) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
        }
    }
    text
}

/// How long until the server closes.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let began = tokio::time::Instant::now();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    began.elapsed()
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_head_is_let_go() {
    let server = server(8, None).await;
    for said in [&b""[..], b"GET /hel"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let after = closed_after(&mut stream).await;
        assert!(after >= HEAD && after < SOON, "{after:?}");
    }
}

#[tokio::test]
async fn a_head_that_trickles_is_not_waited_for_longer() {
    let server = server(8, None).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let began = tokio::time::Instant::now();
    let trickle = async {
        for byte in b"GET /hello HTTP/1.1\r\nhost: ".iter().chain([b'a'; 200].iter()) {
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(HEAD / 20).await;
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    tokio::select! {
        () = trickle => {}
        _ = reader.read_to_end(&mut said) => {}
    }
    assert!(began.elapsed() < HEAD * 5, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_idle_connection_is_kept_longer_than_a_head_may_take_and_not_for_ever() {
    let server = server(8, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(REQUEST).await.unwrap();
        assert!(read_until(&mut stream, "hello").await.ends_with("hello"));
        tokio::time::sleep(HEAD * 2).await;
    }
    assert!(closed_after(&mut stream).await < SOON);
    assert!(Patience::default().idle > Duration::from_secs(90), "the API server's idle connections live 90 s");
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let server = server(1, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // It holds the only place, until it is given up.
    tokio::time::timeout(SOON, served(server.address)).await.unwrap();
}

/// Comes back until it is served.
async fn served(address: std::net::SocketAddr) {
    loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(REQUEST).await;
        if read_until(&mut stream, "hello").await.ends_with("hello") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_places_come_back() {
    for (connections, of_one_address) in [(2, 2), (8, 2)] {
        closed_at_the_third(server_within(connections, of_one_address, None).await).await;
    }
}

async fn closed_at_the_third(server: Server) {
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(read_until(&mut stream, "hello").await.ends_with("hello"));
        held.push(stream);
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let _ = third.write_all(REQUEST).await;
    assert_eq!(read_until(&mut third, "hello").await, "");
    drop(held.pop());
    tokio::time::timeout(SOON, served(server.address)).await.unwrap();
}

#[tokio::test]
async fn while_draining_new_connections_are_served_and_every_answer_closes_its_own() {
    let server = server(8, None).await;
    let mut old = TcpStream::connect(server.address).await.unwrap();
    old.write_all(REQUEST).await.unwrap();
    let before = read_until(&mut old, "hello").await;
    assert!(!before.contains("connection: close"), "{before}");
    server.ending.draining.cancel();
    let mut new = TcpStream::connect(server.address).await.unwrap();
    for stream in [&mut old, &mut new] {
        stream.write_all(REQUEST).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.contains("connection: close") && said.ends_with("hello"), "{said}");
    }
}

#[tokio::test]
async fn a_request_that_is_under_way_at_the_stop_is_answered_and_then_nobody_is() {
    let server = server(8, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    read_until(&mut idle, "hello").await;
    server.ending.stop.cancel();
    assert_eq!(read_until(&mut idle, "never").await, "", "an idle connection is closed");
    server.slow.notify_one();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.ends_with("done"), "{said}");
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

async fn hello(address: std::net::SocketAddr, root: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(address).await.unwrap();
    let Ok(mut stream) = connector.connect(ServerName::try_from("a").unwrap(), stream).await else { return false };
    stream.write_all(REQUEST).await.unwrap();
    read_until(&mut stream, "hello").await.ends_with("hello")
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_a_damaged_one_changes_nothing() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (certificate, [first, second]) = (Certificate::default(), [pair(), pair()]);
    certificate.replace(first.0.as_bytes(), first.1.as_bytes()).unwrap();
    let server = server(8, Some(certificate.server_config())).await;
    assert!(hello(server.address, &first.0).await);
    certificate.replace(second.0.as_bytes(), first.1.as_bytes()).unwrap_err();
    certificate.replace(b"damaged", second.1.as_bytes()).unwrap_err();
    assert!(hello(server.address, &first.0).await, "the one in force stays");
    certificate.replace(second.0.as_bytes(), second.1.as_bytes()).unwrap();
    assert!(hello(server.address, &second.0).await && !hello(server.address, &first.0).await);
}

#[tokio::test]
async fn a_handshake_that_is_never_begun_is_let_go() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certificate = Certificate::default();
    let server = server(8, Some(certificate.server_config())).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let after = closed_after(&mut stream).await;
    assert!(after >= HEAD && after < SOON, "{after:?}");
}
