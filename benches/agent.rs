//! The agent alone: its size, and what one run costs in memory and CPU.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use axum::Router;
use kustody::runtime::tls::Certificate;
use kustody_core::secret::SecretBytes;
use kustody_core::wire::{self, Plan, PlannedBinding, PlannedFile, PlannedVariable, Release, ReleasedValue};
use tokio_util::sync::CancellationToken;
use wait4::Wait4 as _;

use super::load;
use super::summary::{Row, Target, median};

/// How many runs are measured.
const RUNS: usize = 101;

/// Measures the static binary in a root of its own, against a broker that answers at once.
pub async fn rows(binary: &Path) -> Vec<Row> {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    for directory in
        ["dev", "var/run/secrets/kustody.dev/trainer", "var/run/kustody.dev/env/trainer", "var/run/secrets/kubernetes.io/serviceaccount"]
    {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    fs::copy(binary, root.join("kustody-agent")).expect("the agent's binary");
    fs::write(root.join("var/run/secrets/kubernetes.io/serviceaccount/token"), "header.claims.signature").expect("a token");

    let pair = rcgen::generate_simple_self_signed([wire::BROKER_NAME.to_owned()]).expect("a certificate");
    let certificate = Certificate::default();
    certificate.replace(pair.cert.pem().as_bytes(), pair.signing_key.serialize_pem().as_bytes()).expect("a usable pair");
    let stop = CancellationToken::new();
    let address = load::serve(broker(), &certificate, &stop).await;

    let environment = vec![
        (wire::env::PLAN, serde_json::to_string(&plan()).expect("a plan")),
        (wire::env::BROKER, format!("https://{address}")),
        (wire::env::CA, pair.cert.pem()),
        (wire::env::DEADLINE, "10".to_owned()),
    ];
    let chroot = root.to_owned();
    let (cpu, resident) = tokio::task::spawn_blocking(move || measure(&chroot, &environment)).await.expect("the agent ends");
    stop.cancel();
    let size = fs::metadata(binary).expect("the agent's binary").len();
    #[expect(clippy::cast_precision_loss, reason = "a few millions")]
    let size = size as f64 / 1e6;
    vec![
        Row { name: "agent: static binary", value: size, unit: "MB", floor: None, target: Target::ValueAtMost(4.0) },
        Row { name: "agent: peak RSS of one run", value: resident, unit: "MiB", floor: None, target: Target::ValueAtMost(4.0) },
        Row { name: "agent: CPU of one run", value: cpu, unit: "ms", floor: None, target: Target::ValueAtMost(5.0) },
    ]
}

fn plan() -> Plan {
    Plan {
        version: 1,
        bindings: vec![PlannedBinding {
            name: "trainer".to_owned(),
            uid: "5c4c0d3e-0000-4000-8000-000000000000".to_owned(),
            files: vec![PlannedFile { path: "token".to_owned(), secret: "token".to_owned(), property: None, mode: 0o444 }],
            env: vec![PlannedVariable { name: "TOKEN".to_owned(), secret: "token".to_owned(), property: None }],
        }],
    }
}

fn broker() -> Router {
    let value = ReleasedValue {
        binding: "trainer".to_owned(),
        secret: "token".to_owned(),
        property: None,
        value: SecretBytes::new(b"benchmark-value".to_vec()),
    };
    let release = Release { values: vec![value], ..Release::default() }.encode().expect("a small release").to_vec();
    load::canned("/v1/release", wire::RELEASE_TYPE, release.into())
}

/// Medians of CPU (ms) and peak RSS (MiB).
fn measure(root: &Path, environment: &[(&str, String)]) -> (f64, f64) {
    let chroot = |program: &str| {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdout(Stdio::null());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    };
    let mut cpu = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..RUNS {
        let mut child = chroot("chroot").arg(root).args(["/kustody-agent", "init"]).stderr(Stdio::null()).spawn().expect("chroot");
        let used = child.wait4().expect("the agent ends");
        assert!(used.status.success(), "the agent failed: {}", used.status);
        cpu.push((used.rusage.utime + used.rusage.stime).as_secs_f64() * 1e3);
        // A child's peak begins with its parent's: time(1) is small enough not to be seen.
        let said = chroot("time")
            .args(["-f", "%M", "chroot"])
            .arg(root)
            .args(["/kustody-agent", "init"])
            .stderr(Stdio::piped())
            .output()
            .expect("time");
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let kib: f64 = text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"));
        resident.push(kib / 1024.0);
    }
    (median(cpu), median(resident))
}
