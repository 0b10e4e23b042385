//! What the chart renders, where no cluster is needed to see it; helm is one of the programs that the tests bring.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics when a sentence is not true")]

use std::process::Command;

use clap::Parser as _;
use kustody::args::{Args, Command as Subcommand};
use kustody::config::{Certificates, Config};
use kustody::controllers::certificates::servers;
use serde_json::Value;

/// The objects that the chart renders with these values, for namespace `safe` under a name of its own.
fn render(values: &[&str]) -> Vec<Value> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/kustody");
    let mut helm = Command::new("helm");
    helm.args(["template", "mine", chart, "--namespace", "safe"]);
    for value in values {
        helm.args(["--set", value]);
    }
    let done = helm.output().unwrap_or_else(|error| panic!("helm: {error}; tests/cluster/deps.sh brings it"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let objects = text.split("\n---\n").map(|object| serde_saphyr::from_str::<Value>(object).unwrap());
    objects.filter(Value::is_object).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The controller's settings, parsed as it parses them.
fn config(objects: &[Value]) -> Config {
    let deployments = of_kind(objects, "Deployment");
    let controller = deployments.iter().find(|object| object["metadata"]["name"] == "mine-kustody-controller").unwrap();
    let arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let arguments = arguments.iter().map(|argument| argument.as_str().unwrap()).chain(["--namespace=safe"]);
    let Subcommand::Run(run) = Args::try_parse_from(["kustody"].into_iter().chain(arguments)).unwrap().command else { panic!("not run") };
    run.into_config()
}

const CERT_MANAGER: &str = "certificates.source=certManager";

#[test]
fn without_cert_manager_the_controller_issues_and_no_kind_of_cert_manager_is_asked_of_the_cluster() {
    let objects = render(&[]);
    assert_eq!(config(&objects).certificates, Certificates::Controller);
    for kind in ["Certificate", "Issuer"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
}

#[test]
fn cert_manager_issues_for_the_names_that_roles_answer_to_into_the_secrets_that_they_follow() {
    let objects = render(&[CERT_MANAGER]);
    let config = config(&objects);
    assert_eq!(config.certificates, Certificates::CertManager);
    let certificates = of_kind(&objects, "Certificate");
    for (role, secret, names) in servers(&config) {
        let found = certificates.iter().find(|object| object["spec"]["secretName"] == secret.as_str()).unwrap();
        let spec = &found["spec"];
        assert_eq!(spec["dnsNames"], serde_json::json!(names), "{role}");
        assert_eq!(found["metadata"]["name"], secret.as_str(), "{role}: our messages name the Certificate as its Secret");
        assert!(spec["usages"].as_array().unwrap().contains(&"server auth".into()), "{role}");
    }
    assert!(!certificates.iter().any(|object| object["spec"]["secretName"] == config.ca_secret().as_str()), "our own authority's Secret");
}

#[test]
fn the_authority_that_the_chart_has_cert_manager_make_keeps_its_key_for_those_who_trust_it() {
    let objects = render(&[CERT_MANAGER]);
    let certificates = of_kind(&objects, "Certificate");
    let ca = certificates.iter().find(|object| object["spec"]["isCA"] == true).unwrap();
    assert_eq!(ca["spec"]["privateKey"]["rotationPolicy"], "Never");
    let issuers = of_kind(&objects, "Issuer");
    let issuer = issuers.iter().find(|object| object["spec"]["ca"]["secretName"] == ca["spec"]["secretName"]).unwrap();
    for leaf in certificates.iter().filter(|object| object["spec"]["isCA"] != true) {
        assert_eq!(leaf["spec"]["issuerRef"]["name"], issuer["metadata"]["name"]);
    }
}

#[test]
fn an_issuer_of_the_user_s_own_takes_the_place_of_the_chart_s() {
    let objects = render(&[CERT_MANAGER, "certificates.issuerRef.name=corp", "certificates.issuerRef.kind=ClusterIssuer"]);
    assert!(of_kind(&objects, "Issuer").is_empty());
    let certificates = of_kind(&objects, "Certificate");
    assert_eq!(certificates.len(), 2);
    for leaf in certificates {
        let expected = serde_json::json!({"name": "corp", "kind": "ClusterIssuer", "group": "cert-manager.io"});
        assert_eq!(leaf["spec"]["issuerRef"], expected);
    }
}

#[test]
fn no_webhook_configuration_brings_a_bundle_whoever_issues() {
    for values in [&[][..], &[CERT_MANAGER]] {
        let objects = render(values);
        let kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
        let webhooks: Vec<&Value> =
            kinds.iter().flat_map(|kind| of_kind(&objects, kind)).flat_map(|object| object["webhooks"].as_array().unwrap()).collect();
        assert!(webhooks.len() > 3 && webhooks.iter().all(|webhook| webhook["clientConfig"]["caBundle"].is_null()));
    }
}
