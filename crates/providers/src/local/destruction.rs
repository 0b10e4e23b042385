//! The end of a key, scheduled and due: by two clocks, because one that is wrong must not destroy a key.

use jiff::{SignedDuration, Timestamp};

use super::record;
use crate::Error;
use crate::key_store::{KeyStore, Record};

/// How far our clock and the store's may be apart when a deletion is scheduled.
const APART: SignedDuration = SignedDuration::from_mins(5);

/// Refuses to schedule a deletion by a clock that is not the store's: `at` counts from ours, `now`, and were that behind,
/// the window would be over, or shorter, once it is put right.
pub(super) async fn by_the_store_s_clock(store: &dyn KeyStore, record: &mut Record, id: &str, now: Timestamp) -> Result<(), Error> {
    record::note_time(record, now)?;
    let written = store.replace(record).await?;
    record.revision = written.revision;
    let Some(stored) = written.at.filter(|stored| stored.duration_since(now).abs() > APART) else { return Ok(()) };
    Err(Error::Configuration {
        detail: format!(
            "key {id}: its deletion is not scheduled, because this operator's clock says {now:.0} and the store's {stored:.0}, more than 5 minutes apart, and the window would end at a wrong time; set the clock of the node right, then this is tried again"
        ),
    })
}

/// Forgets the material of a key whose time has come by our clock, `now`, and by the store's, which notes the time of a write.
///
/// `record` was read live; one that was written since stays as it is.
pub(super) async fn when_due(store: &dyn KeyStore, mut record: Record, now: Timestamp) -> Result<(), Error> {
    let Some(at) = record::due(&record, now)? else { return Ok(()) };
    record::note_time(&mut record, now)?;
    let written = match store.replace(&record).await {
        Ok(written) => written,
        Err(Error::Conflict { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    // Later, when the store's clock has come so far: the next probe asks again.
    if written.at.is_none_or(|stored| stored < at) {
        return Ok(());
    }
    record.revision = written.revision;
    record::destroy(&mut record)?;
    match store.replace(&record).await {
        Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
