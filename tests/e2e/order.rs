//! The order in which a chart's objects arrive does not matter: no pod ever runs without its secrets.

use std::fs;

use serde_json::{Value, json};

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{eventually, objects, run};

/// How many times each way is tried.
const TIMES: usize = 50;
/// How many are under way at once.
const AT_ONCE: usize = 5;

/// Ends at once, for ever visible as a restart, when it was started without what it asked for.
fn script(name: &str) -> String {
    format!("test -s /var/run/secrets/kustody.dev/{name}/token && test -n \"$TOKEN\" && exec sleep 1000")
}

fn pair(home: &Home, name: &str) -> (Value, Value) {
    let binding = objects::binding(&home.name, name, &home.seal(name, "token", &canary()));
    (objects::deployment(&home.name, name, name, &script(name)), binding)
}

/// Waits until the Deployment's pod is ready, and looks at every pod that it ever had.
fn assert_started_with_its_secrets(home: &Home, name: &str) {
    eventually(&format!("Deployment {name} to be available"), || {
        let deployment = home.get("deployment", name);
        if deployment["status"]["availableReplicas"] == 1 { Ok(()) } else { Err(deployment["status"].to_string()) }
    });
    let pods = crate::harness::get(&["-n", &home.name, "pods", "--selector", &format!("app={name}")]);
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 1, "{name} needed one pod");
    assert_eq!(pods[0]["status"]["containerStatuses"][0]["restartCount"], 0, "{name} ran without its secrets");
}

fn all_at_once(each: impl Fn(usize) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if i >= TIMES {
                        return;
                    }
                    each(i);
                }
            });
        }
    });
}

#[test]
fn a_directory_that_holds_the_deployment_before_its_binding_starts_no_pod_without_its_secrets() {
    let home = Home::new("directory");
    home.key();
    all_at_once(|i| {
        let name = format!("app-{i}");
        let (deployment, binding) = pair(&home, &name);
        let directory = tempfile::tempdir().unwrap();
        // kubectl applies the files of a directory in the order of their names.
        fs::write(directory.path().join("1-deployment.json"), deployment.to_string()).unwrap();
        fs::write(directory.path().join("2-binding.json"), binding.to_string()).unwrap();
        run("kubectl", &["apply", "-f", directory.path().to_str().unwrap()], b"").good();
        assert_started_with_its_secrets(&home, &name);
        home.kubectl(&["delete", "deployment", &name, "--wait=false"]).good();
    });
}

#[test]
fn a_release_that_holds_the_deployment_before_its_binding_starts_no_pod_without_its_secrets() {
    let home = Home::new("release");
    home.key();
    all_at_once(|i| {
        let name = format!("app-{i}");
        let (deployment, binding) = pair(&home, &name);
        let chart = tempfile::tempdir().unwrap();
        fs::create_dir(chart.path().join("templates")).unwrap();
        fs::write(chart.path().join("Chart.yaml"), json!({"apiVersion": "v2", "name": name, "version": "0.1.0"}).to_string()).unwrap();
        // Helm installs kinds that it does not know last: the Deployment comes first whatever the file's order.
        fs::write(chart.path().join("templates/all.yaml"), format!("{deployment}\n---\n{binding}\n")).unwrap();
        let chart = chart.path().to_str().unwrap();
        run("helm", &["install", &name, chart, "--namespace", &home.name], b"").good();
        assert_started_with_its_secrets(&home, &name);
        run("helm", &["uninstall", &name, "--namespace", &home.name], b"").good();
    });
}
