//! The chart's RBAC and its page, from `kustody::rbac`.

use std::fmt::Write as _;

use kustody::rbac::{PEOPLE, ROLES, Role, Rule, Scope};

const NAME: &str = "{{ include \"kustody.fullname\" . }}";
const LABELS: &str = "  labels: {{- include \"kustody.labels\" . | nindent 4 }}\n";

/// Service accounts, roles and bindings as one template.
pub(crate) fn template() -> String {
    let mut text = String::new();
    for role in ROLES {
        let account = format!("{NAME}-{}", role.name);
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {account}\n  namespace: {{{{ .Release.Namespace }}}}\n{LABELS}"
        );
        for (scope, kind) in [(Scope::Cluster, "ClusterRole"), (Scope::Installation, "Role")] {
            let rules: Vec<&Rule> = role.rules.iter().filter(|rule| rule.scope == scope).collect();
            if !rules.is_empty() {
                section(&mut text, role, kind, &rules);
            }
        }
    }
    text
}

fn section(text: &mut String, role: &Role, kind: &str, rules: &[&Rule]) {
    let account = format!("{NAME}-{}", role.name);
    let namespace = if kind == "Role" { "  namespace: {{ .Release.Namespace }}\n" } else { "" };
    let head = |kind: &str| {
        format!("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {account}\n{namespace}{LABELS}")
    };
    text.push_str(&head(kind));
    write_rules(text, rules.iter().copied());
    let _ = write!(
        text,
        "{}roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: '{account}'}}\nsubjects:\n- {{kind: ServiceAccount, name: '{account}', namespace: '{{{{ .Release.Namespace }}}}'}}\n",
        head(&format!("{kind}Binding"))
    );
}

fn write_rules<'a>(text: &mut String, rules: impl Iterator<Item = &'a Rule>) {
    text.push_str("rules:\n");
    for rule in rules {
        if let Some(when) = rule.when {
            let _ = writeln!(text, "{{{{- if eq .Values.{} {:?} }}}}", when.value, when.is);
        }
        let _ = writeln!(text, "# {}", rule.reason);
        let _ = writeln!(text, "- apiGroups: [{:?}]", rule.group);
        let _ = writeln!(text, "  resources: [{}]", rule.resources.join(", "));
        if !rule.names.is_empty() {
            let names: Vec<String> = rule.names.iter().map(|name| format!("'{}'", name.replace("{name}", NAME))).collect();
            let _ = writeln!(text, "  resourceNames: [{}]", names.join(", "));
        }
        let _ = writeln!(text, "  verbs: [{}]", rule.verbs.join(", "));
        if rule.when.is_some() {
            text.push_str("{{- end }}\n");
        }
    }
}

/// The roles that people are given, as one template.
pub(crate) fn people() -> String {
    let mut text = String::new();
    for person in PEOPLE {
        let _ = write!(
            text,
            "---\n# For {}.\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {NAME}-{}\n{LABELS}",
            person.who, person.name
        );
        if let Some(within) = person.within {
            let _ = writeln!(text, "    rbac.authorization.k8s.io/aggregate-to-{within}: \"true\"");
        }
        write_rules(&mut text, person.rules.iter());
    }
    text
}

/// All of it as a page.
pub(crate) fn page() -> String {
    let mut text = String::from("# Rights of each role\n\nGenerated from `src/rbac.rs`. NAME is the name of the installation.\n");
    for role in ROLES {
        let _ = write!(text, "\n## {}\n\n", role.name);
        table(&mut text, role.rules);
    }
    text.push_str("\n# Roles for people\n\nThe chart makes these ClusterRoles and binds none of them. What is part of `view` or `edit` is had by whoever has those.\n");
    for person in PEOPLE {
        let within = person.within.map(|within| format!(" Part of `{within}` by aggregation.")).unwrap_or_default();
        let _ = write!(text, "\n## NAME-{}\n\nFor {}.{within}\n\n", person.name, person.who);
        table(&mut text, person.rules);
    }
    text
}

fn table(text: &mut String, rules: &[Rule]) {
    text.push_str("| where | resources | verbs | what for |\n|---|---|---|---|\n");
    for rule in rules {
        let place = if rule.scope == Scope::Cluster { "cluster" } else { "its namespace" };
        let group = if rule.group.is_empty() { String::new() } else { format!(" ({})", rule.group) };
        let names =
            if rule.names.is_empty() { String::new() } else { format!(": `{}`", rule.names.join("`, `").replace("{name}", "NAME")) };
        let when = rule.when.map(|when| format!(" (where `{}` is `{}`)", when.value, when.is)).unwrap_or_default();
        let (resources, verbs) = (rule.resources.join(", "), rule.verbs.join(", "));
        let _ = writeln!(text, "| {place} | {resources}{group}{names} | {verbs} | {}{when} |", rule.reason);
    }
}
