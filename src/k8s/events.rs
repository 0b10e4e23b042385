//! Events: one for each distinct message, and a failure to publish is only logged.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// The API server refuses longer notes.
const MAX_NOTE: usize = 1000;

/// Publishes events in the name of one controller.
#[derive(Clone)]
pub struct Events {
    client: Client,
    controller: &'static str,
}

impl Events {
    /// For the controller of this name.
    pub fn new(client: Client, controller: &'static str) -> Self {
        Self { client, controller }
    }

    /// Tells people of `object` that something happened; whether that was published. Requires: `events.k8s.io/events: create, patch`.
    ///
    /// Also a line of the log: who keeps logs has it longer than the API server keeps events.
    pub async fn publish(&self, object: &ObjectReference, warning: bool, reason: &str, action: &str, note: &str) -> bool {
        let [kind, namespace, name] = [&object.kind, &object.namespace, &object.name].map(|part| part.as_deref().unwrap_or_default());
        tracing::info!(kind, object = format!("{namespace}/{name}"), reason, warning, note, "told");
        let mut end = note.len().min(MAX_NOTE);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note[..end].to_owned()),
            action: action.to_owned(),
            secondary: None,
        };
        // A recorder aggregates without looking at the note: a new one for each note, or people read the first message for ever.
        let recorder = Recorder::new(self.client.clone(), Reporter::from(self.controller));
        let published = recorder.publish(&event, object).await;
        if let Err(error) = &published {
            tracing::warn!(%error, reason, "unable to publish an event");
        }
        published.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;
    use serde_json::json;

    use super::Events;
    use crate::k8s::testing;
    use crate::runtime::log::tests::Kept;

    #[tokio::test]
    async fn what_people_are_told_is_one_line_of_the_log_too() {
        let log = Kept::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _listening = tracing::subscriber::set_default(subscriber);
        let object = |part: &str| Some(part.to_owned());
        let key =
            ObjectReference { kind: object("EncryptionKey"), namespace: object("vision"), name: object("team"), ..Default::default() };
        let events = Events::new(testing::client(|_, _, _| (201, json!({"metadata": {}}))), "test");
        events.publish(&key, true, "KeyNotFound", "Reconcile", "restore it").await;
        let said = log.take();
        let parts = ["INFO", "kind=\"EncryptionKey\" object=\"vision/team\" reason=\"KeyNotFound\" warning=true", "restore it"];
        assert!(said.lines().count() == 1 && parts.iter().all(|part| said.contains(part)), "{said}");
    }

    #[tokio::test]
    async fn what_the_api_server_does_not_take_is_not_published() {
        for (code, body, published) in [(403, json!({"kind": "Status", "code": 403}), false), (201, json!({"metadata": {}}), true)] {
            let events = Events::new(testing::client(move |_, _, _| (code, body.clone())), "test");
            assert_eq!(events.publish(&ObjectReference::default(), true, "Reason", "Look", "note").await, published, "{code}");
        }
    }
}
