//! A value's way into a pod.

use serde_json::json;

use crate::harness::canary::{canary, digest};
use crate::harness::home::Home;
use crate::harness::{apply, objects};

#[test]
fn a_pod_that_asks_has_its_secret_as_a_file_and_as_a_variable() {
    let home = Home::new("delivery");
    let value = canary();
    home.key();
    home.binding(&value);
    apply(&objects::pod(&home.name, "train", objects::PRINT_DIGESTS)).good();
    let pod = home.pod("train");
    assert_eq!(pod["status"]["phase"], "Succeeded", "{}", pod["status"]);
    let expected = digest(&value);
    assert_eq!(home.logs("train", "main"), format!("{expected}\n{expected}\n"));
}

#[test]
fn a_variable_composes_in_the_container_s_own_entries() {
    let home = Home::new("compose");
    let value = canary();
    home.key();
    home.binding(&value);
    let mut pod = objects::pod(&home.name, "train", "printf %s \"$URL\" | sha256sum | cut -d' ' -f1");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "URL", "value": "postgres://u:$(TOKEN)@db/x"}]);
    apply(&pod).good();
    home.pod("train");
    assert_eq!(home.logs("train", "main").trim(), digest(&format!("postgres://u:{value}@db/x")));
}

#[test]
fn a_file_has_the_mode_that_is_asked_for_where_the_containers_name_one_user() {
    let home = Home::new("mode");
    home.key();
    let sealed = home.seal("trainer", "token", &canary());
    let mut binding = objects::binding(&home.name, "trainer", &sealed);
    binding["spec"]["deliver"] =
        json!({"files": [{"secret": "token", "path": "deep/token", "mode": 256}, {"secret": "token", "path": "plain"}]});
    apply(&binding).good();
    home.ready("secretbinding", "trainer");
    let script = "cd /var/run/secrets/kustody.dev/trainer && stat -Lc '%a %u' deep/token plain && ! touch new 2>/dev/null && ! touch deep/token 2>/dev/null";
    apply(&objects::pod(&home.name, "train", script)).good();
    let pod = home.pod("train");
    assert_eq!(pod["status"]["phase"], "Succeeded", "{}", pod["status"]);
    assert_eq!(home.logs("train", "main"), "400 1000\n400 1000\n");
}

#[test]
fn a_mode_that_cannot_be_had_is_refused_when_the_pod_is_created() {
    let home = Home::new("nomode");
    home.key();
    let sealed = home.seal("trainer", "token", &canary());
    let mut binding = objects::binding(&home.name, "trainer", &sealed);
    binding["spec"]["deliver"] = json!({"files": [{"secret": "token", "path": "token", "mode": 256}]});
    apply(&binding).good();
    home.ready("secretbinding", "trainer");
    let mut pod = objects::pod(&home.name, "train", "true");
    pod["spec"]["containers"][0]["securityContext"] = json!({});
    let refusal = apply(&pod).refused();
    assert!(refusal.contains("runAsUser") && refusal.contains("token"), "{refusal}");
}

#[test]
fn members_of_a_json_value_arrive_each_by_its_name() {
    let home = Home::new("property");
    home.key();
    let (user, password) = (canary(), canary());
    let sealed = home.seal("trainer", "db", &json!({"user": user, "password": password}).to_string());
    let mut binding = objects::binding(&home.name, "trainer", &sealed);
    binding["spec"]["secrets"] = json!([{"name": "db", "sealed": {"key": "team-key", "value": sealed}}]);
    binding["spec"]["deliver"] = json!({
        "files": [{"secret": "db", "property": "user", "path": "user"}],
        "env": [{"secret": "db", "property": "password", "name": "DB_PASSWORD"}],
    });
    apply(&binding).good();
    home.ready("secretbinding", "trainer");
    let script =
        "sha256sum < /var/run/secrets/kustody.dev/trainer/user | cut -d' ' -f1; printf %s \"$DB_PASSWORD\" | sha256sum | cut -d' ' -f1";
    apply(&objects::pod(&home.name, "train", script)).good();
    home.pod("train");
    assert_eq!(home.logs("train", "main"), format!("{}\n{}\n", digest(&user), digest(&password)));
}

#[test]
fn an_agent_that_cannot_have_everything_ends_with_a_message_that_names_the_cause() {
    let home = Home::new("withdrawn");
    home.key();
    home.binding(&canary());
    // The pod waits for a node that is not there, and loses its grant meanwhile.
    let mut pod = objects::pod(&home.name, "train", "true");
    pod["spec"]["schedulingGates"] = json!([{"name": "kustody.dev/e2e"}]);
    apply(&pod).good();
    let mut key = objects::key(&home.name, "team-key");
    key["spec"]["grants"] = json!([]);
    apply(&key).good();
    home.not_ready("secretbinding", "trainer", "NotGranted");
    home.kubectl(&["patch", "pod", "train", "--type=json", "-p", r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#]).good();
    let message = crate::harness::within(std::time::Duration::from_mins(4), "the agent to give up", || {
        let pod = home.get("pod", "train");
        let agent = &pod["status"]["initContainerStatuses"][0];
        let ended = [&agent["state"]["terminated"]["message"], &agent["lastState"]["terminated"]["message"]];
        ended.iter().find_map(|message| message.as_str().map(str::to_owned)).ok_or_else(|| pod["status"].to_string())
    });
    for part in ["team-key", "grant", "trainer"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn what_was_sealed_again_reaches_the_next_pod() {
    let home = Home::new("again");
    home.key();
    home.binding(&canary());
    let next = canary();
    let sealed = home.seal("trainer", "token", &next);
    apply(&objects::binding(&home.name, "trainer", &sealed)).good();
    home.ready("secretbinding", "trainer");
    apply(&objects::pod(&home.name, "train", objects::PRINT_DIGESTS)).good();
    home.pod("train");
    let expected = digest(&next);
    assert_eq!(home.logs("train", "main"), format!("{expected}\n{expected}\n"));
}
