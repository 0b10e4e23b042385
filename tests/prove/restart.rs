//! Every program and every pod of the cluster is down at once, as after a power cut, and all of it comes back without a hand.
//!
//! Not an end-to-end test: an API server that starts refuses what it does not know the rules of yet, and those tests hold that
//! no role was ever refused.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, get, kubectl, objects, run, setting, within};
use crate::report::Report;

/// From nothing to everything, on a busy machine.
const LIMIT: Duration = Duration::from_mins(8);
/// What must have been among the killed.
const PROGRAMS: [&str; 8] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet", "kustody", "busybox"];
/// Everything but the shells that start the programs again. All are stopped before the first is killed, so that none sees
/// another die; then all start at once.
const STRIKE: &str = r#"
    victims=()
    for process in /proc/[0-9]*; do
      program=$(readlink "$process/exe") || continue
      program=${program##*/}
      case $program in bash | sleep) ;; *) victims+=("${process#/proc/}"); echo "$program" ;; esac
    done
    kill -STOP "${victims[@]}"; kill -KILL "${victims[@]}""#;

pub fn prove() -> Report {
    let mut report = Report::new("restart", json!({}));
    report.check(
        "a full restart of the cluster with every pod down recovers without a hand",
        a_full_restart_of_the_cluster_with_every_pod_down_recovers_without_a_hand,
    );
    report
}

fn a_full_restart_of_the_cluster_with_every_pod_down_recovers_without_a_hand() {
    let home = Home::new("prove-restart");
    let id = home.key()["status"]["keyId"].clone();
    let value = canary();
    home.binding(&value);
    let script = format!("{}; exec sleep 100000", objects::PRINT_DIGESTS);
    apply(&objects::deployment(&home.name, "serve", "trainer", &script)).good();
    home.kubectl(&["rollout", "status", "deployment/serve", "--timeout=2m"]).good();
    let before = containers(get(&["-A", "pods"])["items"].as_array().expect("a list"));

    let said = run(&setting("KUSTODY_ON_NODE"), &["bash", "-c", STRIKE], b"");
    let killed: BTreeSet<&str> = said.out.lines().collect();
    assert!(PROGRAMS.iter().all(|program| killed.contains(program)), "{killed:?} {}", said.err);

    let operator = ["-n", SYSTEM, "-l", "app.kubernetes.io/name=kustody"];
    let asking = ["-n", home.name.as_str(), "-l", "app=serve"];
    within(LIMIT, "every pod of the operator to be Ready again", || back(&operator, &before).map(drop));
    let pods = within(LIMIT, "the asking pod to be Ready again", || back(&asking, &before));
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        assert!(pod["metadata"]["annotations"]["kustody.dev/injected"].is_string(), "{pod}");
        assert_eq!(home.logs(name, "main"), format!("{0}\n{0}\n", digest(&value)), "{name} has its secret again");
    }

    assert_eq!(home.ready("encryptionkey", "team-key")["status"]["keyId"], id);
    home.ready("secretbinding", "trainer");
    within(LIMIT, "admission", || {
        let said = apply(&objects::pod(&home.name, "fresh", objects::PRINT_DIGESTS));
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    home.pod("fresh");
    assert_eq!(home.logs("fresh", "main"), format!("{0}\n{0}\n", digest(&value)));
}

/// The live pods, once each is Ready in containers that were not there before.
fn back(which: &[&str], before: &BTreeSet<String>) -> Result<Vec<Value>, String> {
    let said = kubectl(&[&["get", "pods", "-o", "json"], which].concat());
    if !said.ok {
        return Err(said.err);
    }
    let list: Value = serde_json::from_str(&said.out).map_err(|error| error.to_string())?;
    let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let pods: Vec<Value> = list["items"].as_array().into_iter().flatten().filter(|pod| !ended(pod)).cloned().collect();
    let ready = |pod: &Value| crate::harness::condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
    if pods.is_empty() || !pods.iter().all(ready) || !containers(&pods).is_disjoint(before) {
        return Err(pods.iter().map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"])).collect::<Vec<_>>().join("\n"));
    }
    Ok(pods)
}

/// Ids of the containers that pods have.
fn containers(pods: &[Value]) -> BTreeSet<String> {
    let statuses = pods.iter().filter_map(|pod| pod["status"]["containerStatuses"].as_array()).flatten();
    statuses.filter_map(|status| status["containerID"].as_str()).map(str::to_owned).collect()
}
