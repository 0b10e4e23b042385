//! Tests of the shared decisions, as tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Home, may_adopt, may_fill, may_open, sealed_for, usable};
use crate::{EncryptionKey, KeyProvider};

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("team".to_owned(), "vision".to_owned())])
}

fn provider(access: &Value) -> KeyProvider {
    let mut provider = KeyProvider::new("main", serde_json::from_value(json!({"local": {}, "access": access})).unwrap());
    provider.metadata.uid = Some("provider-uid".to_owned());
    provider
}

fn key(id: &str) -> EncryptionKey {
    let spec = json!({"providerRef": {"name": "main"}, "grants": [{"serviceAccount": "trainer", "operations": ["Open"]}]});
    let mut key = EncryptionKey::new("team-key", serde_json::from_value(spec).unwrap());
    let status =
        json!({"keyId": id, "providerUid": "provider-uid", "state": "Enabled", "sealingKeys": [{"version": 1, "publicKeySha256": "aa"}]});
    key.status = Some(serde_json::from_value(status).unwrap());
    key
}

fn line(rest: &Value) -> Value {
    let mut line = json!({"namespaces": {"matchLabels": {"team": "vision"}}});
    line.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!([line])
}

#[test]
fn a_key_is_used_only_while_access_still_allows_it() {
    let (labels, own, other) = (labels(), "vision/team-key/1", "alias/shared");
    let home = Home { name: "vision", labels: &labels };
    let other_team = json!([{"namespaces": {"matchLabels": {"team": "speech"}}, "createKeys": true}]);
    let adopt = |operation| line(&json!({"adopt": [{"ids": ["alias/shared"], "operations": [operation]}]}));
    for (id, access, allowed) in [
        (own, line(&json!({"createKeys": true})), true),
        (own, line(&json!({})), true),
        (own, json!([]), false),
        (own, other_team, false),
        (own, json!([{"namespaces": {"matchExpressions": [{"key": "team", "operator": "Odd"}]}}]), false),
        (other, line(&json!({"createKeys": true})), false),
        (other, adopt("Use"), true),
        (other, adopt("Rotate"), false),
    ] {
        assert_eq!(usable(&key(id), Some(&provider(&access)), home).is_ok(), allowed, "{id} {access}");
    }
    assert!(!may_adopt(&provider(&line(&json!({}))), home, own));
}

#[test]
fn a_key_that_is_not_enabled_or_of_another_provider_is_not_used() {
    let labels = labels();
    let home = Home { name: "vision", labels: &labels };
    let provider = provider(&line(&json!({"createKeys": true})));
    let id = "vision/team-key/1";
    assert_eq!(usable(&key(id), Some(&provider), home), Ok(id));
    let changed = |change: &dyn Fn(&mut crate::EncryptionKeyStatus)| {
        let mut key = key(id);
        change(key.status.as_mut().unwrap());
        usable(&key, Some(&provider), home).unwrap_err()
    };
    assert!(changed(&|status| status.key_id = None).contains("holds no key yet"));
    assert!(changed(&|status| status.state = None).contains("its key is unknown"));
    assert!(changed(&|status| status.state = Some(crate::encryption_key::KeyState::Disabled)).contains("Disabled"));
    assert!(changed(&|status| status.provider_uid = Some("other".to_owned())).contains("another KeyProvider of the name main"));
    assert!(changed(&|status| status.provider_uid = None).contains("another KeyProvider"));
    assert!(usable(&key(id), None, home).unwrap_err().contains("KeyProvider main does not exist"));
}

#[test]
fn a_key_that_is_disabled_in_its_spec_alone_is_not_used() {
    let labels = labels();
    let provider = provider(&line(&json!({"createKeys": true})));
    let mut key = key("vision/team-key/1");
    key.spec.desired_state = Some(crate::encryption_key::DesiredState::Disabled);
    assert_eq!(key.status.as_ref().unwrap().state, Some(crate::encryption_key::KeyState::Enabled), "the controller did not act on it");
    let refused = usable(&key, Some(&provider), Home { name: "vision", labels: &labels }).unwrap_err();
    assert!(refused.contains("spec.desiredState is Disabled; set it to Enabled"), "{refused}");
}

#[test]
fn a_grant_is_for_one_service_account() {
    assert!(may_open(&key("a/b"), "trainer"));
    assert!(!may_open(&key("a/b"), "default"));
}

#[test]
fn a_value_is_for_the_key_that_is_held_and_a_public_key_that_is_listed() {
    assert_eq!(sealed_for(&key("a/b"), "a/b", "aa"), Ok(()));
    assert!(sealed_for(&key("a/b"), "a/c", "aa").unwrap_err().contains("holds a/b"));
    assert!(sealed_for(&key("a/b"), "a/b", "bb").unwrap_err().contains("does not list"));
}

#[test]
fn a_refused_variable_is_filled_only_where_a_line_names_it() {
    let labels = labels();
    let home = Home { name: "vision", labels: &labels };
    let allowing = provider(&line(&json!({"allowVariables": ["https_proxy"]})));
    assert_eq!(may_fill("HF_TOKEN", None, home), Ok(()));
    assert_eq!(may_fill("HTTPS_PROXY", Some(&allowing), home), Ok(()));
    assert!(may_fill("LD_PRELOAD", Some(&allowing), home).unwrap_err().contains("KeyProvider main's spec.access"));
    assert!(may_fill("HTTPS_PROXY", None, home).is_err());
}
