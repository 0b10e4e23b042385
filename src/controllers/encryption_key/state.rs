//! Enabled, disabled, scheduled for deletion: what the spec asks for, and what somebody else did to the key.

use async_trait::async_trait;
use jiff::SignedDuration;
use kustody_api::Reason;
use kustody_api::conditions::{ConditionType, Observation};
use kustody_api::encryption_key::{DesiredState, EncryptionKeySpec, EncryptionKeyStatus, Operation, PendingOperation};
use kustody_api::key_provider::AdoptOperation;
use kustody_providers::{Key, State, Wanted};
use tokio::time::Instant;

use super::pass::Pass;
use super::plan::{self, Facts};
use super::rotation;
use super::verdict::{Failure, Verdict};
use crate::controllers::intent::{self, Effect};

/// What changes the state of a key.
const CHANGES: [Operation; 3] = [Operation::Enable, Operation::Disable, Operation::ScheduleDeletion];
/// Days between the request and the end of a key, when the spec names none.
const WINDOW_DAYS: i32 = 30;

/// What is to be done about the state of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is as the spec asks.
    Settled,
    /// Change it.
    Change(Operation),
    /// The spec asks to retire it, and that is refused; it stays as it is, in use.
    Refused(Verdict),
}

/// Decides; `Err` when the key can be neither used nor changed.
pub fn decide(spec: &EncryptionKeySpec, status: &EncryptionKeyStatus, key: &Key, facts: &Facts) -> Result<Decision, Verdict> {
    let desired = desired(spec);
    let change = match (desired, key.state) {
        (_, State::Destroyed) => return Err(destroyed(key, gave(status, State::PendingDeletion))),
        (_, State::Pending) => return Err(unusable(key, "still being made", "this is retried")),
        (_, State::Unavailable) => return Err(unusable(key, "unavailable", "see the provider's own status")),
        (DesiredState::Enabled, State::Enabled)
        | (DesiredState::Disabled, State::Disabled)
        | (DesiredState::PendingDeletion, State::PendingDeletion) => return Ok(Decision::Settled),
        (DesiredState::Enabled, state) if !gave(status, state) => {
            let (found, provider) = match state {
                State::PendingDeletion => ("scheduled for deletion", "cancel the deletion at the provider while its window lasts"),
                _ => ("disabled", "enable it at the provider"),
            };
            let remedy = format!("{provider}, or set spec.desiredState to Disabled and then to Enabled");
            return Err(unusable(key, &format!("{found}, and this EncryptionKey did not ask for that"), &remedy));
        }
        (DesiredState::Enabled, _) => Operation::Enable,
        (DesiredState::Disabled, _) => Operation::Disable,
        (DesiredState::PendingDeletion, _) => Operation::ScheduleDeletion,
    };
    if let Err(verdict) = plan::may(&key.id, AdoptOperation::Retire, facts) {
        return Ok(Decision::Refused(verdict));
    }
    if change == Operation::ScheduleDeletion
        && let Err(verdict) = unused(spec, facts)
    {
        return Ok(Decision::Refused(verdict));
    }
    Ok(Decision::Change(change))
}

/// The state that the spec asks for.
pub fn desired(spec: &EncryptionKeySpec) -> DesiredState {
    spec.desired_state.unwrap_or(DesiredState::Enabled)
}

/// Whether this object gave the key that state, or was about to when it was interrupted.
fn gave(status: &EncryptionKeyStatus, found: State) -> bool {
    let begun = status.pending_operation.as_ref().and_then(|pending| match pending.operation {
        Operation::Enable => Some(DesiredState::Enabled),
        Operation::Disable => Some(DesiredState::Disabled),
        Operation::ScheduleDeletion => Some(DesiredState::PendingDeletion),
        Operation::Create | Operation::Rotate => None,
    });
    let found = as_desired(found);
    found.is_some() && (status.applied_state == found || begun == found)
}

/// The state as a spec would ask for it.
pub fn as_desired(state: State) -> Option<DesiredState> {
    match state {
        State::Enabled => Some(DesiredState::Enabled),
        State::Disabled => Some(DesiredState::Disabled),
        State::PendingDeletion => Some(DesiredState::PendingDeletion),
        State::Pending | State::Destroyed | State::Unavailable => None,
    }
}

fn unused(spec: &EncryptionKeySpec, facts: &Facts) -> Result<(), Verdict> {
    let named = spec.deletion.as_ref().map(|deletion| deletion.even_though_used_by.as_slice()).unwrap_or_default();
    let mut users: Vec<&str> = facts.users.iter().filter(|user| !named.contains(user)).map(String::as_str).collect();
    if users.is_empty() {
        return Ok(());
    }
    users.sort_unstable();
    let (shown, more) = users.split_at(users.len().min(16));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Err(Verdict::new(
        Reason::InUse,
        format!(
            "spec.desiredState: the key is not scheduled for deletion while SecretBindings use it: {}{more}; remove it from them, or repeat their names in spec.deletion.evenThoughUsedBy",
            shown.join(", ")
        ),
    ))
}

/// The broker goes by the spec: nothing is opened, though the provider's key is as it was.
fn stopped(verdict: Verdict, key: &Key) -> Verdict {
    if key.state != State::Enabled {
        return verdict;
    }
    let message = format!(
        "spec.desiredState is Disabled, so nothing is opened under the key, but it is not disabled at the provider: {}",
        verdict.message
    );
    Verdict::new(verdict.reason, message)
}

fn unusable(key: &Key, found: &str, remedy: &str) -> Verdict {
    Verdict::new(Reason::KeyNotUsable, format!("key {} is {found}; {remedy}", key.id))
}

fn destroyed(key: &Key, asked: bool) -> Verdict {
    let (reason, how) = if asked {
        (Reason::Destroyed, "was destroyed, as spec.desiredState asked")
    } else {
        (Reason::KeyNotFound, "was destroyed at the provider")
    };
    Verdict::new(
        reason,
        format!(
            "key {} {how}; what was sealed under it cannot be opened any more. Kustody never makes a new key in its place: make another EncryptionKey",
            key.id
        ),
    )
}

/// Gives the key the state that the spec asks for; `Err` when it is, rightly, not usable then.
pub async fn settle(pass: &mut Pass<'_>, key: Key) -> Result<Key, Failure> {
    let key = match decide(&pass.key.spec, &pass.status, &key, pass.facts)? {
        Decision::Settled => {
            abandon(pass, &key);
            key
        }
        Decision::Change(operation) => {
            let pending = pass.pending(operation);
            let mut change = Change { operation, wanted: wanted(pass, operation), id: key.id, pass };
            intent::carry_out(&mut change, pending.as_deref()).await?
        }
        Decision::Refused(verdict) => {
            abandon(pass, &key);
            let message = verdict.message.clone();
            pass.say(Observation { kind: ConditionType::Retiring, status: Some(false), reason: verdict.reason, message });
            let in_use = key.state == State::Enabled && desired(&pass.key.spec) != DesiredState::Disabled;
            return if in_use { Ok(key) } else { Err(stopped(verdict, &key).into()) };
        }
    };
    pass.status.applied_state = Some(desired(&pass.key.spec));
    let verdict = match desired(&pass.key.spec) {
        DesiredState::Enabled => {
            pass.forget(ConditionType::Retiring);
            return Ok(key);
        }
        DesiredState::Disabled => Verdict::new(
            Reason::Disabled,
            "spec.desiredState is Disabled: nothing is sealed or opened under the key; set it to Enabled to use it again",
        ),
        DesiredState::PendingDeletion => {
            let at = key.deletion.map_or_else(|| "at a time that the provider knows".to_owned(), |at| format!("at {at:.0}"));
            Verdict::new(
                Reason::PendingDeletion,
                format!("key {} is destroyed {at}, as spec.desiredState asks; set it to Enabled before to take it back", key.id),
            )
        }
    };
    pass.say(Observation { kind: ConditionType::Retiring, status: Some(true), reason: verdict.reason, message: verdict.message.clone() });
    Err(verdict.into())
}

/// Takes back a change that was begun and that the spec does not ask for any more; a rotation that it stood for is not lost.
fn abandon(pass: &mut Pass<'_>, key: &Key) {
    let ours = pass.status.pending_operation.as_ref().is_some_and(|pending| CHANGES.contains(&pending.operation));
    if ours && rotation::took_place(&pass.status, key) {
        rotation::note(pass, key);
    }
    pass.drop_intent(&CHANGES);
}

fn wanted(pass: &Pass<'_>, operation: Operation) -> Wanted {
    match operation {
        Operation::Disable => Wanted::Disabled,
        Operation::ScheduleDeletion => {
            // Of an attempt that took effect the provider keeps the time; any other counts from now.
            let days = pass.key.spec.deletion.as_ref().and_then(|deletion| deletion.window_days).unwrap_or(WINDOW_DAYS);
            let window = SignedDuration::from_hours(24 * i64::from(days));
            Wanted::Deleted { at: pass.now.0.saturating_add(window).unwrap_or(jiff::Timestamp::MAX) }
        }
        Operation::Enable | Operation::Create | Operation::Rotate => Wanted::Enabled,
    }
}

/// A change of state as an [`Effect`].
struct Change<'p, 'a> {
    pass: &'p mut Pass<'a>,
    id: String,
    operation: Operation,
    wanted: Wanted,
}

#[async_trait]
impl Effect for Change<'_, '_> {
    type Result = Key;
    type Error = Failure;

    fn nonce(&mut self) -> Result<String, Failure> {
        self.pass.nonce()
    }

    async fn intend(&mut self, nonce: &str) -> Result<(), Failure> {
        // A rotation that was begun may still be carried out by a leader that slept; whether it was is told by the result.
        let rotation = self.pass.status.pending_operation.take();
        let (from_version, request) = rotation.map(|pending| (pending.from_version, pending.request)).unwrap_or_default();
        let begun = PendingOperation { from_version, request, ..self.pass.begun(self.operation, nonce) };
        self.pass.intend(begun).await
    }

    /// The state itself says whether it took effect, and setting it again changes nothing.
    async fn find(&mut self, _: &str) -> Result<Option<Key>, Failure> {
        Ok(None)
    }

    fn confirmed(&self) -> Instant {
        self.pass.confirmed
    }

    async fn act(&mut self, _: &str) -> Result<Key, Failure> {
        Ok(self.pass.provider.set_state(&self.id, &self.pass.facts.claim, &self.wanted).await?)
    }

    async fn record(&mut self, key: &Key) -> Result<(), Failure> {
        self.pass.status.applied_state = as_desired(key.state);
        if rotation::took_place(&self.pass.status, key) {
            rotation::note(self.pass, key);
        }
        self.pass.status.pending_operation = None;
        self.pass.observe(key);
        Ok(self.pass.write().await?)
    }
}
