//! Keys that an object left behind, found by its names. The store looks at each of its records for each list: so one live list
//! serves all who ask at the same time, and a thousand objects that are applied at once do not look at a thousand records each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::record;
use crate::key_store::{KeyStore, Record};
use crate::{Claim, Error, Key};

/// How long after a list the next one begins at the earliest, so that it serves more of those who ask.
const BETWEEN: Duration = Duration::from_millis(100);

/// Who asks at the same time.
#[derive(Default)]
pub(super) struct Lookup {
    next: Mutex<Next>,
    last: tokio::sync::Mutex<Last>,
}

/// Whose records the next list looks for.
#[derive(Default)]
struct Next {
    round: u64,
    owners: BTreeSet<String>,
}

/// What a list found.
#[derive(Default)]
struct Last {
    round: Option<u64>,
    next: Option<Instant>,
    found: Arc<Vec<Found>>,
}

/// One record: whose it is by its label, and its key, or what is wrong with it.
struct Found {
    owner: String,
    key: Result<Key, String>,
}

impl Lookup {
    /// The keys whose claim is this one's but for the object's UID; and those that were imported under its names: they carry the
    /// claim of a cluster or namespace that is gone, and adoption takes them back.
    pub(super) async fn find(&self, store: &dyn KeyStore, provider: &str, claim: &Claim) -> Result<Vec<Key>, Error> {
        let mine = [record::owner(claim), record::place(claim)];
        let mut keys = Vec::new();
        for Found { owner, key } in self.list(store, provider, &mine).await?.iter().filter(|found| mine.contains(&found.owner)) {
            let key = key.as_ref().map_err(|detail| Error::Configuration { detail: detail.clone() })?;
            // Labels are digests; the claim itself decides.
            let Some(found) = key.claim() else { continue };
            let named = (&found.namespace, &found.name) == (&claim.namespace, &claim.name);
            let imported = *owner == mine[1] && named;
            if imported || (Claim { owner_uid: claim.owner_uid.clone(), ..found }) == *claim {
                keys.push(key.clone());
            }
        }
        Ok(keys)
    }

    /// What a list finds that begins after this was called.
    async fn list(&self, store: &dyn KeyStore, provider: &str, mine: &[String; 2]) -> Result<Arc<Vec<Found>>, Error> {
        let next = || self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let round = {
            let mut next = next();
            next.owners.extend(mine.clone());
            next.round
        };
        let mut last = self.last.lock().await;
        if last.round == Some(round) {
            return Ok(Arc::clone(&last.found));
        }
        if let Some(earliest) = last.next {
            sleep_until(earliest).await;
        }
        let (round, owners) = {
            let mut next = next();
            next.round += 1;
            (next.round - 1, std::mem::take(&mut next.owners))
        };
        last.next = Some(Instant::now() + BETWEEN);
        // With its own, also when the list that was to serve it failed, or its result made way for another's.
        let records = store.list(&record::of_owners(provider, owners.into_iter().chain(mine.clone()))).await?;
        let found = records.iter().map(|record| Found { owner: record::owner_of(record), key: key(record) }).collect();
        (last.round, last.found) = (Some(round), Arc::new(found));
        Ok(Arc::clone(&last.found))
    }
}

fn key(record: &Record) -> Result<Key, String> {
    record::describe(record).map_err(|error| match error {
        Error::Configuration { detail } => detail,
        other => other.to_string(),
    })
}
