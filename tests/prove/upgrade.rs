//! From the chart of the release before to this one and back, under load; uninstalled nothing is lost, installed again it
//! goes on. `scripts/prove.sh` installs the release before, whose images have the tag `before`.

use std::panic::AssertUnwindSafe;

use serde_json::json;

use crate::availability::{settled, under_load};
use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, eventually, get, kubectl, objects, run};
use crate::report::Report;

/// Up, down by one, up again, away and back, under streams of `rounds` pod creations.
pub fn prove(rounds: u64, seed: u64) -> Report {
    let mut report = Report::new("upgrade", json!({"rounds": rounds, "seed": seed}));
    let home = Home::new("prove-upgrade");
    let id = home.key()["status"]["keyId"].as_str().expect("a key").to_owned();
    let value = canary();
    // The release before looks at a binding once, and its broker may not have heard of the key yet.
    std::thread::sleep(std::time::Duration::from_secs(5));
    home.binding(&value);
    let is_whole = || {
        assert_eq!(home.ready("encryptionkey", "team-key")["status"]["keyId"], id.as_str());
        home.ready("secretbinding", "trainer");
        assert_eq!(records(&home.name), vec![id.clone()]);
        started(&home, &value);
    };
    report.check("the release before serves", AssertUnwindSafe(is_whole));
    for (name, change) in [("an upgrade", up as fn()), ("a downgrade by one", down), ("an upgrade again", up)] {
        report.check(&format!("{name} loses no release and no admission"), AssertUnwindSafe(|| under_load(&home, &value, rounds, change)));
        report.check(&format!("after {name} every key and value is as before"), AssertUnwindSafe(is_whole));
    }
    report.check("an uninstall leaves keys and kinds, and neither webhooks nor finalizers", AssertUnwindSafe(|| uninstalled(&home, &id)));
    report.check(
        "a second install goes on with what is there",
        AssertUnwindSafe(|| {
            helm(&["install", "kustody", "charts/kustody", "-n", SYSTEM, "--wait", "--timeout", "4m"]);
            is_whole();
        }),
    );
    report
}

fn helm(arguments: &[&str]) {
    run("helm", arguments, b"").good();
    settled();
}

fn up() {
    helm(&["upgrade", "kustody", "charts/kustody", "-n", SYSTEM, "--set", "webhook.replicas=2", "--wait", "--timeout", "4m"]);
}

fn down() {
    helm(&["rollback", "kustody", "1", "-n", SYSTEM, "--wait", "--timeout", "4m"]);
}

/// Ids of the keys that the embedded KMS has of a namespace.
fn records(namespace: &str) -> Vec<String> {
    let secrets = get(&["-n", SYSTEM, "secrets", "-l", "kustody.dev/local-key=true"]);
    let ids = secrets["items"].as_array().expect("a list").iter();
    let ids = ids.filter_map(|secret| secret["metadata"]["annotations"]["kustody.dev/key-id"].as_str());
    ids.filter(|id| id.starts_with(&format!("{namespace}/"))).map(str::to_owned).collect()
}

fn started(home: &Home, value: &str) {
    let name = format!("whole-{}", crate::harness::unique());
    eventually("admission", || {
        let said = apply(&objects::pod(&home.name, &name, objects::PRINT_DIGESTS));
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    home.pod(&name);
    assert_eq!(home.logs(&name, "main"), format!("{0}\n{0}\n", digest(value)));
}

fn uninstalled(home: &Home, id: &str) {
    run("helm", &["uninstall", "kustody", "-n", SYSTEM, "--wait"], b"").good();
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies"] {
        let left = kubectl(&["get", kind, "-o", "name"]).good();
        assert!(!left.contains("kustody"), "{left}");
    }
    let key = home.get("encryptionkey", "team-key");
    assert_eq!((&key["status"]["keyId"], &key["metadata"]["finalizers"]), (&json!(id), &json!(null)));
    assert_eq!(records(&home.name), vec![id.to_owned()]);
    // Nothing holds an object back while nobody is there.
    kubectl(&["create", "namespace", "prove-upgrade-empty"]).good();
    apply(&objects::key("prove-upgrade-empty", "team-key")).good();
    kubectl(&["delete", "namespace", "prove-upgrade-empty", "--timeout=30s"]).good();
}
