//! Which pods ask, and which bindings serve them.

use std::fmt::Write as _;
use std::sync::Arc;

use kube::core::SelectorExt as _;
use kustody_api::names::{EXCLUDED_NAMESPACES, INJECT_LABEL};

use crate::binding::Binding;
use crate::facts::{Config, Facts};
use crate::view::Pod;

/// On pods that a kubelet made by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How many bindings a refusal speaks of.
const MENTIONED: usize = 5;

/// How a pod asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking<'a> {
    /// It does not; why not.
    No(&'static str),
    /// For every binding that fits.
    Any,
    /// For the binding of this name.
    One(&'a str),
    /// For what selects it, if anything does.
    Offered,
}

/// Reads the labels of pod and namespace.
pub fn asking<'a>(pod: &'a Pod<'_>, namespace: &str, facts: &Facts, config: &Config) -> Asking<'a> {
    if EXCLUDED_NAMESPACES.contains(&namespace) || namespace == config.namespace {
        return Asking::No("pods of this namespace never ask");
    }
    if pod.metadata.annotation(MIRROR).is_some() {
        return Asking::No("mirror pods never ask");
    }
    match (pod.metadata.label(INJECT_LABEL), facts.namespace_labels.get(INJECT_LABEL).map(String::as_str)) {
        (Some("false"), _) => Asking::No("the pod says false"),
        (Some("true"), _) | (None, Some("required")) => Asking::Any,
        (Some(name), _) => Asking::One(name),
        (None, Some("enabled")) => Asking::Offered,
        (None, _) => Asking::No("neither the pod nor its namespace asks"),
    }
}

/// The bindings that serve the pod, in order of name; none when it is left alone; or why it is denied.
pub fn serving(pod: &Pod<'_>, namespace: &str, asking: Asking<'_>, facts: &Facts) -> Result<Vec<Arc<Binding>>, String> {
    let account = account(pod);
    match asking {
        Asking::No(_) => Ok(Vec::new()),
        Asking::One(name) => {
            let Some(binding) = facts.bindings.named(name) else {
                return Err(format!(
                    "label {INJECT_LABEL}: SecretBinding {name} does not exist in namespace {namespace}; create it, correct the label, or set it to \"true\" for every binding that fits"
                ));
            };
            match misfit(binding, pod, account).or_else(|| unready(binding)) {
                None => Ok(vec![Arc::clone(binding)]),
                Some(why) => Err(format!("SecretBinding {name}: {why}")),
            }
        }
        Asking::Any | Asking::Offered => {
            let fits = |binding: &&Arc<Binding>| misfit(binding, pod, account).is_none();
            let fitting: Vec<_> = facts.bindings.of_account(account).filter(fits).cloned().collect();
            if fitting.is_empty() && asking == Asking::Any {
                return Err(nobody(pod, namespace, account, facts));
            }
            // One that is not ready yet would leave the pod without a part of its secrets, depending on who was faster.
            match fitting.iter().find_map(|binding| unready(binding).map(|why| format!("SecretBinding {}: {why}", binding.name))) {
                Some(why) => Err(why),
                None => Ok(fitting),
            }
        }
    }
}

/// The pod's service account.
pub fn account<'a>(pod: &'a Pod<'_>) -> &'a str {
    pod.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
}

/// Why a binding that fits cannot serve yet.
pub fn unready(binding: &Binding) -> Option<String> {
    binding.not_ready.as_ref().map(|why| format!("it is not ready: {why}"))
}

/// Why the binding does not serve a pod of this service account and these labels.
pub fn misfit(binding: &Binding, pod: &Pod<'_>, account: &str) -> Option<String> {
    if !binding.service_accounts.iter().any(|name| name == account) {
        return Some(format!("its workloads.serviceAccounts do not name service account {account}"));
    }
    let fits = match &binding.selector {
        None => true,
        Some(Err(())) => return Some("its workloads.podSelector cannot be read".to_owned()),
        Some(Ok(selector)) => {
            let labels = pod.metadata.labels.iter().flatten().map(|(name, value)| ((**name).to_owned(), (**value).to_owned())).collect();
            selector.matches(&labels)
        }
    };
    if fits { None } else { Some("its workloads.podSelector does not match the pod's labels".to_owned()) }
}

fn nobody(pod: &Pod<'_>, namespace: &str, account: &str, facts: &Facts) -> String {
    let mut text = format!(
        "the pod asks for secrets (label {INJECT_LABEL}), and no SecretBinding of namespace {namespace} fits it (service account {account})"
    );
    if facts.bindings.is_empty() {
        text.push_str(": there is none; create one whose workloads.serviceAccounts name the account");
    }
    for (i, binding) in facts.bindings.iter().take(MENTIONED).enumerate() {
        let why = misfit(binding, pod, account).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(text, "{}SecretBinding {}: {why}", if i == 0 { ": " } else { "; " }, binding.name);
    }
    if facts.bindings.len() > MENTIONED {
        let _ = write!(text, "; and {} more", facts.bindings.len() - MENTIONED);
    }
    text
}
