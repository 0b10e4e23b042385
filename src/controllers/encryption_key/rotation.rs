//! New versions of a key: on a schedule, and once for each request.

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kustody_api::EncryptionKeyStatus;
use kustody_api::Reason;
use kustody_api::conditions::{ConditionType, Observation};
use kustody_api::encryption_key::{Operation, PendingOperation, Rotation, RotationStatus};
use kustody_api::key_provider::AdoptOperation;
use kustody_providers::Key;
use tokio::time::Instant;

use super::pass::Pass;
use super::verdict::{Failure, Verdict};
use super::{plan, schedule};
use crate::controllers::intent::{self, Effect};

/// Versions of one key, with their sealing keys: what a record and a status can hold with room to spare.
const MOST: usize = 500;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Rotate now; `Some` is the request that asks for it.
    Now(Option<String>),
    /// Not before this time; `None` when no time is named.
    Wait(Option<Time>),
}

/// Decides; `Err` says what of the spec cannot be carried out.
pub fn decide(rotation: &Rotation, status: &RotationStatus, key: &Key, uid: &str, now: &Time) -> Result<Decision, String> {
    let asked = rotation.request.as_ref().is_some_and(|request| !status.served(request));
    if key.versions.len() >= MOST {
        return Err(format!(
            "spec.rotation: key {} has {} versions, and no more are made: each is kept for as long as the key; make another EncryptionKey and seal anew for it",
            key.id,
            key.versions.len()
        ));
    }
    if asked {
        return Ok(Decision::Now(rotation.request.clone()));
    }
    let made = key.primary().and_then(|version| version.created);
    let last = status.last_rotation.as_ref().map(|time| time.0).max(made).unwrap_or(now.0);
    let next = schedule::next(rotation, last, uid, now.0)?;
    Ok(if next.is_some_and(|next| next <= now.0) { Decision::Now(None) } else { Decision::Wait(next.map(Time)) })
}

/// Records a rotation that a crash interrupted after it took place, before anything else is decided about the key.
pub async fn resume(pass: &mut Pass<'_>, key: &Key) -> Result<(), Failure> {
    if pass.pending(Operation::Rotate).is_none() {
        return Ok(());
    }
    if !took_place(&pass.status, key) {
        return Ok(());
    }
    Rotating { request: None, from: String::new(), id: key.id.clone(), pass }.record(key).await
}

/// Whether the interrupted rotation made its version: the primary one is another than it began with.
pub fn took_place(status: &EncryptionKeyStatus, key: &Key) -> bool {
    let from = status.pending_operation.as_ref().and_then(|pending| pending.from_version.clone());
    from.is_some() && key.primary().map(|version| version.id.clone()) != from
}

/// Notes the rotation whose intent is pending as carried out.
pub fn note(pass: &mut Pass<'_>, key: &Key) {
    let mut status = pass.status.rotation.clone().unwrap_or_default();
    if let Some(request) = pass.status.pending_operation.take().and_then(|pending| pending.request) {
        status.serve(request);
    }
    let made = key.primary().and_then(|version| version.created);
    status.last_rotation = Some(made.map_or_else(|| pass.now.clone(), Time));
    status.next_rotation = None;
    pass.status.rotation = Some(status);
}

/// Makes a new version if one is due; answers with the key as it is then.
pub async fn rotate(pass: &mut Pass<'_>, key: Key) -> Result<Key, Failure> {
    let Some(rotation) = pass.key.spec.rotation.clone() else {
        pass.drop_intent(&[Operation::Rotate]);
        pass.forget(ConditionType::Rotating);
        if let Some(status) = &mut pass.status.rotation {
            status.next_rotation = None;
        }
        return Ok(key);
    };
    let mut key = key;
    let mut refused = None;
    // Twice at most: what a crash interrupted, and a request that came meanwhile; the third time only looks.
    for turn in 0..3 {
        let mut status = pass.status.rotation.clone().unwrap_or_default();
        let allowed = plan::may(&key.id, AdoptOperation::Rotate, pass.facts);
        let decided = allowed.and_then(|()| {
            let decided = decide(&rotation, &status, &key, &pass.facts.claim.owner_uid, &pass.now);
            decided.map_err(|message| Verdict::new(Reason::InvalidSpec, message))
        });
        match decided {
            Ok(Decision::Now(_)) if turn == 2 => status.next_rotation = Some(pass.now.clone()),
            Ok(Decision::Now(request)) => {
                let pending = pass.pending(Operation::Rotate);
                let from = key.primary().map(|version| version.id.clone()).unwrap_or_default();
                key = intent::carry_out(&mut Rotating { request, from, id: key.id, pass }, pending.as_deref()).await?;
                continue;
            }
            Ok(Decision::Wait(next)) => status.next_rotation = next,
            Err(verdict) => (status.next_rotation, refused) = (None, Some(verdict)),
        }
        pass.drop_intent(&[Operation::Rotate]);
        pass.status.rotation = Some(status);
        break;
    }
    let next = pass.status.rotation.as_ref().and_then(|status| status.next_rotation.clone());
    let (status, reason, message) = match (refused, next) {
        (Some(verdict), _) => (false, verdict.reason, verdict.message),
        (None, Some(next)) => (true, Reason::Scheduled, format!("the next rotation is due at {:.0}", next.0)),
        (None, None) => (true, Reason::OnRequest, "spec.rotation names no time; a new spec.rotation.request rotates once".to_owned()),
    };
    pass.say(Observation { kind: ConditionType::Rotating, status: Some(status), reason, message });
    Ok(key)
}

/// A new version as an [`Effect`].
struct Rotating<'p, 'a> {
    pass: &'p mut Pass<'a>,
    id: String,
    from: String,
    request: Option<String>,
}

#[async_trait]
impl Effect for Rotating<'_, '_> {
    type Result = Key;
    type Error = Failure;

    fn nonce(&mut self) -> Result<String, Failure> {
        self.pass.nonce()
    }

    async fn intend(&mut self, nonce: &str) -> Result<(), Failure> {
        let begun = PendingOperation {
            from_version: Some(self.from.clone()),
            request: self.request.clone(),
            ..self.pass.begun(Operation::Rotate, nonce)
        };
        self.pass.intend(begun).await
    }

    async fn find(&mut self, _: &str) -> Result<Option<Key>, Failure> {
        let key = self.pass.provider.describe_key(&self.id).await?;
        Ok(Some(key).filter(|key| took_place(&self.pass.status, key)))
    }

    fn confirmed(&self) -> Instant {
        self.pass.confirmed
    }

    async fn act(&mut self, _: &str) -> Result<Key, Failure> {
        let from = self.pass.status.pending_operation.as_ref().and_then(|pending| pending.from_version.clone());
        let from = from.unwrap_or_else(|| self.from.clone());
        Ok(self.pass.provider.rotate_key(&self.id, &self.pass.facts.claim, &from).await?)
    }

    async fn record(&mut self, key: &Key) -> Result<(), Failure> {
        note(self.pass, key);
        self.pass.observe(key);
        Ok(self.pass.write().await?)
    }
}
