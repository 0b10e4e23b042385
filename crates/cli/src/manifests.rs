//! Objects out of files: pods, what makes pods, and what admission looks at besides.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thiserror::Error;

/// Why files cannot be used.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("{from} cannot be read")]
    Read {
        from: String,
        #[source]
        source: io::Error,
    },
    #[error("{from} is neither YAML nor JSON{place}")]
    Syntax { from: String, place: String },
    #[error("{object} in {from} is not as the schema says")]
    Object {
        object: String,
        from: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "{from}: no Pod, and nothing whose pods are known (Job, CronJob, Deployment, StatefulSet, DaemonSet, ReplicaSet); of any other kind, take a pod that its controller made: kubectl get pod NAME -o yaml"
    )]
    NoPod { from: String },
    #[error(
        "{object} in {from}: the sealed value of spec.secrets[{secret}] does not stand in the file as one piece (it is folded, escaped or an anchor's), so it could not be replaced; write it on one line"
    )]
    NotAsWritten { object: String, from: String, secret: String },
    #[error("{pod} says namespace {found}, and --namespace says {wanted}; leave one of them out")]
    OtherNamespace { pod: String, found: String, wanted: String },
}

/// An object and the file that it came from.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) value: Value,
    pub(crate) from: String,
}

impl Object {
    /// Its kind.
    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its namespace, when it says one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty())
    }

    /// `Kind name`.
    pub(crate) fn title(&self) -> String {
        let metadata = &self.value["metadata"];
        let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or("without a name");
        format!("{} {name}", self.kind())
    }

    /// As a type of its kind.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_value(self.value.clone()).map_err(|source| Error::Object { object: self.title(), from: self.from.clone(), source })
    }
}

/// Every object of the files, in order; `-` is standard input.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Object>, Error> {
    let mut objects = Vec::new();
    for path in paths {
        let (from, text) = text(path)?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).map_err(|error| Error::Syntax { from: from.clone(), place: place(&error) })?;
        for document in documents {
            flatten(document, &from, &mut objects);
        }
    }
    Ok(objects)
}

fn text(path: &Path) -> Result<(String, String), Error> {
    let mut text = String::new();
    let (from, read) = if path == Path::new("-") {
        ("standard input".to_owned(), io::stdin().lock().read_to_string(&mut text).map(drop))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path).map(|found| text = found))
    };
    match read {
        Ok(()) => Ok((from, text)),
        Err(source) => Err(Error::Read { from, source }),
    }
}

/// Where a parser stopped; what it says besides quotes the file, which may hold values.
pub(crate) fn place(error: &serde_saphyr::Error) -> String {
    error.location().map_or_else(String::new, |at| format!(" (line {}, column {})", at.line(), at.column()))
}

/// `kubectl get -o yaml` of several objects is a List.
fn flatten(mut document: Value, from: &str, objects: &mut Vec<Object>) {
    if document["kind"] == "List" {
        if let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) {
            for item in items {
                flatten(item, from, objects);
            }
        }
    } else if document.is_object() {
        objects.push(Object { value: document, from: from.to_owned() });
    }
}

/// The pod that an object is, or that it makes.
pub(crate) fn pod(object: &Value) -> Option<Value> {
    let template = match object["kind"].as_str()? {
        "Pod" => return Some(object.clone()),
        "Job" | "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" => &object["spec"]["template"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    let mut metadata = template["metadata"].as_object().cloned().unwrap_or_default();
    if let Some(name) = object["metadata"]["name"].as_str() {
        metadata.insert("generateName".to_owned(), json!(format!("{name}-")));
    }
    if let Some(namespace) = object["metadata"].get("namespace") {
        metadata.insert("namespace".to_owned(), namespace.clone());
    }
    Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::pod;

    #[test]
    fn the_pod_of_whatever_makes_pods_has_its_labels_and_its_namespace() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
        for (kind, spec) in [
            ("Job", json!({"template": template})),
            ("Deployment", json!({"template": template})),
            ("CronJob", json!({"jobTemplate": {"spec": {"template": template}}})),
        ] {
            let object = json!({"kind": kind, "metadata": {"name": "train", "namespace": "vision"}, "spec": spec});
            let pod = pod(&object).unwrap();
            assert_eq!(pod["metadata"], json!({"labels": {"a": "b"}, "generateName": "train-", "namespace": "vision"}), "{kind}");
            assert_eq!(pod["spec"], json!({"containers": []}), "{kind}");
        }
    }

    #[test]
    fn what_makes_no_pod_has_none() {
        assert!(pod(&json!({"kind": "Service"})).is_none());
        assert!(pod(&json!({})).is_none());
    }
}
