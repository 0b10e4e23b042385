//! A namespace of ten thousand bindings: the right one serves, and a denial stays short.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{answer, asking, binding, denial, facts, request};
use serde_json::{Value, json};

const MANY: usize = 10_000;
/// What clients and events show of a denial.
const SHORT: usize = 1910;

/// Many bindings, each of another name, as `change` makes them.
fn many(review: &Value, count: usize, change: impl Fn(usize, &mut Value)) -> Vec<Value> {
    let of = |number: usize| {
        let mut one = binding(review);
        one["metadata"]["name"] = json!(format!("b{number:05}"));
        one["spec"]["deliver"]["env"] = json!([]);
        change(number, &mut one);
        one
    };
    (0..count).map(of).collect()
}

#[test]
fn of_ten_thousand_bindings_that_do_not_fit_a_denial_names_five_and_counts_the_rest() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let strangers = facts(&many(&review, MANY, |number, one| one["spec"]["workloads"]["serviceAccounts"] = json!([format!("a{number}")])));
    let why = denial(&review, &strangers);
    assert_eq!(why.matches("SecretBinding b").count(), 5, "{why}");
    assert!(why.contains("SecretBinding b00000: its workloads.serviceAccounts do not name service account default"), "{why}");
    assert!(why.ends_with("; and 9995 more") && why.len() < SHORT, "{why}");

    let why = denial(&asking(review, "nowhere"), &strangers);
    assert!(why.contains("SecretBinding nowhere does not exist in namespace") && why.len() < 300, "{why}");
}

#[test]
fn of_ten_thousand_bindings_the_one_that_fits_serves() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let account = |number: usize| if number == 7654 { "default".to_owned() } else { format!("a{number}") };
    let one = facts(&many(&review, MANY, |number, one| one["spec"]["workloads"]["serviceAccounts"] = json!([account(number)])));
    let body: Value = serde_json::from_slice(&answer(&review, &one).body).unwrap();
    assert_eq!(body["response"]["auditAnnotations"]["bindings"], "b07654");
}

#[test]
fn of_ten_thousand_bindings_that_fit_a_denial_names_what_is_wrong_with_them() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let why = denial(
        &review,
        &facts(&many(&review, MANY, |number, one| {
            if number == 9999 {
                one["status"] = json!({});
            }
        })),
    );
    assert!(why.contains("SecretBinding b09999: it is not ready: the controller has not looked at it yet"), "{why}");

    let why = denial(&review, &facts(&many(&review, MANY, |_, _| ())));
    assert!(why.contains("at most 98304 can be pinned; let fewer bindings serve it") && why.len() < SHORT, "{why}");

    let variable = |number: usize| json!([{"secret": "hf", "name": if number < 9999 { format!("V{number}") } else { "V1234".to_owned() }}]);
    let why = denial(&review, &facts(&many(&review, MANY, |number, one| one["spec"]["deliver"]["env"] = variable(number))));
    assert!(why.contains("SecretBindings b01234 and b09999 both fill variable V1234 of container ") && why.len() < SHORT, "{why}");
}

#[test]
fn very_many_variables_are_compared_within_the_patience_of_the_api_server() {
    let review = asking(request("kubernetes/cronjob"), "true");
    let variables = |number: usize| (0..64).map(|i| json!({"secret": "hf", "name": format!("A_LONG_NAME_{number}_{i}")})).collect();
    let known = facts(&many(&review, 2000, |number, one| one["spec"]["deliver"]["env"] = variables(number)));
    let began = std::time::Instant::now();
    let why = denial(&review, &known);
    assert!(why.contains("at most 98304 can be pinned"), "{why}");
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}
