//! An authority takes over from another while pods start.

use std::time::Duration;

use serde_json::Value;

use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, eventually, get, kubectl, objects, run, unique, within};

/// Twice a minute of settling, and room for a busy machine.
const ROLL: Duration = Duration::from_mins(6);

pub(super) fn entry(secret: &str, name: &str) -> String {
    let secret = get(&["-n", SYSTEM, "secret", secret]);
    let encoded = secret["data"][name].as_str().unwrap_or_default().to_owned();
    String::from_utf8(run("base64", &["-d"], encoded.as_bytes()).good().into_bytes()).unwrap()
}

fn roots(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

/// Restarts of the operator's containers: none of them may need one to serve a new certificate.
pub(super) fn restarts() -> u64 {
    let pods = get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=kustody"]);
    let statuses = pods["items"].as_array().unwrap().iter().filter_map(|pod| pod["status"]["containerStatuses"].as_array()).flatten();
    statuses.filter_map(|status| status["restartCount"].as_u64()).sum()
}

/// The ends of certificates that a role's replicas serve, from their metrics.
pub(super) fn served(role: &str) -> Vec<String> {
    let pods = get(&["-n", SYSTEM, "pods", "-l", &format!("app.kubernetes.io/component={role}")]);
    let addresses = pods["items"].as_array().unwrap().iter().map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned());
    let metric = format!("kustody_certificate_expiry_timestamp_seconds{{certificate=\"{role}\",source=\"served\"}} ");
    let find = |address: String| {
        let metrics = run("curl", &["-s", &format!("http://{address}:8080/metrics")], b"").good();
        metrics.lines().find_map(|line| line.strip_prefix(&metric)).unwrap_or_else(|| panic!("{metric}: {metrics}")).to_owned()
    };
    addresses.map(find).collect()
}

#[test]
fn an_authority_takes_over_while_pods_start_and_nobody_restarts() {
    let home = Home::new("roll");
    home.key();
    home.binding(&canary());
    let (old, before) = (entry("kustody-ca", "ca.crt"), restarts());
    let mut pods = 0;
    // A pod is admitted under one state of the roll and may start under the next.
    let mut start = || -> Value {
        pods += 1;
        let name = format!("train-{pods}");
        apply(&objects::pod(&home.name, &name, "test -n \"$TOKEN\"")).good();
        let pod = home.pod(&name);
        assert_eq!(pod["status"]["phase"], "Succeeded", "{name}: {}", pod["status"]);
        pod
    };
    start();
    kubectl(&["-n", SYSTEM, "annotate", "secret", "kustody-ca", &format!("kustody.dev/roll={}", unique()), "--overwrite"]).good();

    let both = eventually("both roots in the bundles", || {
        let bundle = entry("kustody-webhook-tls", "ca.crt");
        if roots(&bundle) == 2 { Ok(bundle) } else { Err(bundle) }
    });
    assert!(both.contains(old.trim()), "the old root is still trusted");
    for (kind, name) in [("mutatingwebhookconfiguration", "zz-kustody"), ("validatingwebhookconfiguration", "kustody-gates")] {
        eventually("both roots where the API server looks", || {
            let encoded = get(&[kind, name])["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
            let bundle = run("base64", &["-d"], encoded.as_bytes()).good();
            if bundle == both { Ok(()) } else { Err(bundle) }
        });
    }

    within(ROLL, "the new authority to sign while pods start", || {
        start();
        if entry("kustody-ca", "ca.crt") == old { Err("the old one signs".to_owned()) } else { Ok(()) }
    });
    within(ROLL, "the old root to leave the bundles while pods start", || {
        start();
        let bundle = entry("kustody-broker-tls", "ca.crt");
        if roots(&bundle) == 1 && !bundle.contains(old.trim()) { Ok(()) } else { Err(bundle) }
    });
    start();
    for role in ["webhook", "broker"] {
        let ends = served(role);
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{role}: every replica serves the same: {ends:?}");
    }
    run("helm", &["test", "kustody", "--namespace", SYSTEM], b"").good();
    assert_eq!(restarts(), before, "no restart was needed");
}

#[test]
fn a_damaged_certificate_is_made_anew_while_the_one_in_force_serves() {
    let home = Home::new("damaged");
    home.key();
    home.binding(&canary());
    let before = restarts();
    for secret in ["kustody-broker-tls", "kustody-webhook-tls"] {
        let good = entry(secret, "tls.crt");
        kubectl(&["-n", SYSTEM, "patch", "secret", secret, "-p", r#"{"data": {"tls.crt": "ZGFtYWdlZA=="}}"#]).good();
        eventually("a new certificate", || {
            let found = entry(secret, "tls.crt");
            if found.contains("BEGIN CERTIFICATE") && found != good { Ok(()) } else { Err(found) }
        });
        let name = format!("train-{}", unique());
        apply(&objects::pod(&home.name, &name, "test -n \"$TOKEN\"")).good();
        assert_eq!(home.pod(&name)["status"]["phase"], "Succeeded");
    }
    assert_eq!(restarts(), before);
}

/// Alone: while the bundle is away, the gate lets pass what it would refuse.
#[test]
fn the_bundle_of_the_gate_is_healed_when_it_was_reset() {
    let bundle = || get(&["validatingwebhookconfiguration", "kustody-gates"])["webhooks"][0]["clientConfig"]["caBundle"].clone();
    let before = bundle();
    assert!(before.is_string());
    let patch = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
    kubectl(&["patch", "validatingwebhookconfiguration", "kustody-gates", "--type=json", "-p", patch]).good();
    eventually("the bundle to be back", || if bundle() == before { Ok(()) } else { Err("not yet".to_owned()) });
}
