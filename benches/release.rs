//! What a broker serves: 10 secrets with a whole handshake for each request, and 1,000 pods that come at once.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use kustody::broker;
use kustody::config::{AuditVolume, Certificates, Config, PodsWithoutSecrets, Role};
use kustody::runtime::clock::{Clock as _, SystemClock};
use kustody::runtime::process::Process;
use kustody::runtime::tls::Certificate;
use kustody_core::wire::{BROKER_NAME, RELEASE_TYPE, env};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::cluster::{self, Unmanned, calls};
use super::load;
use super::summary::{Row, Target, median};

/// Pods, each with a token of its own.
const PODS: usize = 1000;
/// Who the broker under test is for the API server.
const USER: &str = "bench-broker";
/// Connections at the same time, runs of each server, and the length of one.
const CONNECTIONS: usize = 16;
const RUNS: usize = 5;
const DURATION: Duration = Duration::from_secs(2);

/// Both figures' rows.
pub async fn rows(agent: &Path, node: &Unmanned) -> Vec<Row> {
    let pods = node.pods("release", PODS, "ten").await;
    let tokens = node.tokens(&pods).await;
    let served = Served::start(&node.client).await;
    let mut rows = served.cold(agent, &pods, &tokens).await;
    rows.push(served.handshakes(&cluster::plan(&pods[0]), &pods, tokens).await);
    served.process.stop.cancel();
    node.clear("release").await;
    rows
}

/// A broker of the installation, in this process.
struct Served {
    process: Process,
    address: SocketAddr,
    authority: String,
    began: Timestamp,
    _audit: tempfile::TempDir,
}

impl Served {
    async fn start(client: &Client) -> Self {
        let began = SystemClock.now();
        let audit = tempfile::tempdir_in("target").expect("a directory on the disk");
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "kustody-system");
        let secret = secrets.get("kustody-broker-tls").await.expect("the broker's certificate");
        let authority = secret.data.and_then(|mut data| data.remove("ca.crt")).expect("the authority").0;
        let address = "127.0.0.1:18444".parse().expect("an address");
        let config = Config {
            roles: vec![Role::Broker],
            namespace: "kustody-system".to_owned(),
            name: "kustody".to_owned(),
            pod_name: None,
            agent_image: "localhost/kustody-agent:0.1.0".to_owned(),
            webhook_address: address,
            broker_address: address,
            admin_address: address,
            audit_directory: audit.path().to_owned(),
            audit_volume: AuditVolume::PersistentVolumeClaim,
            broker_token: "/nonexistent".into(),
            broker_url: None,
            pods_without_secrets: PodsWithoutSecrets::Report,
            certificates: Certificates::Controller,
        };
        let process = Process::new(Arc::new(SystemClock));
        broker::start(other(USER).await, Arc::new(config), &process).await.expect("a broker");
        let end = Instant::now() + Duration::from_mins(1);
        while !process.readiness.waiting().is_empty() {
            assert!(Instant::now() < end, "the broker waits for {:?}", process.readiness.waiting());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { process, address, authority: String::from_utf8(authority).expect("PEM"), began, _audit: audit }
    }

    /// Real agents, 64 at the same time, of a broker that has opened nothing yet.
    async fn cold(&self, agent: &Path, pods: &[Pod], tokens: &[String]) -> Vec<Row> {
        let by_broker = |call: &serde_json::Value| {
            call["impersonatedUser"]["username"] == USER && !matches!(call["verb"].as_str(), Some("list" | "watch"))
        };
        let from = SystemClock.now();
        let next = Arc::new(AtomicUsize::new(0));
        let work: Arc<Vec<(String, String)>> = Arc::new(pods.iter().map(cluster::plan).zip(tokens.iter().cloned()).collect());
        let agents = (0..64).map(|_| {
            let (next, work, agent) = (Arc::clone(&next), Arc::clone(&work), agent.to_owned());
            let settings = [(env::BROKER, format!("https://{}", self.address)), (env::CA, self.authority.clone())];
            tokio::task::spawn_blocking(move || {
                let root = root(&agent);
                while let Some((plan, token)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(root.path(), plan, token, &settings);
                }
            })
        });
        futures::future::try_join_all(agents).await.expect("every agent delivers");
        // The API server writes its log a moment later.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let made = calls(from, by_broker);
        // That its calls are seen at all: it began with lists and watches.
        let seen = calls(self.began, |call| call["impersonatedUser"]["username"] == USER);
        assert!(!seen.is_empty(), "the API server wrote down no call of {USER}");
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let each = made.len() as f64 / PODS as f64;
        vec![
            Row {
                name: "1,000 pods x 10 secrets, cold: provider calls",
                value: self.metric("kustody_release_provider_calls_total"),
                unit: "calls",
                floor: None,
                target: Target::ValueAtMost(10.0),
            },
            Row {
                name: "the same: API-server calls of the broker a pod",
                value: each,
                unit: "calls",
                floor: None,
                target: Target::ValueAtMost(0.02),
            },
        ]
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.process.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.trim().parse().expect("a number")
    }

    /// Each request with a handshake of its own, beside a canned answer behind the same TLS server.
    async fn handshakes(&self, plan: &str, pods: &[Pod], tokens: Vec<String>) -> Row {
        assert!(pods.iter().all(|pod| cluster::plan(pod) == plan), "pods of one binding have one plan");
        let requests: Arc<Vec<String>> = Arc::new(tokens.iter().map(|token| request(plan, token)).collect());
        let real = Server { address: self.address, connector: connector(&self.authority), requests: Arc::clone(&requests) };
        let answer = real.once(0).await;
        let canned = answer.split_off_body();
        let pair = rcgen::generate_simple_self_signed([BROKER_NAME.to_owned()]).expect("a certificate");
        let certificate = Certificate::default();
        certificate.replace(pair.cert.pem().as_bytes(), pair.signing_key.serialize_pem().as_bytes()).expect("a usable pair");
        let stop = CancellationToken::new();
        let floor = load::serve(load::canned("/v1/release", RELEASE_TYPE, canned), &certificate, &stop).await;
        let floor = Server { address: floor, connector: connector(&pair.cert.pem()), requests };
        let (mut rates, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            floors.push(floor.rate().await);
            rates.push(real.rate().await);
        }
        stop.cancel();
        Row {
            name: "release of 10 secrets, a whole handshake each",
            value: median(rates),
            unit: "req/s",
            floor: Some(median(floors)),
            target: Target::RatioAtLeast(0.4),
        }
    }
}

/// A server, and who asks it.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    connector: TlsConnector,
    requests: Arc<Vec<String>>,
}

/// One answer, whole.
struct Answer(Vec<u8>);

impl Answer {
    fn split_off_body(&self) -> axum::body::Bytes {
        let head = self.0.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
        axum::body::Bytes::copy_from_slice(&self.0[head + 4..])
    }
}

impl Server {
    /// Requests a second.
    async fn rate(&self) -> f64 {
        let (next, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let clients = (0..CONNECTIONS).map(|_| {
            let (target, next) = (self.clone(), Arc::clone(&next));
            #[expect(clippy::disallowed_methods, reason = "awaited below")]
            tokio::spawn(async move {
                let mut count = 0u32;
                while started.elapsed() < DURATION {
                    target.once(next.fetch_add(1, Ordering::Relaxed)).await;
                    count += 1;
                }
                count
            })
        });
        let counts = futures::future::try_join_all(clients).await.expect("every request is answered");
        f64::from(counts.iter().sum::<u32>()) / started.elapsed().as_secs_f64()
    }

    async fn once(&self, number: usize) -> Answer {
        let tcp = TcpStream::connect(self.address).await.expect("a connection");
        tcp.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from(BROKER_NAME).expect("a name");
        let mut tls = self.connector.connect(name, tcp).await.expect("a handshake");
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        tls.write_all(self.requests[number % self.requests.len()].as_bytes()).await.expect("a request");
        let mut answer = Vec::with_capacity(4096);
        // A peer that closes without saying so has answered all the same: the length is checked by its head.
        let _ = tls.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..answer.len().min(400)]));
        Answer(answer)
    }
}

fn connector(authority: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

fn request(plan: &str, token: &str) -> String {
    format!(
        "POST /v1/release HTTP/1.1\r\nhost: {BROKER_NAME}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{plan}",
        plan.len()
    )
}

/// A client of another user, so that its calls can be told from others.
async fn other(user: &str) -> Client {
    let kubeconfig = Kubeconfig::read().expect("a kubeconfig");
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    config.auth_info =
        AuthInfo { impersonate: Some(user.to_owned()), impersonate_groups: Some(vec!["system:masters".to_owned()]), ..config.auth_info };
    Client::try_from(config).expect("a client")
}

/// What an agent's container looks like to it.
fn root(agent: &Path) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for directory in
        ["dev", "var/run/secrets/kustody.dev/ten", "var/run/kustody.dev/env/ten", "var/run/secrets/kubernetes.io/serviceaccount"]
    {
        fs::create_dir_all(root.path().join(directory)).expect("a directory");
    }
    fs::copy(agent, root.path().join("kustody-agent")).expect("the agent's binary");
    root
}

fn run(root: &Path, plan: &str, token: &str, settings: &[(&str, String); 2]) {
    fs::write(root.join("var/run/secrets/kubernetes.io/serviceaccount/token"), token).expect("a token");
    let mut command = Command::new("chroot");
    command.arg(root).args(["/kustody-agent", "init"]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdout(Stdio::null());
    command.envs(settings.iter().map(|(name, value)| (name, value))).env(env::PLAN, plan).env(env::DEADLINE, "30");
    let said = command.output().expect("chroot");
    assert!(said.status.success(), "an agent failed: {}", String::from_utf8_lossy(&said.stderr));
}
