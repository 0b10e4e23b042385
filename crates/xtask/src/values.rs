//! The chart's values: their comments are the documentation, their values the types; `@schema` in a comment adds to the schema.

use std::fmt::Write as _;
use std::io;

use serde_json::{Map, Value, json};

/// One value or one group of values.
pub(crate) struct Entry {
    path: Vec<String>,
    comment: String,
    extra: Option<Value>,
    value: Value,
}

/// Reads `values.yaml` with its comments.
pub(crate) fn parse(text: &str) -> io::Result<Vec<Entry>> {
    let all: Value = serde_saphyr::from_str(text).map_err(io::Error::other)?;
    let (mut entries, mut path, mut comment) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::new());
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = line.len() - trimmed.len();
        if let Some(remark) = trimmed.strip_prefix('#') {
            comment.push(remark.trim().to_owned());
            continue;
        }
        let Some((name, _)) = trimmed.split_once(':').filter(|_| !trimmed.starts_with('-')) else {
            comment.clear();
            continue;
        };
        path.retain(|(above, _)| *above < depth);
        path.push((depth, name.to_owned()));
        let names: Vec<String> = path.iter().map(|(_, name)| name.clone()).collect();
        let pointer = format!("/{}", names.join("/"));
        let value = all
            .pointer(&pointer)
            .cloned()
            .ok_or_else(|| io::Error::other(format!("values.yaml: {pointer} is not a value of its own line")))?;
        entries.push(entry(names, &std::mem::take(&mut comment), value)?);
    }
    Ok(entries)
}

fn entry(path: Vec<String>, comment: &[String], value: Value) -> io::Result<Entry> {
    let name = path.join(".");
    let extra = comment.iter().find_map(|line| line.strip_prefix("@schema ")).map(serde_json::from_str).transpose();
    let extra = extra.map_err(|error| io::Error::other(format!("values.yaml: @schema of {name}: {error}")))?;
    let comment = comment.iter().filter(|line| !line.starts_with("@schema ")).cloned().collect::<Vec<_>>().join(" ");
    if comment.is_empty() {
        return Err(io::Error::other(format!("values.yaml: {name} has no comment")));
    }
    Ok(Entry { path, comment, extra, value })
}

/// A strict schema: what it does not know is refused, so that a misspelt value does not pass in silence.
pub(crate) fn schema(entries: &[Entry]) -> io::Result<String> {
    let mut root = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": false, "properties": {}});
    for entry in entries {
        let mut node = &mut root;
        let Some((last, above)) = entry.path.split_last() else { continue };
        for name in above {
            node = &mut node["properties"][name.as_str()];
        }
        node["properties"][last.as_str()] = node_of(entry);
    }
    // Helm hands these to every chart.
    root["properties"]["global"] = json!({"type": "object", "description": "Helm's own."});
    Ok(serde_json::to_string_pretty(&root)? + "\n")
}

fn node_of(entry: &Entry) -> Value {
    let mut node = Map::new();
    node.insert("description".to_owned(), json!(entry.comment));
    let kind = match &entry.value {
        Value::Null => None,
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("integer"),
        Value::String(_) => Some("string"),
        Value::Array(_) => Some("array"),
        Value::Object(_) => Some("object"),
    };
    if let Some(kind) = kind {
        node.insert("type".to_owned(), json!(kind));
    }
    if entry.value.as_object().is_some_and(|members| !members.is_empty()) {
        node.insert("additionalProperties".to_owned(), json!(false));
        node.insert("properties".to_owned(), json!({}));
    }
    if let Some(Value::Object(extra)) = &entry.extra {
        node.extend(extra.clone());
    }
    Value::Object(node)
}

/// The values for people.
pub(crate) fn page(entries: &[Entry]) -> String {
    let mut text =
        String::from("# Values of the chart\n\nGenerated from `charts/kustody/values.yaml`.\n\n| value | default | |\n|---|---|---|\n");
    for entry in entries {
        let members = entry.value.as_object().is_some_and(|members| !members.is_empty());
        let default = if members { String::new() } else { format!("`{}`", entry.value) };
        let _ = writeln!(text, "| `{}` | {default} | {} |", entry.path.join("."), entry.comment.replace('|', "\\|"));
    }
    text
}
