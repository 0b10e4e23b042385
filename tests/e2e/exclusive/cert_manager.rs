//! cert-manager issues the certificates: its own controllers, run beside the cluster by `$KUSTODY_CERT_MANAGER/controller`.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::certificates::{entry, restarts, served};
use crate::harness::canary::canary;
use crate::harness::home::Home;
use crate::harness::{Installed, SYSTEM, apply, cluster_directory, eventually, get, kubectl, objects, run, setting, unique};

/// cert-manager, until this goes; its kinds go with it.
struct CertManager(Child);

impl CertManager {
    fn new() -> Self {
        kubectl(&["apply", "--server-side", "-f", &Self::kinds()]).good();
        for kind in ["certificates", "certificaterequests", "issuers", "clusterissuers"] {
            kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", &format!("{kind}.cert-manager.io")]).good();
        }
        let log = File::create(cluster_directory().join("log/cert-manager.log")).unwrap();
        let mut program = Command::new(format!("{}/controller", setting("KUSTODY_CERT_MANAGER")));
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self(program.spawn().unwrap())
    }

    fn kinds() -> String {
        format!("{}/crds", setting("KUSTODY_CERT_MANAGER"))
    }
}

impl Drop for CertManager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = kubectl(&["delete", "--ignore-not-found", "--wait=false", "-f", &Self::kinds()]);
    }
}

const SECRETS: [&str; 2] = ["kustody-webhook-cert-manager", "kustody-broker-cert-manager"];

/// The public key of a certificate: cert-manager issues an authority that is new now and then twice, under one key, and leaves
/// what the first one signed. Empty where there is no certificate.
fn key(certificate: &str) -> String {
    run("openssl", &["x509", "-noout", "-pubkey"], certificate.as_bytes()).out
}

/// Waits until both Secrets are signed by the key of this authority, and the API server trusts it.
fn in_place(authority: &str, secrets: [&str; 2]) {
    let signer = key(authority);
    assert_ne!(signer, "", "{authority}");
    for secret in secrets {
        eventually(&format!("{secret} of the authority"), || {
            let found = entry(secret, "ca.crt");
            if key(&found) == signer { Ok(()) } else { Err(found) }
        });
    }
    for (kind, name) in [("mutatingwebhookconfiguration", "zz-kustody"), ("validatingwebhookconfiguration", "kustody-gates")] {
        eventually("the authority where the API server looks", || {
            let encoded = get(&[kind, name])["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
            let bundle = run("base64", &["-d"], encoded.as_bytes()).good();
            let alone = bundle.matches("BEGIN CERTIFICATE").count() == 1;
            if alone && key(&bundle) == signer { Ok(()) } else { Err(bundle) }
        });
    }
}

/// A pod asks, and has its secret: both certificates are taken, the webhook's by the API server, the broker's by the agent.
fn starts(home: &Home) {
    let name = format!("train-{}", unique());
    eventually("admission", || {
        let said = apply(&objects::pod(&home.name, &name, "test -n \"$TOKEN\""));
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    let pod = home.pod(&name);
    assert_eq!(pod["status"]["phase"], "Succeeded", "{}", pod["status"]);
}

/// Waits until every replica serves what ends another time than `before`, and the Secret holds another certificate than `old`.
fn renewed(role: &str, secret: &str, old: &str, before: &[String]) {
    eventually(&format!("cert-manager to renew {secret}"), || {
        let found = get(&["-n", SYSTEM, "secrets", "--field-selector", &format!("metadata.name={secret}")]);
        let there = found["items"][0]["data"]["tls.crt"].is_string();
        if there && entry(secret, "tls.crt") != old { Ok(()) } else { Err("not yet".to_owned()) }
    });
    eventually(&format!("{role} to serve it"), || {
        let ends = served(role);
        let new = ends.iter().all(|end| !before.contains(end) && *end == ends[0]);
        if new { Ok(()) } else { Err(format!("{ends:?}")) }
    });
}

#[test]
fn cert_manager_issues_and_renews_both_certificates_and_its_secrets_are_not_written_by_us() {
    let cert_manager = CertManager::new();
    let home = Home::new("certmanager");
    home.key();
    home.binding(&canary());
    let switched = Installed::with("certificates.source", "certManager", "controller");
    let authority = entry("kustody-cert-manager-ca", "tls.crt");
    in_place(&authority, SECRETS);
    assert_ne!(key(&authority), key(&entry("kustody-ca", "ca.crt")));
    for secret in SECRETS {
        let annotations: Value = get(&["-n", SYSTEM, "secret", secret])["metadata"]["annotations"].clone();
        assert_eq!(annotations["cert-manager.io/certificate-name"], secret, "{annotations}");
    }
    let (own, before) = (get(&["-n", SYSTEM, "secret", "kustody-ca"]), restarts());
    starts(&home);

    // Deleted, as one that was lost.
    let (old, ends) = (entry("kustody-broker-cert-manager", "tls.crt"), served("broker"));
    kubectl(&["-n", SYSTEM, "delete", "secret", "kustody-broker-cert-manager"]).good();
    renewed("broker", "kustody-broker-cert-manager", &old, &ends);
    starts(&home);

    // Asked for, as cert-manager's own command does.
    let (old, ends) = (entry("kustody-webhook-cert-manager", "tls.crt"), served("webhook"));
    let issue = r#"[{"op": "add", "path": "/status/conditions/-", "value": {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
        "message": "asked for", "lastTransitionTime": "2026-01-01T00:00:00Z"}}]"#;
    kubectl(&["-n", SYSTEM, "patch", "certificate", "kustody-webhook-cert-manager", "--subresource=status", "--type=json", "-p", issue])
        .good();
    renewed("webhook", "kustody-webhook-cert-manager", &old, &ends);
    starts(&home);

    // The authority itself is renewed under its key: who trusts the old certificate takes what the new one signs.
    let issue = issue.replace("asked for", "asked for the authority");
    kubectl(&["-n", SYSTEM, "patch", "certificate", "kustody-cert-manager-ca", "--subresource=status", "--type=json", "-p", &issue]).good();
    eventually("cert-manager to renew its authority", || {
        let found = entry("kustody-cert-manager-ca", "tls.crt");
        if found == authority { Err(found) } else { Ok(()) }
    });
    let (old, ends) = (entry("kustody-broker-cert-manager", "tls.crt"), served("broker"));
    kubectl(&["-n", SYSTEM, "delete", "secret", "kustody-broker-cert-manager"]).good();
    renewed("broker", "kustody-broker-cert-manager", &old, &ends);
    assert_ne!(entry("kustody-broker-cert-manager", "ca.crt"), entry("kustody-webhook-cert-manager", "ca.crt"));
    starts(&home);

    assert_eq!(restarts(), before, "no restart was needed");
    assert_eq!(get(&["-n", SYSTEM, "secret", "kustody-ca"])["metadata"]["resourceVersion"], own["metadata"]["resourceVersion"]);
    run("helm", &["test", "kustody", "--namespace", SYSTEM], b"").good();

    // And back: the controller goes on with the Secrets and the authority that it had.
    drop(switched);
    in_place(&entry("kustody-ca", "ca.crt"), ["kustody-webhook-tls", "kustody-broker-tls"]);
    starts(&home);
    drop(cert_manager);
}
