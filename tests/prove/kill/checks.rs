//! What must hold once everything is back.

use crate::harness::{SYSTEM, get, run, setting};

use super::operations::NAMESPACE;

pub fn one_key_each() {
    let keys = get(&["-n", NAMESPACE, "encryptionkeys"]);
    let records = get(&["-n", SYSTEM, "secrets", "-l", "kustody.dev/local-key=true"]);
    let mut ids: Vec<&str> = records["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|record| record["metadata"]["annotations"]["kustody.dev/key-id"].as_str())
        .collect();
    ids.retain(|id| id.starts_with(&format!("{NAMESPACE}/")));
    let mut held: Vec<&str> = keys["items"].as_array().unwrap().iter().map(|key| key["status"]["keyId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    held.sort_unstable();
    assert!(!held.is_empty());
    assert_eq!(ids, held);
}

/// Every pod that has its secrets has a record of their release, and the chain of all records is whole.
pub fn audited() {
    let claim = get(&["-n", SYSTEM, "pvc", "audit-kustody-broker-0"]);
    let volume = get(&["pv", claim["spec"]["volumeName"].as_str().unwrap()]);
    let directory = volume["spec"]["local"]["path"].as_str().unwrap().to_owned();
    let text =
        run(&setting("KUSTODY_ON_NODE"), &["sh", "-c", &format!("cat $(find {directory} -type f -name '*.jsonl' | sort)")], b"").good();
    kustody_core::audit::verify(None, text.lines()).expect("an unbroken chain");
    let pods = get(&["-n", NAMESPACE, "pods"]);
    for pod in pods["items"].as_array().unwrap() {
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        assert!(
            text.lines().any(|line| line.contains(uid) && line.contains("\"Release\"")),
            "no record of the release to {}",
            pod["metadata"]["name"]
        );
    }
}
