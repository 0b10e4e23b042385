//! What a binding with `update.mode: Live` adds to a pod, and that nothing is added without one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod common;

use std::sync::Arc;

use common::{answer, asking, binding, denial, facts, operations, patched, recorded, request};
use k8s_openapi::api::core::v1::Pod;
use kustody_inject::{Facts, Kubelet};
use serde_json::{Value, json};

fn live(review: &Value) -> Value {
    let mut binding = binding(review);
    binding["spec"]["update"] = json!({"mode": "Live"});
    binding
}

fn injected(review: &Value, facts: &Facts) -> Value {
    patched(review, &answer(review, facts))["request"]["object"].clone()
}

fn init<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    pod["spec"]["initContainers"].as_array()?.iter().find(|container| container["name"] == name)
}

fn plan(container: &Value) -> Value {
    serde_json::from_str(container["env"][0]["value"].as_str().unwrap()).unwrap()
}

fn with_kubelet(mut facts: Facts, version: &str) -> Facts {
    facts.oldest_kubelet = Some(Arc::new(Kubelet { node: "old".to_owned(), version: version.to_owned() }));
    facts
}

#[test]
fn a_live_binding_adds_a_native_sidecar_right_after_the_agent_to_every_recorded_pod() {
    for (name, review) in recorded() {
        let review = asking(review, "true");
        let facts = facts(&[live(&review)]);
        let pod = injected(&review, &facts);
        let containers: Vec<_> = pod["spec"]["initContainers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        let at = containers.iter().position(|name| *name == "kustody-agent").unwrap();
        assert_eq!(containers[at + 1], "kustody-watch", "{name}");
        let watch = init(&pod, "kustody-watch").unwrap();
        assert_eq!((&watch["restartPolicy"], &watch["args"]), (&json!("Always"), &json!(["watch"])), "{name}");
        assert!(init(&pod, "kustody-agent").unwrap()["restartPolicy"].is_null(), "{name}");
        serde_json::from_value::<Pod>(pod).unwrap_or_else(|error| panic!("{name}: {error}"));
        // A second call changes nothing.
        let once = patched(&review, &answer(&review, &facts));
        assert!(operations(&answer(&once, &facts)).is_empty(), "{name}");
    }
}

#[test]
fn without_a_live_binding_the_patch_is_as_it_was() {
    for (name, review) in recorded() {
        let review = asking(review, "true");
        let mut on_restart = binding(&review);
        let before = operations(&answer(&review, &facts(&[on_restart.clone()])));
        on_restart["spec"]["update"] = json!({"mode": "OnRestart"});
        assert_eq!(operations(&answer(&review, &facts(&[on_restart]))), before, "{name}");
        assert!(!json!(before).to_string().contains("kustody-watch"), "{name}");
    }
}

#[test]
fn the_sidecar_follows_files_of_live_bindings_alone_and_cannot_reach_an_environment_file() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let mut still = binding(&review);
    still["metadata"]["name"] = json!("still");
    still["spec"]["deliver"]["env"] = json!([]);
    let pod = injected(&review, &facts(&[still, live(&review)]));
    let (agent, watch) = (init(&pod, "kustody-agent").unwrap(), init(&pod, "kustody-watch").unwrap());
    assert_eq!(plan(agent)["bindings"].as_array().unwrap().len(), 2);
    let followed = plan(watch);
    assert_eq!(followed["bindings"].as_array().unwrap().len(), 1);
    assert_eq!((&followed["bindings"][0]["name"], &followed["bindings"][0]["env"]), (&json!("trainer"), &Value::Null));
    assert_eq!(followed["bindings"][0]["files"], plan(agent)["bindings"][1]["files"]);
    let mounts: Vec<_> = watch["volumeMounts"].as_array().unwrap().iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect();
    assert_eq!(mounts, ["/var/run/secrets/kubernetes.io/serviceaccount", "/var/run/secrets/kustody.dev/trainer"]);
    assert_eq!(watch["securityContext"], agent["securityContext"]);
}

#[test]
fn the_sidecar_counts_little_and_keeps_the_class_of_service() {
    let mut review = asking(request("kubernetes/cronjob"), "true");
    let watch = |review: &Value, facts: &Facts| init(&injected(review, facts), "kustody-watch").unwrap()["resources"].clone();
    let known = facts(&[live(&review)]);
    assert_eq!(watch(&review, &known), json!({"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}));
    let demanding = Facts { demands_cpu_limit: true, ..known.clone() };
    assert_eq!(watch(&review, &demanding)["limits"], json!({"cpu": "20m", "memory": "16Mi"}));
    let resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    for container in review["request"]["object"]["spec"]["containers"].as_array_mut().unwrap() {
        container["resources"] = resources.clone();
    }
    let guaranteed = watch(&review, &known);
    assert_eq!(guaranteed["requests"], guaranteed["limits"]);
}

#[test]
fn a_kubelet_that_does_not_know_native_sidecars_gets_none_and_the_user_is_told() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let mut files = live(&review);
    files["spec"]["deliver"]["env"] = json!([]);
    for (version, knows) in [("v1.28.15", false), ("nonsense", false), ("v1.29.0", true), ("v1.36.4", true)] {
        let facts = with_kubelet(facts(&[files.clone()]), version);
        let answered = answer(&review, &facts);
        let pod = patched(&review, &answered)["request"]["object"].clone();
        assert_eq!(init(&pod, "kustody-watch").is_some(), knows, "{version}");
        let body: Value = serde_json::from_slice(&answered.body).unwrap();
        let warned = body["response"]["warnings"].to_string();
        assert_eq!(warned.contains("1.29 or newer, and node old has"), !knows, "{version}: {warned}");
    }
}

#[test]
fn a_second_pass_corrects_the_sidecar_as_it_corrects_the_agent() {
    let mut review = asking(request("kubernetes/cronjob"), "true");
    review["request"]["object"]["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    let known = facts(&[live(&review)]);
    let mut once = patched(&review, &answer(&review, &known));
    once["request"]["object"]["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(1010);
    let moved = Facts { broker: Arc::from("https://10.96.9.9:443"), ..known };
    let twice = patched(&once, &answer(&once, &moved));
    let watch = init(&twice["request"]["object"], "kustody-watch").unwrap();
    assert_eq!(watch["securityContext"]["runAsUser"], 1010);
    assert_eq!(watch["env"][1]["value"], "https://10.96.9.9:443");
    assert!(operations(&answer(&twice, &moved)).is_empty());
}

#[test]
fn a_copy_follows_what_its_bindings_say_now() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let mut other = live(&review);
    other["metadata"]["name"] = json!("other");
    other["spec"]["deliver"]["env"] = json!([]);
    let mut still = other.clone();
    still["spec"]["update"] = json!({});
    let (one, both, none) = (facts(&[still.clone(), live(&review)]), facts(&[other, live(&review)]), facts(&[still, binding(&review)]));
    let copy = |from: &Facts, to: &Facts| {
        let copied = patched(&review, &answer(&review, from));
        let after = patched(&copied, &answer(&copied, to));
        assert!(operations(&answer(&after, to)).is_empty());
        init(&after["request"]["object"], "kustody-watch").cloned()
    };
    let (watch, anew) = (copy(&one, &both).unwrap(), copy(&both, &both).unwrap());
    assert_eq!(plan(&watch), plan(&anew));
    assert_eq!(watch["volumeMounts"].as_array().unwrap().len(), anew["volumeMounts"].as_array().unwrap().len());
    assert_eq!(copy(&none, &both), copy(&both, &both), "it became live since");
    assert_eq!(plan(&copy(&both, &none).unwrap())["bindings"], json!([]), "it is live no more: nothing to follow");
}

#[test]
fn the_sidecar_s_name_is_refused_when_the_pod_uses_it_for_something_else() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let facts = facts(&[live(&review)]);
    for list in ["initContainers", "containers"] {
        let mut taken = review.clone();
        taken["request"]["object"]["spec"][list] = json!([{"name": "kustody-watch", "image": "mine"}]);
        assert!(denial(&taken, &facts).contains("container kustody-watch is a name that Kustody needs"), "{list}");
    }
    let mut stolen = patched(&review, &answer(&review, &facts));
    let containers = stolen["request"]["object"]["spec"]["initContainers"].as_array_mut().unwrap();
    containers[1]["env"] = json!([]);
    assert!(denial(&stolen, &facts).contains("kustody-watch"));
}

#[test]
fn a_binding_that_names_the_sidecar_does_not_serve_it() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let mut named = live(&review);
    let workload = review["request"]["object"]["spec"]["containers"][0]["name"].clone();
    named["spec"]["workloads"]["containers"] = json!(["kustody-watch", workload]);
    let facts = facts(&[named]);
    let once = patched(&review, &answer(&review, &facts));
    assert!(operations(&answer(&once, &facts)).is_empty());
}
