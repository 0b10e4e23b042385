//! Figures of what users pay for, each beside its floor, with targets: `make bench`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot run fails loudly")]
#![allow(clippy::print_stdout, unreachable_pub, missing_docs, reason = "a program of its own")]

mod admission;
mod agent;
mod apply;
mod cluster;
mod idle;
mod load;
mod release;
mod start;
mod summary;

use std::path::{Path, PathBuf};

/// As `scripts/images.sh` names it.
const AGENT_IMAGE: &str = "localhost/kustody-agent:0.1.0";

/// A setting that `scripts/bench.sh` gives.
#[expect(clippy::disallowed_methods, reason = "the benchmark's own settings")]
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by `make bench`"))
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let binaries = PathBuf::from(setting("KUSTODY_BIN"));
    let on_node = setting("KUSTODY_ON_NODE");
    let mut rows = Vec::new();
    rows.extend(admission::rows().await);
    rows.extend(agent::rows(&binaries.join("kustody-agent")).await);
    rows.push(tokio::task::spawn_blocking(move || start::row(&on_node)).await.expect("pods start"));
    let node = cluster::Unmanned::new(&cluster::client().await).await;
    rows.extend(release::rows(&binaries.join("kustody-agent"), &node).await);
    rows.extend(apply::rows().await);
    let binary = binaries.join("kustody");
    // From here on a process of its own plays the roles.
    let token = cluster::controllers_token(&node.client).await;
    let (idle, file) = (binary.clone(), token.path().to_owned());
    rows.push(tokio::task::spawn_blocking(move || idle::row(&idle, AGENT_IMAGE, &file)).await.expect("an idle process"));
    node.pods("crowd", 10_000, "trainer").await;
    let file = token.path().to_owned();
    rows.push(tokio::task::spawn_blocking(move || idle::crowded(&binary, AGENT_IMAGE, &file)).await.expect("a crowded process"));
    println!("{}", summary::table(&rows));
    summary::write(&rows, Path::new("target/bench")).expect("the summary");
    // A missed target is an answer, not an accident: it is in the table, and nobody can overlook it.
    std::process::ExitCode::from(u8::from(!rows.iter().all(summary::Row::met)))
}
