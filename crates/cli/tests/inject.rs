//! `inject`: the webhook's own answer, without a cluster.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Server, failure, list, manifest, run};
use serde_json::{Value, json};

fn inject(arguments: &[&str]) -> common::Said {
    run(&[&["inject"], arguments].concat(), "")
}

fn pod(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn a_pod_is_shown_as_the_webhook_would_make_it() {
    let said = inject(&["-f", &manifest("pod.yaml"), "-f", &manifest("bindings.yaml")]);
    assert!(said.err.contains("taken to be ready") && said.err.contains("offline"), "{}", said.err);
    let pod = pod(&said.good());
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "kustody-agent");
    let main = &pod["spec"]["containers"][0];
    assert_eq!(main["env"][0]["name"], "HF_TOKEN");
    assert_eq!(main["env"][1], json!({"name": "URL", "value": "postgres://u:$(HF_TOKEN)@db/x"}), "what was there stays as it is");
    assert_eq!(main["env"][2]["value"], "on", "text stays text");
    assert_eq!(main["volumeMounts"][0]["mountPath"], "/var/run/secrets/kustody.dev/trainer");
    assert_eq!(pod["metadata"]["labels"]["kustody.dev/inject"], "true");
    let injected: Value = serde_json::from_str(pod["metadata"]["annotations"]["kustody.dev/injected"].as_str().unwrap()).unwrap();
    assert_eq!(injected["bindings"], json!({"trainer": ["main"]}));
}

#[test]
fn json_and_yaml_show_the_same_pod_and_it_can_be_injected_again_without_a_change() {
    let files = ["-f", &manifest("pod.yaml"), "-f", &manifest("bindings.yaml")];
    let yaml = inject(&files).good();
    let json: Value = serde_json::from_str(&inject(&[&files[..], &["-o", "json"]].concat()).good()).unwrap();
    assert_eq!(pod(&yaml), json);
    let again = run(&["inject", "-f", "-", "-f", &manifest("bindings.yaml")], &yaml).good();
    assert_eq!(again, yaml);
}

#[test]
fn an_asking_pod_that_no_binding_fits_is_denied_with_the_webhook_s_words() {
    let denial = inject(&["-f", &manifest("pod.yaml")]).refused(1);
    assert!(denial.contains("Pod train would be denied: Kustody: the pod asks for secrets"), "{denial}");
    assert!(denial.contains("no SecretBinding of namespace default fits it (service account trainer): there is none"), "{denial}");
}

#[test]
fn a_binding_with_a_status_is_as_ready_as_that_says() {
    let binding = json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "trainer"},
        "spec": {"workloads": {"serviceAccounts": ["trainer"]}, "secrets": [{"name": "hf", "sealed": {"key": "k", "value": "AA"}}],
            "deliver": {"files": [{"secret": "hf", "path": "hf"}]}},
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NotGranted", "message": "add a grant",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    let said = run(&["inject", "-f", "-", "-f", &manifest("pod.yaml")], &binding.to_string());
    let denial = said.refused(1);
    assert!(denial.contains("it is not ready: NotGranted: add a grant"), "{denial}");
}

#[test]
fn the_pod_of_a_job_is_shown_for_the_namespace_that_the_job_says() {
    let files = ["-f", &manifest("job.yaml"), "-f", &manifest("bindings.yaml")];
    // The bindings say no namespace, and so belong to the one that is meant.
    let denial = inject(&files).refused(1);
    assert!(denial.contains("the pod of Job train") && denial.contains("namespace vision"), "{denial}");
    let pod = pod(&inject(&[&files[..], &["-n", "vision"]].concat()).good());
    assert_eq!(pod["metadata"]["generateName"], "train-");
    assert!(pod["spec"]["containers"][0]["volumeMounts"].is_array(), "{pod}");
    assert!(pod["spec"]["containers"][1].get("volumeMounts").is_none(), "a mesh's proxy is no workload");
    let other = inject(&[&files[..], &["-n", "other"]].concat()).refused(1);
    assert!(other.contains("Job train says namespace vision, and --namespace says other"), "{other}");
}

#[test]
fn a_namespace_of_a_file_asks_for_its_pods() {
    let quiet = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "quiet"},
        "spec": {"serviceAccountName": "trainer", "containers": [{"name": "main"}]}})
    .to_string();
    let files = ["inject", "-f", "-", "-f", &manifest("bindings.yaml")];
    let said = run(&files, &quiet);
    assert!(said.err.contains("Pod quiet would be left alone: neither the pod nor its namespace asks"), "{}", said.err);
    assert_eq!(pod(&said.good()), serde_json::from_str::<Value>(&quiet).unwrap());
    let pod = pod(&run(&[&files[..], &["-f", &manifest("namespace.yaml")]].concat(), &quiet).good());
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "kustody-agent");
}

#[test]
fn several_pods_are_several_documents_and_one_that_is_denied_fails_the_command() {
    let files = ["-f", &manifest("pod.yaml"), "-f", &manifest("job.yaml"), "-f", &manifest("bindings.yaml")];
    let said = inject(&files);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("the pod of Job train would be denied"), "{}", said.err);
    assert!(said.out.contains("kustody-agent") && !said.out.contains("---"), "{}", said.out);
}

#[test]
fn in_words_each_binding_has_its_part() {
    let said = inject(&["-f", &manifest("pod.yaml"), "-f", &manifest("bindings.yaml"), "-o", "text"]).good();
    for part in [
        "identity  system:serviceaccount:default:trainer",
        "outcome   would be injected: SecretBinding trainer would serve it",
        "SecretBinding trainer serves main",
        "file      /var/run/secrets/kustody.dev/trainer/hf-token (0444) from secret hf",
        "variable  HF_TOKEN from secret hf",
        "secret    hf, sealed for EncryptionKey team-key",
        "SecretBinding serving does not serve it: its workloads.serviceAccounts do not name service account trainer",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert!(!said.contains("AgEBsealed"), "{said}");
}

#[test]
fn what_is_no_pod_or_no_yaml_is_named_and_not_quoted() {
    let none = inject(&["-f", &manifest("bindings.yaml")]).refused(1);
    assert!(none.contains("bindings.yaml: no Pod") && none.contains("kubectl get pod"), "{none}");
    let absent = inject(&["-f", "/nonexistent/pod.yaml"]).refused(1);
    assert!(absent.contains("/nonexistent/pod.yaml cannot be read"), "{absent}");
    let broken = run(&["inject", "-f", "-"], "kind: Pod\nspec: {value: canary-secret\n").refused(1);
    assert!(broken.contains("standard input is neither YAML nor JSON") && !broken.contains("canary-secret"), "{broken}");
    let misshapen = run(&["inject", "-f", "-"], "kind: Pod\nmetadata: {name: p}\nspec: {containers: 7}\n").refused(1);
    assert!(misshapen.contains("Pod p") && misshapen.contains("cannot be read"), "{misshapen}");
    let usage = inject(&[]).refused(2);
    assert!(usage.contains("--filename"), "{usage}");
}

#[test]
fn with_the_cluster_the_pod_has_the_installation_s_own_image_and_addresses() {
    let webhook = json!({"metadata": {"name": "zz-kustody"}, "webhooks": [{"name": "asking.pods.kustody.dev", "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"caBundle": "UEVN", "service": {"name": "kustody-webhook", "namespace": "security"}}}]});
    let deployment = json!({"metadata": {"name": "kustody-webhook"}, "spec": {"selector": {}, "template": {"spec": {"containers": [
        {"name": "webhook", "args": ["run", "--role=webhook", "--agent-image=registry.example/agent:7"]}]}}}});
    let binding = json!({"apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"name": "trainer", "namespace": "vision", "uid": "u1", "generation": 2},
        "spec": {"workloads": {"serviceAccounts": ["trainer"]}, "secrets": [{"name": "hf", "sealed": {"key": "k", "value": "AA"}}],
            "deliver": {"files": [{"secret": "hf", "path": "hf"}]}},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Available", "message": "", "observedGeneration": 2,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let server = Server::of(vec![
        ("/apis/kustody.dev/v1alpha1/namespaces/vision/secretbindings", list(&[binding])),
        ("/api/v1/namespaces/vision", json!({"metadata": {"name": "vision"}})),
        ("/api/v1/nodes", list(&[])),
        (
            "/api/v1/namespaces/vision/resourcequotas",
            list(&[json!({"metadata": {"namespace": "vision"}, "spec": {"hard": {"limits.cpu": "9"}}})]),
        ),
        ("/api/v1/namespaces/vision/limitranges", list(&[])),
        ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", list(&[webhook])),
        ("/api/v1/namespaces/security/services/kustody-broker", json!({"spec": {"clusterIP": "10.0.0.9", "ports": [{"port": 8443}]}})),
        ("/apis/apps/v1/namespaces/security/deployments/kustody-webhook", deployment),
    ]);
    let said = server.run(&["inject", "-f", &manifest("pod.yaml"), "--from-cluster"]);
    assert_eq!(said.err, "", "everything is known");
    let pod = pod(&said.good());
    let agent = &pod["spec"]["initContainers"][0];
    assert_eq!(agent["image"], "registry.example/agent:7");
    assert_eq!(agent["env"][1]["value"], "https://10.0.0.9:8443");
    assert_eq!(agent["env"][2]["value"], "PEM");
    assert_eq!(agent["resources"]["limits"]["cpu"], "100m", "the quota demands it");
    assert!(agent["env"][0]["value"].as_str().unwrap().contains("u1"));
    assert!(server.requests().iter().all(|(method, _, _)| method == "GET"));
}

#[test]
fn what_may_not_be_read_is_said_with_what_is_assumed_and_what_decides_must_be_read() {
    let forbidden = |path: &str| {
        let plural = path.split('?').next().unwrap().rsplit('/').next().unwrap();
        failure(403, &format!("{plural} is forbidden: User \"eve\" cannot list resource \"{plural}\" in API group \"\""))
    };
    let server = Server::new(Box::new(move |(_, path, _)| {
        if path.contains("secretbindings") {
            (200, list(&[]))
        } else if path.contains("/namespaces/vision?") || path.ends_with("/vision") {
            failure(403, "namespaces \"vision\" is forbidden: User \"eve\" cannot get resource \"namespaces\" in API group \"\"")
        } else {
            forbidden(path)
        }
    }));
    let said = server.run(&["inject", "-f", &manifest("pod.yaml"), "-f", &manifest("bindings.yaml"), "--from-cluster"]);
    for part in ["you may not list nodes", "1.35 or newer", "you may not get Namespace vision", "no label", "placeholders stand for"] {
        assert!(said.err.contains(part), "{part:?} in {}", said.err);
    }
    assert_eq!(said.code, Some(0), "{}", said.err);
    let blind = Server::new(Box::new(move |(_, path, _)| forbidden(path)));
    let refusal = blind.run(&["inject", "-f", &manifest("pod.yaml"), "--from-cluster"]).refused(3);
    assert!(refusal.contains("you may not list secretbindings of namespace vision"), "{refusal}");
}
