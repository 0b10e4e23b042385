//! The policy of the chart that refuses an asking pod without our mark, as the API server evaluates it.

#![allow(clippy::unwrap_used, reason = "a test panics when a sentence is not true")]

use kube::core::cel::{AdmissionRequest, VapEvaluator, VapExpression};
use serde_json::{Value, json};

/// The folded text of one field of the template, with its few values filled in.
fn field(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/kustody/templates/validatingadmissionpolicy.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let start = format!("    {name}: >-\n");
    let lines = text.split(&start).nth(1).unwrap().lines().take_while(|line| line.starts_with("      "));
    let folded = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    folded.replace("{{ $name }}", "kustody").replace("{{ .Release.Namespace }}", "kustody-system")
}

/// What the policy asks of a pod; the standby's webhooks are called for every other.
fn admitted() -> String {
    let read =
        |file: &str| std::fs::read_to_string(format!("{}/../../charts/kustody/templates/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let helpers = read("_helpers.tpl");
    assert!(read("validatingadmissionpolicy.yaml").contains(r#"expression: "{{ include "kustody.admitted" $ }}""#));
    assert!(read("mutatingwebhookconfiguration.yaml").contains(r#"expression: "!({{ include "kustody.admitted" $ }})""#));
    let start = "{{- define \"kustody.admitted\" -}}\n";
    helpers.split(start).nth(1).unwrap().lines().next().unwrap().to_owned()
}

/// Whether the pod is let in, and what is said if it is not.
fn judged(pod: Value) -> (bool, Option<String>) {
    // Without a schema this evaluator takes an annotation for a field, whose name CEL escapes; the API server knows it for a key.
    let expression = admitted().replace("kustody.dev/injected", "kustody__dot__dev__slash__injected");
    let request = AdmissionRequest { operation: "CREATE".to_owned(), namespace: "vision".to_owned(), ..AdmissionRequest::default() };
    let rule = VapExpression { expression, message: Some(field("message")), message_expression: Some(field("messageExpression")) };
    let result = VapEvaluator::builder().object(pod).request(request).build().evaluate(&[rule]).remove(0);
    (result.passed, result.message)
}

#[test]
fn a_pod_with_annotation_and_agent_is_let_in() {
    let pod = json!({
        "metadata": {"name": "train", "annotations": {"kustody.dev/injected": "{}"}},
        "spec": {"initContainers": [{"name": "first"}, {"name": "kustody-agent"}], "containers": [{"name": "main"}]},
    });
    assert_eq!(judged(pod), (true, None));
}

#[test]
fn a_pod_that_lacks_annotation_or_agent_is_refused_with_object_rule_and_remedy() {
    let marked = json!({"kustody.dev/injected": "{}"});
    let agent = json!([{"name": "kustody-agent"}]);
    for pod in [
        json!({"metadata": {"name": "train"}, "spec": {}}),
        json!({"metadata": {"name": "train", "annotations": {}}, "spec": {"initContainers": agent}}),
        json!({"metadata": {"name": "train", "annotations": marked}, "spec": {}}),
        json!({"metadata": {"name": "train", "annotations": marked}, "spec": {"initContainers": [{"name": "kustody-agent-2"}]}}),
        // An agent that does not run first is none.
        json!({"metadata": {"name": "train", "annotations": marked}, "spec": {"containers": [{"name": "kustody-agent"}]}}),
    ] {
        let (passed, message) = judged(pod);
        let message = message.unwrap();
        assert!(!passed);
        for part in ["pod train of namespace vision", "kustody.dev/inject", "init container kustody-agent", "zz-kustody", "kustody-webhook"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[test]
fn a_pod_whose_name_is_made_later_is_refused_as_well() {
    let (passed, message) = judged(json!({"metadata": {"generateName": "train-"}, "spec": {}}));
    assert!(!passed && message.unwrap().contains("without a name"));
}

#[test]
fn the_template_names_the_label_and_the_mark_of_the_code() {
    use kustody_api::names::{AGENT_CONTAINER, INJECT_LABEL, INJECTED_ANNOTATION};
    let rule = admitted();
    assert!(rule.contains(&format!("'{INJECTED_ANNOTATION}'")) && rule.contains(&format!("'{AGENT_CONTAINER}'")), "{rule}");
    assert!(field("messageExpression").contains(INJECT_LABEL));
}
