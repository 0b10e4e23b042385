//! The chart as a user installs it.

use serde_json::json;

use crate::harness::home::Home;
use crate::harness::{SYSTEM, apply, condition, eventually, get, kubectl, objects, run};

#[test]
fn helm_test_passes() {
    run("helm", &["test", "kustody", "--namespace", SYSTEM], b"").good();
}

#[test]
fn everything_of_ours_runs_under_pod_security_restricted() {
    let said = kubectl(&["label", "--dry-run=server", "--overwrite", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted"]);
    assert!(said.ok && !said.err.contains("Warning"), "{}", said.err);
    let pods = get(&["-n", SYSTEM, "pods"]);
    assert!(pods["items"].as_array().unwrap().len() >= 3, "a workload for each role");
}

#[test]
fn the_provider_says_who_it_is_and_what_it_does_not_survive() {
    let home = Home::new("provider");
    let provider = eventually("KeyProvider local Ready", || {
        let provider = get(&["keyprovider", "local"]);
        let ready = condition(&provider, "Ready").is_some_and(|ready| ready["status"] == "True");
        if ready { Ok(provider) } else { Err(provider["status"].to_string()) }
    });
    assert!(provider["status"]["identity"].as_str().unwrap().starts_with("embedded KMS"));
    assert!(!provider["status"]["capabilities"].as_array().unwrap().is_empty());
    assert_eq!(condition(&provider, "RootKeyInCluster").unwrap()["status"], "True");
    assert_eq!(condition(&provider, "AuditDurable").unwrap()["status"], "True");
    drop(home);
}

#[test]
fn a_root_key_comes_from_a_mounted_file_and_is_refused_when_the_world_can_read_it() {
    let home = Home::new("rootkey");
    let provider = format!("{}-file", home.name);
    let open = format!("{}-open", home.name);
    let of = |name: &str, path: &str| {
        let mut object = objects::provider(name);
        object["spec"]["local"] = json!({"rootKey": {"file": {"path": path}}});
        object
    };
    apply(&json!([of(&provider, "/etc/kustody/root-key/key"), of(&open, "/etc/passwd")])).good();
    eventually("the provider over a mounted root key to be Ready", || {
        let object = get(&["keyprovider", &provider]);
        let ready = condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True");
        if ready { Ok(()) } else { Err(object["status"].to_string()) }
    });
    let object = get(&["keyprovider", &provider]);
    assert_eq!(condition(&object, "RootKeyInCluster").unwrap()["status"], "False");
    eventually("the other one to be refused", || {
        let object = get(&["keyprovider", &open]);
        let ready = condition(&object, "Ready").cloned().unwrap_or_default();
        if ready["status"] == "False" && ready["reason"] == "InvalidSpec" { Ok(()) } else { Err(ready.to_string()) }
    });
    kubectl(&["delete", "keyprovider", &provider, &open, "--wait=false"]).good();
}

#[test]
fn a_bundle_that_was_reset_is_healed() {
    let name = "zz-kustody";
    let bundle = || get(&["mutatingwebhookconfiguration", name])["webhooks"][0]["clientConfig"]["caBundle"].clone();
    let before = bundle();
    assert!(before.is_string());
    let patch = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
    kubectl(&["patch", "mutatingwebhookconfiguration", name, "--type=json", "-p", patch]).good();
    eventually("the bundle to be back", || if bundle() == before { Ok(()) } else { Err("not yet".to_owned()) });
}

#[test]
fn metrics_are_served_by_each_role_and_hold_no_name_of_a_user() {
    let home = Home::new("metrics");
    home.key();
    for (role, family) in [("controller", "kustody_reconcile"), ("webhook", "kustody_admission"), ("broker", "kustody_release")] {
        let pods = get(&["-n", SYSTEM, "pods", "-l", &format!("app.kubernetes.io/component={role}")]);
        let pod = &pods["items"][0]["status"]["podIP"];
        let metrics = run("curl", &["-s", &format!("http://{}:8080/metrics", pod.as_str().unwrap())], b"").good();
        assert!(metrics.contains(family), "{role}: {metrics}");
        assert!(!metrics.contains(&home.name), "{role}");
    }
}
