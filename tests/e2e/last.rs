//! What a whole run of the other tests shows; `scripts/test.sh` runs these after them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};

use kustody::rbac::{ROLES, Role, Rule, Scope};
use serde_json::Value;

use crate::harness::{SYSTEM, cluster_directory};

/// What every service account may read without a rule of ours.
const DISCOVERY: [&str; 6] = ["/api", "/apis", "/version", "/openapi", "/openid/v1/jwks", "/.well-known/openid-configuration"];

/// Every file of the API server's audit log: a long run is rotated.
fn audit_logs() -> Vec<fs::File> {
    let files = fs::read_dir(cluster_directory().join("log")).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("audit") && path.extension().is_some());
    logs.map(|path| fs::File::open(path).unwrap()).collect()
}

/// Whether a rule covers a call, by the API server's own words for it.
fn covers(rule: &Rule, call: &Value, verb: &str) -> bool {
    let text = |field: &str| call[field].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    rule.group == text("apiGroup")
        && rule.resources.contains(&resource.as_str())
        && rule.verbs.contains(&verb)
        && (rule.names.is_empty() || rule.names.iter().any(|name| name.replace("{name}", "kustody") == text("name")))
        && (rule.scope == Scope::Cluster || text("namespace") == SYSTEM)
}

/// What is wrong with one event of the audit log.
fn wrong(role: &Role, event: &Value) -> Option<String> {
    let (verb, uri) = (event["verb"].as_str().unwrap_or_default(), event["requestURI"].as_str().unwrap_or_default());
    let forbidden = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
    let call = &event["objectRef"];
    let covered = if call["resource"].is_string() {
        role.rules.iter().any(|rule| covers(rule, call, verb))
    } else {
        let path = uri.split('?').next().unwrap_or_default();
        verb == "get" && DISCOVERY.iter().any(|known| path == *known || path.starts_with(&format!("{known}/")))
    };
    let why = if forbidden { "was forbidden" } else { "has no rule in src/rbac.rs" };
    (forbidden || !covered).then(|| format!("{}: {verb} {uri} {call}: {why}", role.name))
}

#[test]
fn each_role_called_only_what_its_rules_allow_and_was_never_forbidden() {
    let (mut seen, mut faults) = (0, BTreeSet::new());
    let mut callers: BTreeSet<&str> = BTreeSet::new();
    let prefix = format!("\"system:serviceaccount:{SYSTEM}:kustody-");
    for line in audit_logs().into_iter().flat_map(|file| BufReader::new(file).lines()) {
        let line = line.unwrap();
        // Most lines are those of others, and are not worth parsing.
        if !line.contains(&prefix) {
            continue;
        }
        // The last line may still be being written.
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let Some(role) = ROLES.iter().find(|role| user == format!("system:serviceaccount:{SYSTEM}:kustody-{}", role.name)) else {
            continue;
        };
        seen += 1;
        callers.insert(role.name);
        faults.extend(wrong(role, &event));
    }
    assert!(faults.is_empty(), "{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
    // Without calls the rest would prove nothing.
    assert!(seen > 100, "{seen} calls");
    assert_eq!(callers.len(), ROLES.len(), "{callers:?}");
}
