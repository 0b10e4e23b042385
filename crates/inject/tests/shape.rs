//! What an injected pod looks like, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{answer, asking, binding, denial, facts, operations, patched, request};
use kustody_inject::Kubelet;
use serde_json::{Value, json};

fn injected(review: &Value, binding: Value) -> Value {
    patched(review, &answer(review, &facts(&[binding])))["request"]["object"].clone()
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let all = ["initContainers", "containers"].into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.into_iter().find(|container| container["name"] == name).unwrap()
}

fn has_it(pod: &Value, name: &str) -> bool {
    container(pod, name)["volumeMounts"].to_string().contains("kustody-files-")
}

#[test]
fn the_patch_of_a_training_pod_is_as_it_was() {
    let review = asking(request("training-operator/pytorchjob-worker"), "true");
    insta::assert_json_snapshot!(operations(&answer(&review, &facts(&[binding(&review)]))));
}

#[test]
fn the_patch_of_a_pod_without_any_volume_is_as_it_was() {
    let review = asking(request("kubernetes/cronjob"), "true");
    insta::assert_json_snapshot!(operations(&answer(&review, &facts(&[binding(&review)]))));
}

#[test]
fn the_agent_is_what_pod_security_restricted_asks_for_and_costs_the_pod_nothing() {
    let review = asking(request("training-operator/pytorchjob-worker"), "true");
    let pod = injected(&review, binding(&review));
    let agent = &pod["spec"]["initContainers"][0];
    assert_eq!(agent["name"], "kustody-agent");
    let security = &agent["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(security["seccompProfile"], json!({"type": "RuntimeDefault"}));
    assert_eq!(agent["resources"], json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}}));
    assert_eq!(pod["spec"]["securityContext"], review["request"]["object"]["spec"]["securityContext"], "nothing on the pod itself");
}

#[test]
fn a_cpu_limit_is_set_only_where_a_quota_or_the_class_of_service_demands_it() {
    let review = asking(request("training-operator/pytorchjob-worker"), "true");
    let mut demanding = facts(&[binding(&review)]);
    demanding.demands_cpu_limit = true;
    let pod = patched(&review, &answer(&review, &demanding));
    assert_eq!(pod["request"]["object"]["spec"]["initContainers"][0]["resources"]["limits"]["cpu"], "100m");

    let mut review = asking(request("kubernetes/cronjob"), "true");
    let resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    for container in review["request"]["object"]["spec"]["containers"].as_array_mut().unwrap() {
        container["resources"] = resources.clone();
    }
    let agent = injected(&review, binding(&review))["spec"]["initContainers"][0]["resources"].clone();
    assert_eq!(agent["requests"], agent["limits"], "Guaranteed stays Guaranteed");
}

#[test]
fn the_workload_is_found_beside_what_frameworks_add() {
    for (name, workload, other) in [
        ("argo-workflows/container", "main", "wait"),
        ("kuberay/raycluster-head", "ray-head", "autoscaler"),
        ("kserve/modelcar-late-2", "kserve-container", "modelcar"),
        ("kserve/custom-logger-late-2", "kserve-container", "agent"),
        ("training-operator/pytorchjob-worker", "pytorch", "init-pytorch"),
        ("argo-workflows/initless-container", "main", "supervisor"),
    ] {
        let review = asking(request(name), "true");
        let pod = injected(&review, binding(&review));
        assert!(has_it(&pod, workload), "{name}: {workload}");
        assert!(!has_it(&pod, other), "{name}: {other}");
    }
}

#[test]
fn a_binding_names_an_init_container_and_gives_it_its_variables() {
    let review = asking(request("kserve/predictor-late-2"), "true");
    let mut named = binding(&review);
    named["spec"]["workloads"]["containers"] = json!(["storage-initializer"]);
    let pod = injected(&review, named);
    assert!(has_it(&pod, "storage-initializer") && !has_it(&pod, "kserve-container"));
    assert_eq!(container(&pod, "storage-initializer")["env"][0]["name"], "KUSTODY_TEST_TOKEN");
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "kustody-agent", "first, so that it is there before it is needed");
}

#[test]
fn a_container_that_is_nowhere_in_the_pod_is_told() {
    let review = asking(request("kubernetes/job"), "true");
    let mut named = binding(&review);
    named["spec"]["workloads"]["containers"] = json!(["nobody"]);
    let why = denial(&review, &facts(&[named]));
    let rule = "SecretBinding trainer: workloads.containers names nobody, and the pod has no such container";
    assert_eq!(why, format!("Kustody: {rule}; correct the names or remove the list"));
}

#[test]
fn a_mesh_s_init_containers_stay_before_the_agent() {
    let mut review = asking(request("kubernetes/deployment"), "true");
    let spec = &mut review["request"]["object"]["spec"];
    spec["initContainers"] = json!([{"name": "istio-init", "image": "x"}, {"name": "istio-proxy", "image": "x", "restartPolicy": "Always"}, {"name": "mine", "image": "x"}]);
    let pod = injected(&review, binding(&review));
    let names: Vec<&str> = pod["spec"]["initContainers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["istio-init", "istio-proxy", "kustody-agent", "mine"]);
}

#[test]
fn who_asks_is_as_the_table_says() {
    let silent = request("kubernetes/deployment");
    let with = |namespace: &str| {
        let mut facts = facts(&[binding(&silent)]);
        facts.namespace_labels = Arc::new(BTreeMap::from([("kustody.dev/inject".to_owned(), namespace.to_owned())]));
        facts
    };
    let outcome = |label: Option<&str>, namespace: &str| {
        let review = label.map_or_else(|| silent.clone(), |label| asking(silent.clone(), label));
        answer(&review, &with(namespace)).outcome
    };
    for (label, namespace, expected) in [
        (Some("true"), "", "injected"),
        (Some("trainer"), "", "injected"),
        (Some("other"), "", "denied"),
        (Some("false"), "required", "skipped"),
        (None, "required", "injected"),
        (None, "enabled", "injected"),
        (None, "", "skipped"),
    ] {
        assert_eq!(outcome(label, namespace), expected, "{label:?} {namespace}");
    }
    for excluded in ["kube-system", "kube-public", "kube-node-lease", "kustody-system"] {
        let mut review = asking(silent.clone(), "true");
        review["request"]["namespace"] = json!(excluded);
        assert_eq!(answer(&review, &with("required")).outcome, "skipped", "{excluded}");
    }
    let mut mirror = asking(silent.clone(), "true");
    mirror["request"]["object"]["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(answer(&mirror, &with("required")).outcome, "skipped");
}

#[test]
fn an_offered_pod_is_denied_while_the_binding_that_selects_it_is_not_ready_and_left_alone_when_none_does() {
    let review = request("kubernetes/deployment");
    let enabled = |binding: Value| {
        let mut facts = facts(&[binding]);
        facts.namespace_labels = Arc::new(BTreeMap::from([("kustody.dev/inject".to_owned(), "enabled".to_owned())]));
        facts
    };
    let mut unready = binding(&review);
    unready["status"]["conditions"][0] = json!({"type": "Ready", "status": "False", "reason": "EncryptionKeyNotFound", "message": "no key", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    assert!(denial(&review, &enabled(unready.clone())).contains("EncryptionKeyNotFound: no key"));
    unready["spec"]["workloads"]["serviceAccounts"] = json!(["somebody"]);
    assert_eq!(answer(&review, &enabled(unready)).outcome, "skipped");
}

#[test]
fn a_binding_whose_readiness_speaks_of_an_older_spec_is_not_ready() {
    let review = asking(request("kubernetes/deployment"), "true");
    let mut stale = binding(&review);
    stale["metadata"]["generation"] = json!(2);
    assert!(denial(&review, &facts(&[stale])).contains("newest version"));
}

#[test]
fn a_denial_names_each_binding_and_why_it_does_not_fit() {
    let review = asking(request("kubernetes/deployment"), "true");
    assert!(denial(&review, &facts(&[])).contains("there is none; create one"));
    let mut account = binding(&review);
    account["spec"]["workloads"]["serviceAccounts"] = json!(["somebody"]);
    let mut labels = binding(&review);
    labels["metadata"]["name"] = json!("zz");
    labels["spec"]["workloads"]["podSelector"] = json!({"matchLabels": {"no": "such"}});
    let why = denial(&review, &facts(&[account, labels]));
    assert!(
        why.contains("SecretBinding trainer: its workloads.serviceAccounts") && why.contains("SecretBinding zz: its workloads.podSelector"),
        "{why}"
    );
}

#[test]
fn a_variable_that_the_container_sets_or_that_two_bindings_fill_is_refused_by_name() {
    let mut review = asking(request("kubernetes/cronjob"), "true");
    let one = binding(&review);
    let mut two = binding(&review);
    two["metadata"]["name"] = json!("two");
    let why = denial(&review, &facts(&[one.clone(), two]));
    assert!(why.contains("SecretBindings trainer and two both fill variable KUSTODY_TEST_TOKEN of container "), "{why}");
    assert!(why.ends_with("rename it in one of them, or let the pod ask for one binding by name"), "{why}");
    let main = &mut review["request"]["object"]["spec"]["containers"][0];
    main["env"] = json!([{"name": "KUSTODY_TEST_TOKEN", "value": "mine"}]);
    let name = main["name"].as_str().unwrap().to_owned();
    let why = denial(&review, &facts(&[one]));
    assert!(
        why.contains(&format!("container {name} already sets variable KUSTODY_TEST_TOKEN, which SecretBinding trainer is to fill")),
        "{why}"
    );
    assert!(why.ends_with("remove it from the container or rename it in the binding"), "{why}");
}

#[test]
fn an_older_kubelet_refuses_variables_and_lets_files_pass() {
    let review = asking(request("kubernetes/cronjob"), "true");
    for (version, refused) in [("v1.34.9", true), ("v1.35.0", false), ("v1.36.4-eks-1", false), ("v2.0.0", false), ("nonsense", true)] {
        let mut old = facts(&[binding(&review)]);
        old.oldest_kubelet = Some(Arc::new(Kubelet { node: "old".to_owned(), version: version.to_owned() }));
        if refused {
            let why = denial(&review, &old);
            assert!(why.contains(version) && why.contains("node old") && why.contains("deliver files"), "{why}");
        } else {
            assert_eq!(answer(&review, &old).outcome, "injected", "{version}");
        }
        let mut files = binding(&review);
        files["spec"]["deliver"]["env"] = json!([]);
        let mut old_files = facts(&[files]);
        old_files.oldest_kubelet = old.oldest_kubelet;
        assert_eq!(answer(&review, &old_files).outcome, "injected", "{version}");
    }
}

#[test]
fn files_are_private_where_containers_share_a_user_and_open_where_they_do_not() {
    let plan = |user: Value, mode: Value| {
        let mut review = asking(request("kubernetes/cronjob"), "true");
        let spec = &mut review["request"]["object"]["spec"];
        spec["securityContext"] = json!({});
        spec["containers"][0]["securityContext"] = json!({"runAsUser": user});
        let mut asked = binding(&review);
        asked["spec"]["deliver"]["files"][0]["mode"] = mode;
        let facts = facts(&[asked]);
        let answered = answer(&review, &facts);
        if answered.denial.is_some() {
            return Err(denial(&review, &facts));
        }
        let pod = patched(&review, &answered)["request"]["object"].clone();
        let agent = &pod["spec"]["initContainers"][0];
        let plan: Value = serde_json::from_str(agent["env"][0]["value"].as_str().unwrap()).unwrap();
        Ok((agent["securityContext"]["runAsUser"].clone(), plan["bindings"][0]["files"][0]["mode"].clone()))
    };
    assert_eq!(plan(json!(1000), Value::Null).unwrap(), (json!(1000), json!(0o400)));
    assert_eq!(plan(json!(1000), json!(0o440)).unwrap(), (json!(1000), json!(0o440)));
    assert_eq!(plan(Value::Null, Value::Null).unwrap(), (json!(65532), json!(0o444)));
    assert_eq!(plan(json!(0), Value::Null).unwrap(), (json!(65532), json!(0o444)));
    let why = plan(json!(0), json!(0o400)).unwrap_err();
    assert!(why.contains("spec.deliver.files[hf-token].mode 0400") && why.contains("runAsUser"), "{why}");
}

#[test]
fn a_user_that_another_webhook_changed_changes_the_agent_s_in_the_next_pass() {
    let mut review = asking(request("kubernetes/cronjob"), "true");
    review["request"]["object"]["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    let facts = facts(&[binding(&review)]);
    let mut once = patched(&review, &answer(&review, &facts));
    once["request"]["object"]["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(1010);
    let twice = patched(&once, &answer(&once, &facts));
    assert_eq!(twice["request"]["object"]["spec"]["initContainers"][0]["securityContext"]["runAsUser"], 1010);
    assert!(operations(&answer(&twice, &facts)).is_empty());
}

#[test]
fn names_of_ours_that_the_pod_uses_for_something_else_are_refused() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let facts = facts(&[binding(&review)]);
    for (list, value, what) in [
        ("initContainers", json!([{"name": "kustody-agent", "image": "mine"}]), "init container kustody-agent"),
        ("containers", json!([{"name": "kustody-agent", "image": "mine"}]), "container kustody-agent"),
        ("volumes", json!([{"name": "kustody-token", "emptyDir": {}}]), "volume kustody-token"),
        ("volumes", json!([{"name": "kustody-files-06ea17a898", "hostPath": {"path": "/tmp"}}]), "volume kustody-files-06ea17a898"),
        ("volumes", json!([{"name": "kustody-env-06ea17a898", "emptyDir": {"medium": "Memory"}}]), "volume kustody-env-06ea17a898"),
    ] {
        let mut taken = review.clone();
        taken["request"]["object"]["spec"][list] = value;
        let rule = "is a name that Kustody needs, and the pod uses it for something else; rename it";
        assert_eq!(denial(&taken, &facts), format!("Kustody: {what} {rule}"), "{list}");
    }
}

#[test]
fn a_pod_made_from_a_copy_is_served_only_if_its_plan_is_its_own_and_gets_the_addresses_of_today() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let known = facts(&[binding(&review)]);
    let copy = patched(&review, &answer(&review, &known));
    let mut other = copy.clone();
    other["request"]["object"]["spec"]["serviceAccountName"] = json!("somebody");
    assert!(denial(&other, &known).contains("does not serve it"));
    let mut disk = copy.clone();
    for volume in disk["request"]["object"]["spec"]["volumes"].as_array_mut().unwrap() {
        if volume["name"].as_str().unwrap().starts_with("kustody-files-") {
            volume["emptyDir"] = json!({});
        }
    }
    assert!(denial(&disk, &known).contains("is a name that Kustody needs"));
    let mut empty = copy.clone();
    empty["request"]["object"]["spec"]["initContainers"][0]["env"][0]["value"] = json!("{\"version\":1,\"bindings\":[]}");
    assert!(denial(&empty, &known).contains("is a name that Kustody needs"));
    let mut moved = facts(&[binding(&review)]);
    moved.broker = Arc::from("https://10.96.9.9:443");
    let after = patched(&copy, &answer(&copy, &moved));
    assert_eq!(after["request"]["object"]["spec"]["initContainers"][0]["env"][1]["value"], "https://10.96.9.9:443");
    assert!(operations(&answer(&after, &moved)).is_empty());
}

#[test]
fn a_pod_with_two_bindings_of_which_one_is_not_ready_waits_for_both() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let mut late = binding(&review);
    late["metadata"]["name"] = json!("late");
    late["spec"]["deliver"]["env"] = json!([]);
    late["status"] = json!({});
    let why = denial(&review, &facts(&[binding(&review), late]));
    assert!(why.contains("SecretBinding late: it is not ready"), "{why}");
}

/// What the kubelet does to a value (third_party/forked/golang/expansion of Kubernetes), with no variable defined.
fn expanded(value: &str) -> String {
    let (mut out, mut rest) = (String::new(), value.chars().peekable());
    while let Some(c) = rest.next() {
        if c == '$' && rest.peek() == Some(&'$') {
            rest.next();
        }
        out.push(c);
    }
    out
}

#[test]
fn a_plan_with_dollar_signs_reaches_the_agent_as_it_was() {
    let review = asking(request("kubernetes/cronjob"), "true");
    for property in ["$", "$$", "$$key", "$(HOME)", "$$(HOME)", "a$b$$c$(d)$"] {
        let mut dollars = binding(&review);
        dollars["spec"]["deliver"]["files"][0]["property"] = json!(property);
        let facts = facts(&[dollars]);
        let once = patched(&review, &answer(&review, &facts));
        let value = &once["request"]["object"]["spec"]["initContainers"][0]["env"][0]["value"];
        let plan: Value = serde_json::from_str(&expanded(value.as_str().unwrap())).unwrap();
        assert_eq!(plan["bindings"][0]["files"][0]["property"], property);
        assert!(operations(&answer(&once, &facts)).is_empty(), "{property}");
    }
}

#[test]
fn a_mount_in_the_way_of_the_files_is_refused() {
    let mut review = asking(request("kubernetes/cronjob"), "true");
    for path in ["/var/run/secrets/kustody.dev", "/var/run/secrets/kustody.dev/trainer", "/var/run/secrets/kustody.dev/trainer/deep/"] {
        review["request"]["object"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "mine", "mountPath": path}]);
        let why = denial(&review, &facts(&[binding(&review)]));
        assert!(why.contains("mounts volume mine"), "{why}");
    }
}

#[test]
fn a_shared_process_namespace_is_warned_of() {
    let review = asking(request("kserve/modelcar-late-1"), "true");
    let answer = answer(&review, &facts(&[binding(&review)]));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(body["response"]["warnings"][0].as_str().unwrap().contains("shareProcessNamespace"));
}

#[test]
fn what_is_no_review_is_an_error_and_never_a_guess() {
    let refusal = |body: &str| kustody_inject::respond(body.as_bytes(), |_| None, &common::config()).unwrap_err().to_string();
    for body in ["", "{}", "[]", "{\"request\": {}}", "{\"request\": {\"uid\": 1}}"] {
        assert!(refusal(body).starts_with("the admission review cannot be read: "), "{body}");
    }
    let review = asking(request("kubernetes/cronjob"), "true").to_string();
    assert_eq!(refusal(&review), "what admission needs to know is not known yet; try again", "facts are not known");
}

#[test]
fn a_review_that_is_cut_off_says_where_it_ends_and_nothing_of_the_pod() {
    let review = asking(request("kubernetes/cronjob"), "true").to_string();
    let refusal = |body: &str| kustody_inject::respond(body.as_bytes(), |_| None, &common::config()).unwrap_err().to_string();
    for end in 1..review.len() {
        let said = refusal(&review[..end]);
        let place = format!("the admission review cannot be read: it ends too early (line 1, column {end});");
        assert!(said.starts_with(&place) && said.ends_with("see what is between the API server and the webhook"), "{end}: {said}");
    }
    let said = refusal(r#"{"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u", "object": {"spec": {"containers": "canary"}}}}"#);
    assert!(said.contains("it is not as the API server writes it (line 1, column") && !said.contains("canary"), "{said}");
}

#[test]
fn a_review_of_another_version_is_refused_with_both_versions_and_the_remedy() {
    let mut review = asking(request("kubernetes/cronjob"), "true");
    let facts = facts(&[binding(&review)]);
    for (version, named) in [(json!("admission.k8s.io/v1beta1"), "\"admission.k8s.io/v1beta1\""), (Value::Null, "\"\"")] {
        review["apiVersion"] = version;
        let answer = kustody_inject::respond(review.to_string().as_bytes(), |_| Some(facts.clone()), &common::config());
        let rule = "and only admission.k8s.io/v1 is understood; admissionReviewVersions of the webhook must say v1";
        assert_eq!(answer.unwrap_err().to_string(), format!("apiVersion: the review is of {named}, {rule}"));
    }
}

#[test]
fn two_bindings_that_name_one_path_have_a_directory_each() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let (mut one, mut two) = (binding(&review), binding(&review));
    two["metadata"]["name"] = json!("two");
    for binding in [&mut one, &mut two] {
        binding["spec"]["deliver"]["env"] = json!([]);
    }
    let pod = patched(&review, &answer(&review, &facts(&[one, two])))["request"]["object"].clone();
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let paths: Vec<&str> = mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    for name in ["trainer", "two"] {
        assert_eq!(paths.iter().filter(|path| **path == format!("/var/run/secrets/kustody.dev/{name}")).count(), 1, "{paths:?}");
    }
}
