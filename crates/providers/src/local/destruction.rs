//! The end of a key whose deletion is due: by two clocks, because one that jumps must not destroy a key.

use jiff::Timestamp;

use super::record;
use crate::Error;
use crate::key_store::{KeyStore, Record};

/// Forgets the material of a key whose time has come by our clock, `now`, and by the store's, which notes the time of a write.
///
/// `record` was read live; one that was written since stays as it is.
pub(super) async fn when_due(store: &dyn KeyStore, mut record: Record, now: Timestamp) -> Result<(), Error> {
    let Some(at) = record::due(&record, now)? else { return Ok(()) };
    record::note_due(&mut record, now)?;
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
