//! Tests of what is found, what is done about it, and what is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Request, Response};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::client::Body;
use kube::{Client, ResourceExt as _};
use kustody_api::{Reason, SecretBinding};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::evict::{Evicted, evict};
use super::find::{Asks, Found, all, lacking, pods_without_secrets};
use super::history::{History, Sequel};
use super::verdict::{Because, EVICTIONS_A_PASS, Owner, Verdict, chosen, ignores_disruptions, judge, note, owner};
use crate::config::PodsWithoutSecrets;
use crate::controllers::secret_binding::pods::trim;

const INSTALLATION: &str = "kustody-system";

fn namespace(name: &str, inject: Option<&str>) -> Arc<Namespace> {
    let labels = inject.map_or_else(|| json!({}), |inject| json!({"kustody.dev/inject": inject}));
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap())
}

fn binding(name: &str, ready: bool, created: &str) -> SecretBinding {
    let status = if ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"name": name, "namespace": "vision", "generation": 1, "creationTimestamp": created},
        "spec": {
            "workloads": {"serviceAccounts": ["trainer"], "podSelector": {"matchLabels": {"app": "a"}}},
            "secrets": [], "deliver": {},
        },
        "status": {"conditions": [{
            "type": "Ready", "status": status, "reason": "Available", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    }))
    .unwrap()
}

/// A pod that a binding of [`binding`] selects and that does not ask, as the API server has it; `change` makes it another.
fn pod(change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {
            "name": "p", "namespace": "vision", "uid": "u", "creationTimestamp": "2026-01-01T00:00:10Z", "labels": {"app": "a"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}],
        },
        "spec": {"serviceAccountName": "trainer", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    change(&mut pod);
    let mut pod: Pod = serde_json::from_value(pod).unwrap();
    trim(&mut pod);
    Arc::new(pod)
}

fn asking(label: &str) -> impl FnOnce(&mut Value) + use<> {
    let label = label.to_owned();
    move |pod: &mut Value| pod["metadata"]["labels"]["kustody.dev/inject"] = json!(label)
}

fn of(pod: &Arc<Pod>, inject: Option<&str>, bindings: &[SecretBinding]) -> Option<Found> {
    let bindings: Vec<Arc<SecretBinding>> = bindings.iter().cloned().map(Arc::new).collect();
    let namespaces = [namespace("vision", inject), namespace("kube-system", inject), namespace(INSTALLATION, inject)];
    all(&[Arc::clone(pod)], &namespaces, &bindings, INSTALLATION).pop()
}

const OLDER: &str = "2026-01-01T00:00:09Z";

#[test]
fn a_pod_that_asks_and_has_no_agent_is_found_with_the_bindings_that_fit_it() {
    let bindings = [binding("two", true, OLDER), binding("one", true, OLDER)];
    let found = of(&pod(asking("true")), None, &bindings).unwrap();
    assert_eq!((found.asks, found.bindings, found.refused), (Asks::Label, vec!["one".to_owned(), "two".to_owned()], None));
    let found = of(&pod(asking("two")), None, &bindings).unwrap();
    assert_eq!(found.bindings, ["two"]);
    let found = of(&pod(|_| {}), Some("required"), &bindings).unwrap();
    assert_eq!((found.asks, found.bindings.len()), (Asks::Required, 2));
    assert!(of(&pod(|_| {}), None, &bindings).is_none(), "it never asked");
}

#[test]
fn a_pod_that_says_false_is_never_found() {
    for inject in [None, Some("enabled"), Some("required")] {
        assert!(of(&pod(asking("false")), inject, &[binding("one", true, OLDER)]).is_none());
    }
}

#[test]
fn a_pod_has_its_mark_when_annotation_and_agent_are_there() {
    let annotated = |pod: &mut Value| pod["metadata"]["annotations"] = json!({"kustody.dev/injected": "{}", "other": "x"});
    let agent = |pod: &mut Value| pod["spec"]["initContainers"] = json!([{"name": "kustody-agent"}]);
    let bindings = [binding("one", true, OLDER)];
    let required = Some("required");
    assert!(of(&pod(annotated), required, &bindings).is_some());
    assert!(of(&pod(agent), required, &bindings).is_some());
    let marked = pod(|pod| {
        annotated(pod);
        agent(pod);
    });
    assert!(of(&marked, required, &bindings).is_none());
    assert_eq!(marked.metadata.annotations.as_ref().map(BTreeMap::len), Some(1), "only our mark stays in memory");
}

#[test]
fn pods_that_ended_that_go_and_that_never_ask_are_not_found() {
    let bindings = [binding("one", true, OLDER)];
    let cases: [fn(&mut Value); 6] = [
        |pod| pod["status"]["phase"] = json!("Succeeded"),
        |pod| pod["status"]["phase"] = json!("Failed"),
        |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:20Z"),
        |pod| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"}),
        |pod| pod["metadata"]["namespace"] = json!("kube-system"),
        |pod| pod["metadata"]["namespace"] = json!(INSTALLATION),
    ];
    for (i, case) in cases.into_iter().enumerate() {
        assert!(of(&pod(case), Some("required"), &bindings).is_none(), "case {i}");
    }
}

#[test]
fn an_enabled_namespace_owes_a_pod_what_ready_bindings_older_than_it_select() {
    let found = |bindings: &[SecretBinding]| of(&pod(|_| {}), Some("enabled"), bindings);
    assert_eq!(found(&[binding("one", true, OLDER)]).unwrap().asks, Asks::Enabled);
    assert!(found(&[binding("one", true, "2026-01-01T00:00:11Z")]).is_none(), "the pod was there before");
    assert!(found(&[binding("one", true, "2026-01-01T00:00:10Z")]).is_none(), "in one second the pod may have come first");
    assert!(found(&[binding("one", false, OLDER)]).is_none(), "it is not ready");
    assert!(found(&[]).is_none());
    let mut other = binding("one", true, OLDER);
    other.spec.workloads.service_accounts = vec!["other".to_owned()];
    assert!(found(&[other]).is_none(), "it does not select the pod");
}

#[test]
fn what_would_be_refused_in_its_place_is_said() {
    let refused = |bindings: &[SecretBinding], label: &str| of(&pod(asking(label)), None, bindings).unwrap().refused.unwrap_or_default();
    assert_eq!(refused(&[], "true"), "no SecretBinding of its namespace fits it");
    assert_eq!(refused(&[binding("one", true, OLDER)], "two"), "no SecretBinding two of its namespace fits it");
    let bindings = [binding("one", true, OLDER), binding("two", false, OLDER)];
    assert_eq!(refused(&bindings, "true"), "SecretBinding two is not ready");
    assert_eq!(refused(&bindings, "one"), "");
    let bindings = [binding("two", false, OLDER), binding("one", false, OLDER)];
    assert_eq!(refused(&bindings, "true"), "SecretBinding one is not ready", "always the same, in whatever order they are cached");
}

#[test]
fn the_condition_of_a_binding_names_its_own_pods_and_is_false_without_any() {
    let named = |name: &str, label: &str| {
        let (name, label) = (name.to_owned(), label.to_owned());
        pod(move |pod| {
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["labels"]["kustody.dev/inject"] = json!(label);
        })
    };
    let pods = [named("d", "one"), named("c", "true"), named("b", "two"), named("a", "true"), named("e", "one")];
    let found = lacking(&binding("one", true, OLDER), true, &pods, &BTreeMap::new(), INSTALLATION);
    assert_eq!(found, ["a", "c", "d", "e"]);
    let seen = pods_without_secrets(&found);
    assert_eq!((seen.status, seen.reason), (Some(true), Reason::SecretsMissing));
    assert!(seen.message.starts_with("4 live pods") && seen.message.contains("a, c, d and 1 more"), "{}", seen.message);
    assert_eq!(pods_without_secrets(&[]).status, Some(false));
}

fn owned(api_version: &str, kind: &str) -> Arc<Pod> {
    let reference = json!([{"apiVersion": api_version, "kind": kind, "name": "o", "uid": "o", "controller": true}]);
    pod(move |pod| {
        asking("true")(pod);
        pod["metadata"]["ownerReferences"] = reference;
    })
}

#[test]
fn only_pods_that_are_replaced_and_served_are_evicted() {
    let ready = [binding("one", true, OLDER)];
    let verdict = |pod: &Arc<Pod>, bindings: &[SecretBinding], ignores: Option<bool>| {
        judge(PodsWithoutSecrets::Evict, &of(pod, None, bindings).unwrap(), &owner(pod, ignores))
    };
    for (api_version, kind) in
        [("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"), ("v1", "ReplicationController")]
    {
        let pod = owned(api_version, kind);
        assert_eq!(verdict(&pod, &ready, None), Verdict::Evict, "{kind}");
        assert_eq!(verdict(&pod, &[], None), Verdict::Report(Because::Refused), "{kind}");
    }
    let job = owned("batch/v1", "Job");
    assert_eq!(verdict(&job, &ready, Some(true)), Verdict::Evict);
    assert_eq!(verdict(&job, &ready, Some(false)), Verdict::Report(Because::Job));
    assert_eq!(verdict(&job, &ready, None), Verdict::Report(Because::Job), "what is not known is not risked");
    for (api_version, kind) in [("kubeflow.org/v1", "PyTorchJob"), ("ray.io/v1", "RayCluster"), ("example.com/v1", "ReplicaSet")] {
        assert_eq!(verdict(&owned(api_version, kind), &ready, None), Verdict::Report(Because::UnknownController), "{kind}");
    }
    let bare = pod(|pod| {
        asking("true")(pod);
        pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    });
    assert_eq!(verdict(&bare, &ready, None), Verdict::Report(Because::NoController));
}

#[test]
fn nothing_is_evicted_unless_the_installation_wants_it() {
    let pod = owned("apps/v1", "ReplicaSet");
    let found = of(&pod, None, &[binding("one", true, OLDER)]).unwrap();
    assert_eq!(judge(PodsWithoutSecrets::Report, &found, &owner(&pod, None)), Verdict::Report(Because::Policy));
}

#[test]
fn a_job_ignores_disruptions_when_the_first_rule_that_can_match_says_so() {
    let of = |rules: Value| {
        let job = json!({"metadata": {"name": "j"}, "spec": {"template": {}, "podFailurePolicy": {"rules": rules}}});
        ignores_disruptions(&serde_json::from_value(job).unwrap())
    };
    let disruption = |action: &str| json!({"action": action, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let codes =
        |action: &str, operator: &str, values: &[i32]| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
    assert!(of(json!([disruption("Ignore")])));
    assert!(of(json!([codes("FailJob", "In", &[42]), disruption("Ignore")])), "no container ends with 42 by a signal");
    assert!(of(json!([codes("FailJob", "NotIn", &[137, 143]), disruption("Ignore")])));
    assert!(of(json!([codes("Ignore", "In", &[143]), disruption("Ignore")])));
    assert!(!of(json!([])));
    assert!(!of(json!([disruption("FailJob"), disruption("Ignore")])));
    assert!(!of(json!([disruption("Count")])));
    assert!(!of(json!([codes("FailJob", "In", &[1, 143]), disruption("Ignore")])));
    assert!(!of(json!([codes("FailJob", "NotIn", &[42]), disruption("Ignore")])));
    assert!(!of(json!([codes("Ignore", "In", &[143])])), "the program may end with another code");
    let other = json!({"action": "Ignore", "onPodConditions": [{"type": "ConfigIssue", "status": "True"}]});
    assert!(!of(json!([other])));
    assert!(!ignores_disruptions(&serde_json::from_value(json!({"spec": {"template": {}}})).unwrap()));
}

#[test]
fn what_people_are_told_names_the_rule_and_the_remedy() {
    let bindings = [binding("one", true, OLDER)];
    let told = |pod: &Arc<Pod>, bindings: &[SecretBinding], ignores: Option<bool>| {
        let (found, owner) = (of(pod, None, bindings).unwrap(), owner(pod, ignores));
        note(&found, &owner, judge(PodsWithoutSecrets::Evict, &found, &owner))
    };
    let cases = [
        (told(&owned("apps/v1", "ReplicaSet"), &bindings, None), "it is evicted once admission, disruption budgets"),
        (told(&owned("apps/v1", "ReplicaSet"), &[], None), "no SecretBinding of its namespace fits it: mend that"),
        (told(&owned("batch/v1", "Job"), &bindings, Some(false)), "delete Job o and create it again"),
        (told(&owned("batch/v1", "Job"), &bindings, None), "cannot be read"),
        (told(&owned("ray.io/v1", "RayCluster"), &bindings, None), "restart its controller RayCluster o"),
    ];
    for (note, part) in cases {
        assert!(note.contains(part) && note.contains("kustody.dev/inject") && note.contains("kustody.dev/injected"), "{part}: {note}");
        assert!(note.len() < 1000, "{note}");
    }
}

#[test]
fn one_pod_of_a_controller_goes_at_a_time_and_the_next_when_the_one_in_its_place_is_ready() {
    let member = |name: &str, owner: &str, change: fn(&mut Value)| {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        pod(move |pod| {
            asking("true")(pod);
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["ownerReferences"][0]["uid"] = json!(owner);
            change(pod);
        })
    };
    let served: fn(&mut Value) = |pod| {
        pod["metadata"]["annotations"] = json!({"kustody.dev/injected": "{}"});
        pod["spec"]["initContainers"] = json!([{"name": "kustody-agent"}]);
    };
    let rising: fn(&mut Value) = |pod| {
        pod["metadata"]["annotations"] = json!({"kustody.dev/injected": "{}"});
        pod["spec"]["initContainers"] = json!([{"name": "kustody-agent"}]);
        pod["status"]["conditions"] = json!([]);
    };
    let going: fn(&mut Value) = |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:20Z");
    // What lacks its secrets may be unready for that very reason: it holds nobody up.
    let broken: fn(&mut Value) = |pod| pod["status"]["conditions"] = json!([]);
    let pods = [
        member("a1", "a", |_| {}),
        member("a2", "a", broken),
        member("b1", "b", |_| {}),
        member("b2", "b", served),
        member("c1", "c", |_| {}),
        member("c2", "c", rising),
        member("d1", "d", |_| {}),
        member("d2", "d", going),
    ];
    let namespaces = [namespace("vision", None)];
    let found = all(&pods, &namespaces, &[Arc::new(binding("one", true, OLDER))], INSTALLATION);
    assert_eq!(found.len(), 5);
    let names: Vec<_> = chosen(found.iter(), &pods, &History::default(), &BTreeMap::new())
        .into_iter()
        .map(|found| found.pod.metadata.name.clone().unwrap())
        .collect();
    assert_eq!(names, ["a1", "b1"]);

    let many: Vec<_> = (0..30).map(|i| member("p", &format!("o{i}"), |_| {})).collect();
    let found = all(&many, &namespaces, &[], INSTALLATION);
    assert_eq!(chosen(found.iter(), &many, &History::default(), &BTreeMap::new()).len(), EVICTIONS_A_PASS);
}

/// A pod of controller `owner`, whose name is its UID.
fn member(uid: &str, owner: &str, served: bool) -> Arc<Pod> {
    pod(|pod| {
        asking("true")(pod);
        (pod["metadata"]["name"], pod["metadata"]["uid"]) = (json!(uid), json!(uid));
        pod["metadata"]["ownerReferences"][0]["uid"] = json!(owner);
        if served {
            pod["metadata"]["annotations"] = json!({"kustody.dev/injected": "{}"});
            pod["spec"]["initContainers"] = json!([{"name": "kustody-agent"}]);
        }
    })
}

/// Who is evicted next, and what is made of the first that was found.
fn next(history: &History, pods: &[Arc<Pod>]) -> (Vec<String>, Option<Sequel>, Verdict) {
    let found = all(pods, &[namespace("vision", None)], &[Arc::new(binding("one", true, OLDER))], INSTALLATION);
    let sequels = history.sequels(&found, pods);
    let sequel = sequels.get("a").copied();
    let verdict = judge(PodsWithoutSecrets::Evict, &found[0], &Owner::Replaces).after(sequel);
    let evictable = found.iter().filter(|_| matches!(verdict, Verdict::Evict));
    let names = chosen(evictable, pods, history, &sequels).into_iter().map(|found| found.pod.uid().unwrap()).collect();
    (names, sequel, verdict)
}

#[test]
fn a_controller_loses_the_next_pod_only_when_the_one_in_the_place_of_the_last_is_served_and_ready() {
    let before = [member("1", "a", false), member("2", "a", false), member("3", "a", true)];
    let mut history = History::default();
    history.begin(&before[0], &before, Instant::now());
    assert_eq!(next(&history, &before).1, None, "nobody answered, and the pod is still there");
    history.done(&before[0]);
    assert_eq!(next(&history, &before), (vec![], Some(Sequel::Awaited), Verdict::Evict));
    // Refused, or not made yet: without this the workload would be emptied.
    assert_eq!(next(&history, &before[1..]), (vec![], Some(Sequel::Awaited), Verdict::Evict));
    let unready = pod(|pod| {
        *pod = serde_json::to_value(&*member("4", "a", true)).unwrap();
        pod["spec"]["initContainers"] = json!([{"name": "kustody-agent"}]);
        pod["status"]["conditions"] = json!([]);
    });
    assert_eq!(next(&history, &[Arc::clone(&before[1]), unready]).1, Some(Sequel::Awaited));
    let after = [Arc::clone(&before[1]), member("4", "a", true)];
    assert_eq!(next(&history, &after), (vec!["2".to_owned()], Some(Sequel::Served), Verdict::Evict));
    history.begin(&after[0], &after, Instant::now());
    history.done(&after[0]);
    assert_eq!(next(&history, &after).1, Some(Sequel::Awaited), "one pod in place of each");
}

#[test]
fn an_eviction_that_nobody_answered_counts_once_its_pod_is_gone() {
    let before = [member("1", "a", false), member("2", "a", false)];
    let mut history = History::default();
    history.begin(&before[0], &before, Instant::now());
    assert_eq!(next(&history, &before[1..]), (vec![], Some(Sequel::Awaited), Verdict::Evict));
}

#[test]
fn nothing_more_is_evicted_when_the_pod_in_its_place_lacks_its_secrets_as_well() {
    let before = [member("1", "a", false), member("2", "a", false)];
    let mut history = History::default();
    history.begin(&before[0], &before, Instant::now());
    history.done(&before[0]);
    let after = [Arc::clone(&before[1]), member("3", "a", false), member("4", "a", true)];
    let (names, sequel, verdict) = next(&history, &after);
    assert_eq!((names, sequel, verdict), (vec![], Some(Sequel::Again), Verdict::Report(Because::Again)));
    let found = of(&after[1], None, &[binding("one", true, OLDER)]).unwrap();
    let told = note(&found, &Owner::Replaces, verdict);
    assert!(told.contains("restart the workload") && told.contains("has no agent either") && told.len() < 1000, "{told}");
    let mended = [Arc::clone(&before[1]), member("4", "a", true)];
    assert_eq!(next(&history, &mended).0, ["2"], "what was mended goes on");
}

#[test]
fn those_whom_a_disruption_budget_refuses_go_behind_the_others() {
    let pods: Vec<_> = (0..25).map(|i| member(&format!("p{i}"), &format!("o{i}"), false)).collect();
    let mut history = History::default();
    let mut turns = Vec::new();
    for _ in 0..3 {
        for uid in next(&history, &pods).0 {
            history.begin(pods.iter().find(|pod| pod.uid().as_ref() == Some(&uid)).unwrap(), &pods, Instant::now());
            turns.push(uid);
        }
    }
    assert_eq!(turns.len(), 3 * EVICTIONS_A_PASS);
    turns.truncate(25);
    turns.sort();
    turns.dedup();
    assert_eq!(turns.len(), 25, "each has its turn before any has a second");
}

#[test]
fn a_controller_is_remembered_while_it_has_pods_and_an_hour_longer() {
    let before = [member("1", "a", false)];
    let (mut history, now) = (History::default(), Instant::now());
    history.begin(&before[0], &before, now);
    history.done(&before[0]);
    let waits = |history: &History| history.sequels(&[], &[]).get("a").copied();
    history.forget(&[], &before, now + Duration::from_hours(2));
    history.forget(&[], &[], now + Duration::from_mins(59));
    assert_eq!(waits(&history), Some(Sequel::Awaited));
    history.forget(&[], &[], now + Duration::from_hours(1));
    assert_eq!(waits(&history), None);
}

#[test]
fn a_controller_that_makes_no_pod_in_place_of_the_evicted_one_is_waited_for_an_hour() {
    let before = [member("1", "a", false), member("2", "a", false)];
    let (mut history, now) = (History::default(), Instant::now());
    history.begin(&before[0], &before, now);
    history.done(&before[0]);
    let hours = |hours: u64| now + Duration::from_hours(hours);
    history.forget(&[], &before, hours(5));
    // An autoscaler wanted one pod less: nothing comes.
    history.forget(&[], &before[1..], hours(6));
    assert_eq!(next(&history, &before[1..]).1, Some(Sequel::Awaited));
    // One that is not ready yet is waited for, however long.
    let unready = pod(|pod| {
        *pod = serde_json::to_value(&*member("3", "a", true)).unwrap();
        pod["spec"]["initContainers"] = json!([{"name": "kustody-agent"}]);
        pod["status"]["conditions"] = json!([]);
    });
    let replaced = [Arc::clone(&before[1]), unready];
    history.forget(&[], &replaced, hours(9));
    assert_eq!(next(&history, &replaced).1, Some(Sequel::Awaited));
    history.forget(&[], &before[1..], hours(9));
    assert_eq!(next(&history, &before[1..]), (vec!["2".to_owned()], None, Verdict::Evict));
}

/// Evicts a pod against an API server that answers with `code`; answers with the outcome and what was sent.
async fn evicted(code: u16, reason: &str) -> (Evicted, String, Value) {
    let seen: Arc<Mutex<Option<(String, Value)>>> = Arc::default();
    let log = Arc::clone(&seen);
    let status = if code < 300 { "Success" } else { "Failure" };
    let answer = json!({"kind": "Status", "apiVersion": "v1", "status": status, "code": code, "reason": reason, "message": reason});
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, answer) = (Arc::clone(&log), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            *log.lock().unwrap() = Some((parts.uri.path().to_owned(), body));
            Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    let outcome = evict(&Client::new(service, "default"), &pod(|_| {})).await;
    let (path, body) = seen.lock().unwrap().take().unwrap();
    (outcome, path, body)
}

#[tokio::test]
async fn an_eviction_names_the_uid_and_every_answer_has_its_outcome() {
    let (outcome, path, body) = evicted(201, "").await;
    assert!(matches!(outcome, Evicted::Done));
    assert_eq!(path, "/api/v1/namespaces/vision/pods/p/eviction");
    assert_eq!(body["deleteOptions"]["preconditions"]["uid"], "u", "{body}");
    for (code, reason, label) in
        [(429, "TooManyRequests", "not-now"), (404, "NotFound", "gone"), (409, "Conflict", "gone"), (403, "Forbidden", "failed")]
    {
        assert_eq!(evicted(code, reason).await.0.label(), label, "{reason}");
    }
}

#[test]
fn an_owner_that_does_not_control_the_pod_is_none() {
    assert_eq!(owner(&pod(|pod| pod["metadata"]["ownerReferences"] = json!([])), None), Owner::Nobody);
}
