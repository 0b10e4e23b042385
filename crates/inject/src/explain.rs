//! Why a pod is given what it is given: the webhook's decision, and the part that each binding of the namespace has in it.

use std::sync::Arc;

use kustody_api::names::INJECT_LABEL;
use kustody_core::wire::Plan;

use crate::ask::{self, Asking};
use crate::binding::Binding;
use crate::decide::{self, Decision, decide};
use crate::facts::{Config, Facts};
use crate::plan::promise;
use crate::targets;
use crate::view::Pod;

/// A decision and its reasons.
#[derive(Debug)]
pub struct Explanation {
    /// How the pod asks, or why it does not.
    pub asking: String,
    /// The service account: the identity that values are released to.
    pub account: String,
    /// Whether the pod carries the plan of an earlier admission.
    pub admitted: bool,
    /// What is promised to the pod: by the earlier admission, else by one at this moment.
    pub plan: Option<Plan>,
    /// What [`decide`] says of the pod as it is.
    pub decision: Decision,
    /// Every binding of the namespace, in order of name.
    pub bindings: Vec<Considered>,
}

/// A binding that was held against the pod.
#[derive(Debug)]
pub struct Considered {
    /// The binding.
    pub binding: Arc<Binding>,
    /// The containers that it serves; or why it does not serve the pod.
    pub verdict: Result<Vec<String>, String>,
}

/// Explains what [`decide`] decides about the pod.
///
/// The bindings whose verdict is `Ok` are those that the decision names, whenever it injects.
pub fn explain(pod: &Pod<'_>, namespace: &str, facts: &Facts, config: &Config) -> Explanation {
    let asking = ask::asking(pod, namespace, facts, config);
    let pinned = decide::earlier(pod).ok().flatten();
    let decision = decide(pod, namespace, facts, config);
    let bindings = facts
        .bindings
        .iter()
        .map(|binding| Considered { binding: Arc::clone(binding), verdict: verdict(binding, pod, asking, pinned.as_ref()) })
        .collect();
    Explanation {
        asking: told(asking, pod),
        account: ask::account(pod).to_owned(),
        admitted: pinned.is_some(),
        plan: pinned.or_else(|| promised(&decision, pod, facts)),
        decision,
        bindings,
    }
}

fn verdict(binding: &Binding, pod: &Pod<'_>, asking: Asking<'_>, pinned: Option<&Plan>) -> Result<Vec<String>, String> {
    if let Some(why) = ask::misfit(binding, pod, ask::account(pod)) {
        return Err(why);
    }
    match (asking, pinned) {
        (Asking::No(why), _) => return Err(format!("it fits, but the pod does not ask: {why}")),
        // What was promised stands, and nothing is added to it.
        (_, Some(plan)) => match plan.bindings.iter().find(|planned| planned.name == binding.name) {
            Some(planned) if planned.uid == binding.uid => {}
            Some(_) => return Err("it was made anew since the pod was admitted; create the pod anew".to_owned()),
            None => return Err("it fits, but did not when the pod was admitted; create the pod anew".to_owned()),
        },
        (Asking::One(name), None) if name != binding.name => {
            return Err(format!("it fits, but the pod asks for SecretBinding {name} alone (label {INJECT_LABEL})"));
        }
        (_, None) => {
            if let Some(why) = ask::unready(binding) {
                return Err(why);
            }
        }
    }
    let name = |at: &targets::At| (*at.of(&pod.spec).name).to_owned();
    let told = format!("SecretBinding {}: ", binding.name);
    match targets::of(binding, pod) {
        Ok(targets) => Ok(targets.iter().map(name).collect()),
        Err(why) => Err(why.strip_prefix(&told).unwrap_or(&why).to_owned()),
    }
}

/// The plan that the decision would pin.
fn promised(decision: &Decision, pod: &Pod<'_>, facts: &Facts) -> Option<Plan> {
    let Decision::Inject { bindings: names, .. } = decision else { return None };
    let bindings: Vec<_> = names.iter().filter_map(|name| facts.bindings.named(name)).cloned().collect();
    serde_json::from_str(&promise(pod, &bindings, facts).ok()?.plan).ok()
}

fn told(asking: Asking<'_>, pod: &Pod<'_>) -> String {
    match asking {
        Asking::No(why) => format!("no: {why}"),
        Asking::One(name) => format!("for SecretBinding {name}, by the pod's label {INJECT_LABEL}"),
        Asking::Any if pod.metadata.label(INJECT_LABEL).is_some() => {
            format!("for every SecretBinding that fits, by the pod's label {INJECT_LABEL}")
        }
        Asking::Any => format!("for every SecretBinding that fits: its namespace is labelled {INJECT_LABEL}: required"),
        Asking::Offered => format!("not by itself: its namespace offers all its pods ({INJECT_LABEL}: enabled)"),
    }
}
