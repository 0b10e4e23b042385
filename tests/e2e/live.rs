//! What changes reaches pods that run, and disturbs none of them.

use serde_json::{Value, json};

use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{apply, eventually, objects, within};

/// A workload that ends when it is told to.
pub(crate) const RUN: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

/// Binding `trainer` with `update.mode: Live` that gives `value` as file `token` and variable `TOKEN`, ready.
pub(crate) fn bind(home: &Home, value: &str) -> Value {
    let mut binding = objects::binding(&home.name, "trainer", &home.seal("trainer", "token", value));
    binding["spec"]["update"] = json!({"mode": "Live"});
    apply(&binding).good();
    home.ready("secretbinding", "trainer")
}

/// Waits until every container of the pod runs.
pub(crate) fn running(home: &Home, pod: &str) -> Value {
    eventually(&format!("pod {pod} to run"), || {
        let pod = home.get("pod", pod);
        let ready = pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if ready { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
}

/// The digest of what `script` prints in the container.
fn seen(home: &Home, pod: &str, script: &str) -> String {
    home.kubectl(&["exec", pod, "-c", "main", "--", "/bin/sh", "-c", &format!("{script} | sha256sum | cut -d' ' -f1")])
        .good()
        .trim()
        .to_owned()
}

pub(crate) const FILE: &str = "cat /var/run/secrets/kustody.dev/trainer/token";
const VARIABLE: &str = "printf %s \"$TOKEN\"";

pub(crate) fn arrives(home: &Home, pod: &str, value: &str) {
    eventually("the new value to arrive", || {
        let found = seen(home, pod, FILE);
        if found == digest(value) { Ok(()) } else { Err(found) }
    });
}

/// No container of the pod was started twice, and it runs.
pub(crate) fn assert_undisturbed(home: &Home, pod: &str) {
    let pod = home.get("pod", pod);
    let statuses = ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|list| pod["status"][list].as_array().unwrap());
    for container in statuses {
        assert_eq!(container["restartCount"], 0, "{}", pod["status"]);
    }
    assert_eq!(pod["status"]["phase"], "Running", "{}", pod["status"]);
}

#[test]
fn a_value_that_is_sealed_again_reaches_the_file_of_a_running_pod_and_not_its_variable() {
    let home = Home::new("live");
    let (old, new) = (canary(), canary());
    home.key();
    bind(&home, &old);
    apply(&objects::pod(&home.name, "train", RUN)).good();
    running(&home, "train");
    assert_eq!(seen(&home, "train", FILE), digest(&old));
    bind(&home, &new);
    arrives(&home, "train", &new);
    assert_eq!(seen(&home, "train", VARIABLE), digest(&old), "a variable changes only when a container starts");
    assert_undisturbed(&home, "train");
    let log = home.logs("train", "kustody-watch");
    assert!(log.contains("\"message\":\"updated\"") && !log.contains(&new), "{log}");
}

#[test]
fn a_binding_s_status_says_how_many_pods_hold_its_newest_values() {
    let home = Home::new("liveheld");
    home.key();
    bind(&home, &canary());
    for name in ["one", "two"] {
        apply(&objects::pod(&home.name, name, RUN)).good();
        running(&home, name);
    }
    let held = |what: &str, before: &Value| {
        within(std::time::Duration::from_mins(2), what, || {
            let held = home.get("secretbinding", "trainer")["status"]["held"].clone();
            let newest = held["revisions"][0].clone();
            let all = held["pods"] == 2 && held["behind"] == 0 && newest["pods"] == 2 && newest["newest"] == true;
            if all && newest["revision"] != *before { Ok(newest["revision"].clone()) } else { Err(held.to_string()) }
        })
    };
    let first = held("both pods to be counted", &Value::Null);
    bind(&home, &canary());
    held("both pods to be counted with the new value", &first);
}

#[test]
fn a_running_pod_never_sees_files_of_two_states_side_by_side() {
    let home = Home::new("atomic");
    home.key();
    let put = |value: &str| {
        let mut binding = objects::binding(&home.name, "trainer", &home.seal("trainer", "token", value));
        binding["spec"]["update"] = json!({"mode": "Live"});
        binding["spec"]["deliver"] = json!({"files": [{"secret": "token", "path": "token"}, {"secret": "token", "path": "sub/b"}]});
        apply(&binding).good();
        home.ready("secretbinding", "trainer");
    };
    put(&canary());
    // As programs do that follow the kubelet's volumes: resolve once, read all; gone means replaced meanwhile. The names
    // themselves are there at every moment.
    let script = "trap 'exit 0' TERM; cd /var/run/secrets/kustody.dev/trainer; while :; do cat token sub/b > /dev/null || exit 2; \
        d=$(readlink ..data); a=$(cat $d/token 2>/dev/null) && b=$(cat $d/sub/b 2>/dev/null) && { test \"$a\" = \"$b\" || exit 1; }; \
        sleep 0.02; done";
    apply(&objects::pod(&home.name, "train", script)).good();
    running(&home, "train");
    for _ in 0..5 {
        let value = canary();
        put(&value);
        arrives(&home, "train", &value);
    }
    assert_undisturbed(&home, "train");
}

#[test]
fn a_job_with_the_live_sidecar_completes() {
    let home = Home::new("livejob");
    home.key();
    bind(&home, &canary());
    let mut spec = objects::pod_spec("test -s /var/run/secrets/kustody.dev/trainer/token");
    spec["terminationGracePeriodSeconds"] = json!(60);
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": home.name},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"kustody.dev/inject": "true"}}, "spec": spec}},
    });
    apply(&job).good();
    eventually("the Job to complete", || {
        let job = home.get("job", "train");
        if job["status"]["succeeded"] == 1 { Ok(()) } else { Err(job["status"].to_string()) }
    });
    let pods = crate::harness::get(&["-n", &home.name, "pods"]);
    let pod = &pods["items"][0];
    let watch = pod["status"]["initContainerStatuses"].as_array().unwrap().iter().find(|c| c["name"] == "kustody-watch").unwrap();
    assert_eq!((&pod["status"]["phase"], &watch["state"]["terminated"]["exitCode"]), (&json!("Succeeded"), &json!(0)), "{}", pod["status"]);
}

#[test]
fn a_pod_with_the_live_sidecar_ends_as_soon_as_its_workload_does() {
    let home = Home::new("liveend");
    home.key();
    bind(&home, &canary());
    let mut pod = objects::pod(&home.name, "train", RUN);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(120);
    apply(&pod).good();
    running(&home, "train");
    let started = std::time::Instant::now();
    home.kubectl(&["delete", "pod", "train", "--timeout=60s"]).good();
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn a_deleted_binding_leaves_its_pods_running_with_what_they_hold_and_the_sidecar_says_so() {
    let home = Home::new("livegone");
    let value = canary();
    home.key();
    bind(&home, &value);
    apply(&objects::pod(&home.name, "train", RUN)).good();
    running(&home, "train");
    home.kubectl(&["delete", "secretbinding", "trainer"]).good();
    within(std::time::Duration::from_mins(1), "the sidecar to say that it was withdrawn", || {
        let log = home.logs("train", "kustody-watch");
        if log.contains("withdrawn") && log.contains("does not exist any more") { Ok(()) } else { Err(log) }
    });
    assert_eq!(seen(&home, "train", FILE), digest(&value));
    assert_undisturbed(&home, "train");
}

#[test]
fn a_grant_that_is_taken_and_given_again_is_followed_by_what_changed_meanwhile() {
    let home = Home::new("livegrant");
    let (old, new) = (canary(), canary());
    let key = home.key();
    bind(&home, &old);
    apply(&objects::pod(&home.name, "train", RUN)).good();
    running(&home, "train");
    let grants = |grants: &Value| {
        let mut key = objects::key(&home.name, key["metadata"]["name"].as_str().unwrap());
        key["spec"]["grants"] = grants.clone();
        apply(&key).good();
    };
    grants(&json!([]));
    home.not_ready("secretbinding", "trainer", "NotGranted");
    let mut binding = objects::binding(&home.name, "trainer", &home.seal("trainer", "token", &new));
    binding["spec"]["update"] = json!({"mode": "Live"});
    apply(&binding).good();
    eventually("the sidecar to name the grant", || {
        let log = home.logs("train", "kustody-watch");
        if log.contains("withdrawn") && log.contains("no grant") { Ok(()) } else { Err(log) }
    });
    assert_eq!(seen(&home, "train", FILE), digest(&old), "what is withdrawn stays and is not updated");
    grants(&json!([{"serviceAccount": "trainer", "operations": ["Open"]}]));
    arrives(&home, "train", &new);
    assert_undisturbed(&home, "train");
}

#[test]
fn the_live_sidecar_passes_pod_security_restricted_and_keeps_the_class_of_service() {
    let home = Home::labelled("liveqos", &json!({"pod-security.kubernetes.io/enforce": "restricted"}));
    home.key();
    bind(&home, &canary());
    let mut pod = objects::pod(&home.name, "train", RUN);
    pod["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}});
    apply(&pod).good();
    let pod = running(&home, "train");
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    let names: Vec<_> = pod["spec"]["initContainers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kustody-agent", "kustody-watch"]);
}
