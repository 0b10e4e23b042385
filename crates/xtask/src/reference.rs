//! One page for each kind, from its schema: the field docs are the manual.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// The page.
pub(crate) fn kind(crd: &CustomResourceDefinition) -> String {
    let names = &crd.spec.names;
    let version = &crd.spec.versions[0];
    let mut text = format!("# {}\n\n", names.kind);
    let Some(schema) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) else { return text };
    let _ = writeln!(
        text,
        "`{}/{}`, {}. {}\n\nGenerated from `crates/api`; `kubectl explain {}` says the same.",
        crd.spec.group,
        version.name,
        if crd.spec.scope == "Namespaced" { "in a namespace" } else { "for the whole cluster" },
        schema.description.as_deref().unwrap_or_default(),
        names.plural
    );
    for part in ["spec", "status"] {
        let Some(found) = schema.properties.as_ref().and_then(|properties| properties.get(part)) else { continue };
        let _ = write!(text, "\n## {part}\n\n| field | type | |\n|---|---|---|\n");
        fields(&mut text, part, found);
        let mut rules = Vec::new();
        refusals(&mut rules, found);
        if !rules.is_empty() {
            text.push_str("\nRefused, with these messages:\n\n");
            for rule in rules {
                let _ = writeln!(text, "- {rule}");
            }
        }
    }
    text
}

fn fields(text: &mut String, path: &str, schema: &JSONSchemaProps) {
    let required = schema.required.clone().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let (kind, inner) = kind_of(field);
        let needed = if required.contains(name) { "**required.** " } else { "" };
        let path = if kind.starts_with("list") && inner.properties.is_some() { format!("{path}[]") } else { path };
        let _ = writeln!(
            text,
            "| `{path}` | {kind} | {needed}{} |",
            field.description.as_deref().unwrap_or_default().replace('|', "\\|").replace('\n', " ")
        );
        // A label selector and a condition are Kubernetes' own and described there.
        if name != "conditions" && !path.ends_with("elector") && name != "namespaces" {
            fields(text, &path, inner);
        }
    }
}

fn kind_of(field: &JSONSchemaProps) -> (String, &JSONSchemaProps) {
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
        return (format!("list of {}", items.type_.as_deref().unwrap_or("any")), items);
    }
    if let Some(values) = &field.enum_ {
        let names: Vec<String> = values.iter().filter_map(|value| value.0.as_str()).map(|name| format!("`{name}`")).collect();
        return (names.join(", "), field);
    }
    (field.type_.clone().unwrap_or_else(|| "any".to_owned()), field)
}

fn refusals(rules: &mut Vec<String>, schema: &JSONSchemaProps) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        if let Some(message) = &rule.message
            && !rules.contains(message)
        {
            rules.push(message.clone());
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        refusals(rules, items);
    }
    schema.properties.iter().flatten().for_each(|(_, field)| refusals(rules, field));
}
