//! What running pods hold, as all replicas of the broker say it together: looked at now and then, so that a thousand pods that
//! change are one write of their binding's status and not a thousand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kustody_api::SecretBinding;
use kustody_api::secret_binding::{HeldByPods, HeldRevision};
use kustody_core::wire::watch::{HeldAnswer, HeldOf};

use super::caches::Caches;
use super::inspect;
use crate::controllers::context::Context;
use crate::k8s::backoff::jittered;

/// How often it is looked at; a binding's status is written no more often for it.
const EVERY: Duration = Duration::from_secs(30);

/// What was seen last, by UID of the binding; nothing before all replicas have answered once.
#[derive(Default)]
pub struct Seen(Mutex<Option<HashMap<String, HeldByPods>>>);

impl Seen {
    /// What status says of a binding that said `before`: while nothing was seen, that holds.
    pub fn of(&self, binding: &SecretBinding, before: Option<HeldByPods>) -> Option<HeldByPods> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map_or(before, |seen| seen.get(&binding.uid()?).cloned())
    }

    /// Takes what all replicas say.
    pub fn replace(&self, answers: Vec<HeldAnswer>) {
        let mut bindings = HashMap::<String, HeldOf>::new();
        for of in answers.into_iter().flat_map(|answer| answer.bindings) {
            bindings.entry(of.uid.clone()).or_default().add(of);
        }
        let seen = bindings.into_iter().map(|(uid, of)| (uid, counted(of))).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

fn counted(mut of: HeldOf) -> HeldByPods {
    of.bound();
    let revisions = of.revisions.into_iter().map(|held| HeldRevision { revision: held.revision, pods: held.pods, newest: held.newest });
    HeldByPods { pods: of.pods, behind: of.behind, withdrawn: of.withdrawn, revisions: revisions.collect() }
}

/// Asks until the process stops, and names the bindings whose status says something else.
///
/// What not all replicas say is not taken: half of the pods would look gone.
pub(super) async fn follow(context: &Context, caches: &Caches, other: UnboundedSender<ObjectRef<SecretBinding>>) {
    let following = async {
        loop {
            tokio::time::sleep(jittered(EVERY)).await;
            let authority = context.authority.load_full();
            match inspect::held(&context.config, authority.as_deref().map(String::as_str)).await {
                Ok(answers) => caches.held.replace(answers),
                Err(error) => {
                    tracing::info!(%error, "not every broker says what pods hold; what was known holds");
                    continue;
                }
            }
            for binding in caches.bindings.state() {
                let before = binding.status.as_ref().and_then(|status| status.held.clone());
                if caches.held.of(&binding, before.clone()) != before {
                    // Its receiver ends with the process.
                    let _ = other.unbounded_send(ObjectRef::from_obj(binding.as_ref()));
                }
            }
        }
    };
    context.process.stop.run_until_cancelled(following).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding() -> SecretBinding {
        serde_json::from_value(json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "b", "uid": "b-uid"},
            "spec": {"workloads": {"serviceAccounts": ["a"]}, "secrets": [], "deliver": {}},
        }))
        .unwrap()
    }

    fn replica(newest: i32, old: i32) -> HeldAnswer {
        let mut of = HeldOf { uid: "b-uid".to_owned(), pods: newest + old, behind: old, ..HeldOf::default() };
        of.count("new", newest, true);
        of.count("old", old, false);
        HeldAnswer { bindings: vec![of] }
    }

    #[test]
    fn what_pods_hold_is_the_sum_over_all_replicas() {
        let seen = Seen::default();
        seen.replace(vec![replica(2, 3), HeldAnswer::default(), replica(1, 4)]);
        let held = seen.of(&binding(), None).unwrap();
        assert_eq!((held.pods, held.behind, held.withdrawn), (10, 7, 0));
        let revisions: Vec<_> = held.revisions.iter().map(|held| (held.revision.as_str(), held.pods, held.newest)).collect();
        assert_eq!(revisions, [("new", 3, true), ("old", 7, false)]);
    }

    #[test]
    fn what_status_says_holds_until_all_replicas_have_answered_and_goes_when_no_pod_says_anything() {
        let (seen, before) = (Seen::default(), Some(HeldByPods { pods: 4, ..HeldByPods::default() }));
        assert_eq!(seen.of(&binding(), before.clone()), before);
        seen.replace(vec![HeldAnswer::default()]);
        assert_eq!(seen.of(&binding(), before), None);
    }

    #[test]
    fn however_many_revisions_pods_claim_status_names_eight_and_the_newest_first() {
        let mut of = HeldOf { uid: "b-uid".to_owned(), ..HeldOf::default() };
        (0..50).for_each(|number| of.count(&format!("{number:02}"), number, number == 3));
        let seen = Seen::default();
        seen.replace(vec![HeldAnswer { bindings: vec![of] }]);
        let revisions = seen.of(&binding(), None).unwrap().revisions;
        let names: Vec<_> = revisions.iter().map(|held| held.revision.as_str()).collect();
        assert_eq!(names, ["03", "49", "48", "47", "46", "45", "44", "43"]);
    }
}
