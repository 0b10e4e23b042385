//! Two servers in one process and wrk in another: what is measured, and a canned answer of the same size as its floor.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use kustody::runtime::{server, tls::Certificate};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::summary::median;

/// How many runs; the median counts.
const RUNS: usize = 5;
/// Connections of each run.
const CONNECTIONS: &str = "-c32";
/// Length of each run.
const DURATION: &str = "-d4s";

/// Medians over the runs.
pub struct Load {
    pub requests_per_second: f64,
    pub p99_ms: f64,
}

/// Serves `router` on a port of the loopback, with the TLS settings of the operator.
pub async fn serve(router: Router, certificate: &Certificate, stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of the loopback");
    let address = listener.local_addr().expect("a bound address");
    #[expect(clippy::disallowed_methods, reason = "a benchmark's servers end with it")]
    tokio::spawn(server::serve(listener, Some(certificate.server_config()), router, stop.clone()));
    address
}

/// Answers every `POST` to `path` with `body`, once the request is read: what is held against it is the decision, not the network.
pub fn canned(path: &str, content_type: &'static str, body: Bytes) -> Router {
    let answer = move |request: Bytes| {
        let body = body.clone();
        async move {
            drop(request);
            ([(CONTENT_TYPE, content_type)], body)
        }
    };
    Router::new().route(path, post(answer))
}

/// A certificate of its own making.
pub fn certificate() -> Certificate {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = Certificate::default();
    certificate.replace(pair.cert.pem().as_bytes(), pair.signing_key.serialize_pem().as_bytes()).expect("a usable pair");
    certificate
}

/// Posts `body` to each address in turn, `RUNS` times.
pub async fn compare(body: &[u8], path: &str, addresses: [SocketAddr; 2]) -> [Load; 2] {
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    fs::write(directory.path().join("body"), body).expect("the body");
    let script = directory.path().join("post.lua");
    let mut file = fs::File::create(&script).expect("a script");
    writeln!(file, "local f = io.open('{}', 'rb')", directory.path().join("body").display()).expect("the script");
    writeln!(file, "wrk.method = 'POST'; wrk.body = f:read('*a'); wrk.headers['Content-Type'] = 'application/json'").expect("the script");
    let mut figures: [(Vec<f64>, Vec<f64>); 2] = Default::default();
    for _ in 0..RUNS {
        for (address, (rates, tails)) in addresses.iter().zip(&mut figures) {
            let url = format!("https://{address}{path}");
            let arguments = ["-t1", CONNECTIONS, DURATION, "--latency", "-s", &script.display().to_string(), &url].map(str::to_owned);
            let keep = Arc::clone(&directory);
            let said = tokio::task::spawn_blocking(move || {
                let said = Command::new("wrk").args(arguments).output().expect("wrk is installed");
                drop(keep);
                String::from_utf8_lossy(&said.stdout).into_owned()
            });
            let said = said.await.expect("wrk ends");
            assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
            rates.push(number(&said, "Requests/sec:").unwrap_or_else(|| panic!("{said}")));
            tails.push(milliseconds(&said, "99%").unwrap_or_else(|| panic!("{said}")));
        }
    }
    figures.map(|(rates, tails)| Load { requests_per_second: median(rates), p99_ms: median(tails) })
}

fn field<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim)
}

fn number(said: &str, name: &str) -> Option<f64> {
    field(said, name)?.parse().ok()
}

fn milliseconds(said: &str, name: &str) -> Option<f64> {
    let text = field(said, name)?;
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<f64>().ok().map(|number| number * factor);
        }
    }
    None
}
