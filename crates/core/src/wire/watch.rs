//! What a running pod's agent and the broker say to each other: `POST /v1/watch`, a long poll.
//!
//! The agent sends a [`WatchRequest`]. The broker answers at once when one of its bindings is not in the state that the agent
//! was told last: 200 with a [`super::Release`] of the bindings that differ, their revisions in it. Otherwise it waits, for
//! [`HOLD_SECONDS`] at most, and answers 204 when nothing changed. A refusal is one as everywhere else.
//!
//! A revision names a state of one binding as it is for one service account: what may be had, sealed how, under which key,
//! and what is withdrawn and why. It is the same at every replica and after every restart, and it is made of names and
//! ciphertext alone: it says nothing of a value.

use serde::{Deserialize, Serialize};

use super::Plan;

/// Content types that an agent accepts who wants revisions in its release.
pub const WITH_REVISIONS: &str = "application/vnd.kustody.release;revisions=1";
/// Content type of [`Authorities`].
pub const AUTHORITIES_TYPE: &str = "application/vnd.kustody.authorities+json";
/// The largest bundle of authorities, in bytes: pods are given it in one variable, and Linux takes at most 128 KiB for one.
pub const MAX_BUNDLE: usize = 120 * 1024;
/// The largest [`Authorities`] on the wire: each line end of the bundle is two bytes in it.
pub const MAX_AUTHORITIES: usize = 256 * 1024;
/// The longest that a broker lets an agent wait.
pub const HOLD_SECONDS: u64 = 50;
/// Characters of a revision: hexadecimal digits.
pub const REVISION_LENGTH: usize = 32;

/// Revisions of one binding that are counted each for itself.
pub const MAX_HELD: usize = 8;

/// What a running pod asks for, and what it has.
///
/// Agents live as long as their pods and see brokers of several releases: an unknown field is ignored here. Not in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchRequest {
    /// The part of the pinned plan that follows changes: bindings with `update.mode: Live`, and their files.
    pub plan: Plan,
    /// What the agent knows of them.
    #[serde(default)]
    pub known: Vec<Known>,
    /// The name of the [`Authorities`] that it was told last, empty before; absent: it does not want to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
}

/// The answer to who does not know them yet: who may vouch for the broker from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorities {
    /// Tells them from others: [`REVISION_LENGTH`] hexadecimal digits.
    pub name: String,
    /// PEM of each.
    pub bundle: String,
}

/// What an agent knows of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Name of the binding.
    pub binding: String,
    /// The revision that it was told last; absent: tell it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// The revision that all of its files are of. Another one than `seen` when something was withdrawn since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// The state that one binding of a release is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Name of the binding.
    pub binding: String,
    /// [`REVISION_LENGTH`] hexadecimal digits.
    pub revision: String,
}

/// `POST /v1/held`: the controller asks one replica what the pods that wait at it hold. Names and numbers, never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldAnswer {
    /// Each binding of which a pod says that it follows it.
    pub bindings: Vec<HeldOf>,
}

/// What pods hold of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldOf {
    /// UID of the binding.
    pub uid: String,
    /// Pods that follow it.
    pub pods: i32,
    /// Those of them that do not hold the newest values.
    pub behind: i32,
    /// Those of them from which something was withdrawn.
    pub withdrawn: i32,
    /// How many hold which revision, at most [`MAX_HELD`] of them.
    pub revisions: Vec<HeldRevision>,
}

/// A revision that pods hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRevision {
    /// The revision.
    pub revision: String,
    /// How many pods hold it.
    pub pods: i32,
    /// Whether it is the newest one for one of them.
    pub newest: bool,
}

impl HeldOf {
    /// Adds what another replica says of the same binding.
    pub fn add(&mut self, other: Self) {
        (self.pods, self.behind) = (self.pods.saturating_add(other.pods), self.behind.saturating_add(other.behind));
        self.withdrawn = self.withdrawn.saturating_add(other.withdrawn);
        for HeldRevision { revision, pods, newest } in other.revisions {
            self.count(&revision, pods, newest);
        }
    }

    /// So many more pods hold this revision.
    pub fn count(&mut self, revision: &str, pods: i32, newest: bool) {
        match self.revisions.iter_mut().find(|held| held.revision == revision) {
            Some(held) => (held.pods, held.newest) = (held.pods.saturating_add(pods), held.newest || newest),
            None => self.revisions.push(HeldRevision { revision: revision.to_owned(), pods, newest }),
        }
    }

    /// The newest ones first, then those that most pods hold; pods say what they like, so the rest is left out.
    pub fn bound(&mut self) {
        self.revisions.sort_by(|a, b| (b.newest, b.pods, &a.revision).cmp(&(a.newest, a.pods, &b.revision)));
        self.revisions.truncate(MAX_HELD);
    }
}

/// Whether `text` is a revision as a broker writes it; it becomes a part of a directory's name.
pub fn is_revision(text: &str) -> bool {
    text.len() == REVISION_LENGTH && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
