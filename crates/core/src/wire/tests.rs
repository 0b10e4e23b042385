//! What goes over the wire arrives as it was sent, and nothing else is taken for it.

use proptest::prelude::*;

use super::watch::{Known, Revision, WatchRequest};
use super::{FrameError, MAX_RELEASE, Plan, PlannedBinding, PlannedFile, PlannedVariable, Refusal, Release, ReleasedValue, Withdrawn};
use crate::secret::SecretBytes;

type Parts = (Vec<(String, String, Option<String>, Vec<u8>)>, Vec<Withdrawn>);

fn release(values: &[(String, String, Option<String>, Vec<u8>)], withdrawn: Vec<Withdrawn>) -> Release {
    let values = values.iter().map(|(binding, secret, property, value)| ReleasedValue {
        binding: binding.clone(),
        secret: secret.clone(),
        property: property.clone(),
        value: SecretBytes::new(value.clone()),
    });
    Release { values: values.collect(), withdrawn, revisions: Vec::new() }
}

fn parts(release: Release) -> Parts {
    let values = release.values.into_iter().map(|v| (v.binding, v.secret, v.property, v.value.expose().to_vec()));
    (values.collect(), release.withdrawn)
}

fn one(length: usize) -> Release {
    release(&[("b".into(), "s".into(), None, vec![1; length])], Vec::new())
}

#[test]
fn a_release_over_the_limit_is_neither_sent_nor_read() {
    let framing = one(0).encode().unwrap().len();
    assert_eq!(one(MAX_RELEASE - framing).encode().unwrap().len(), MAX_RELEASE);
    assert_eq!(one(MAX_RELEASE - framing + 1).encode().err(), Some(FrameError::TooLarge));
    assert_eq!(Release::decode(&vec![0; MAX_RELEASE + 1]).err(), Some(FrameError::TooLarge));
}

#[test]
fn a_release_is_encoded_without_growing_its_buffer() {
    let property = Some("p".to_owned());
    let bytes = release(&[("b".into(), "s".into(), property, vec![1; 100])], Vec::new()).encode().unwrap();
    assert_eq!(bytes.len(), bytes.capacity());
}

#[test]
fn a_release_of_another_version_is_refused() {
    let mut bytes = one(3).encode().unwrap();
    bytes[3] = b'3';
    assert_eq!(Release::decode(&bytes).err(), Some(FrameError::Malformed));
}

#[test]
fn revisions_travel_in_a_frame_of_their_own_and_without_them_the_frame_is_as_it_was() {
    let revision = Revision { binding: "b".into(), revision: "00ff".into() };
    let mut release = one(3);
    assert!(release.encode().unwrap().starts_with(b"KRL1"), "an agent of an earlier release reads it");
    release.revisions.push(revision.clone());
    let bytes = release.encode().unwrap();
    assert!(bytes.starts_with(b"KRL2") && bytes.len() == bytes.capacity());
    let read = Release::decode(&bytes).unwrap();
    assert_eq!(read.revisions, [revision]);
    assert_eq!(parts(read).0[0].3, [1; 3]);
}

#[test]
fn a_watch_with_a_field_of_a_later_version_is_understood_and_its_plan_is_not_widened() {
    let read = serde_json::from_str::<WatchRequest>;
    let watch =
        read(r#"{"plan": {"version": 1, "bindings": []}, "known": [{"binding": "b", "held": "r", "later": 1}], "later": 1}"#).unwrap();
    assert_eq!(watch.authorities, None);
    assert_eq!(watch.known, [Known { binding: "b".into(), seen: None, held: Some("r".into()) }]);
    assert!(read(r#"{"plan": {"version": 1, "bindings": [], "later": 1}}"#).is_err());
}

#[test]
fn a_plan_with_a_field_of_a_later_version_is_refused_and_not_half_understood() {
    assert!(serde_json::from_str::<Plan>(r#"{"version": 1, "bindings": []}"#).is_ok());
    assert!(serde_json::from_str::<Plan>(r#"{"version": 1, "bindings": [], "live": true}"#).is_err());
}

#[test]
fn a_refusal_is_written_in_camel_case() {
    let refusal = Refusal { reason: "NotGranted".into(), message: "m".into(), correlation_id: "c".into(), retry: false };
    let text = serde_json::to_string(&refusal).unwrap();
    assert_eq!(text, r#"{"reason":"NotGranted","message":"m","correlationId":"c","retry":false}"#);
}

prop_compose! {
    fn withdrawn()(binding: String, item: String, reason: String) -> Withdrawn {
        Withdrawn { binding, item, reason }
    }
}

prop_compose! {
    fn file()(path: String, secret: String, property: Option<String>, mode: u32) -> PlannedFile {
        PlannedFile { path, secret, property, mode }
    }
}

prop_compose! {
    fn variable()(name: String, secret: String, property: Option<String>) -> PlannedVariable {
        PlannedVariable { name, secret, property }
    }
}

prop_compose! {
    fn binding()(
        name: String, uid: String,
        files in prop::collection::vec(file(), 0..3), env in prop::collection::vec(variable(), 0..3),
    ) -> PlannedBinding {
        PlannedBinding { name, uid, files, env }
    }
}

fn values() -> impl Strategy<Value = Vec<(String, String, Option<String>, Vec<u8>)>> {
    prop::collection::vec((any::<String>(), any::<String>(), any::<Option<String>>(), prop::collection::vec(any::<u8>(), 0..64)), 0..5)
}

proptest! {
    #[test]
    fn a_release_arrives_as_it_was_sent(values in values(), withdrawn in prop::collection::vec(withdrawn(), 0..3)) {
        let bytes = release(&values, withdrawn.clone()).encode().unwrap();
        prop_assert_eq!(parts(Release::decode(&bytes).unwrap()), (values, withdrawn));
    }

    #[test]
    fn a_truncated_value_is_never_delivered(values in values(), cut in any::<prop::sample::Index>()) {
        let bytes = release(&values, Vec::new()).encode().unwrap();
        // Between two values the frame is whole: only TLS and the content length tell that some are missing.
        if let Ok(read) = Release::decode(&bytes[..cut.index(bytes.len())]) {
            let read = parts(read).0;
            prop_assert_eq!(&read[..], &values[..read.len()]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Release::decode(&bytes);
        let framed: Vec<u8> = b"KRL1\0\0\0\x02[]".iter().copied().chain(bytes).collect();
        let _ = Release::decode(&framed);
    }

    #[test]
    fn a_plan_is_read_as_it_was_written(bindings in prop::collection::vec(binding(), 0..3)) {
        let plan = Plan { version: 1, bindings };
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}
