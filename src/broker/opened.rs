//! Values that were opened, kept for as long as the seed that opened them and no longer: a thousand pods of one binding cost
//! its arithmetic once. Whoever asks was authorized before; what is here says nothing of who may have it.

use std::sync::Arc;
use std::time::Duration;

use kustody_core::sealing::{Place, SealedValue};
use kustody_core::secret::SecretBytes;
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::open::{Failure, Seed};

/// What all of them take together, in bytes.
const ROOM: u64 = 16 << 20;
/// What one takes besides its bytes.
const EACH: usize = 256;

/// One value.
#[derive(Clone)]
pub struct Opened {
    /// Zeroised when the last who holds it lets it go.
    pub value: Arc<SecretBytes>,
    /// When its seed is over.
    pub until: Instant,
}

/// As long as the seed.
struct WithItsSeed;

impl Expiry<[u8; 32], Opened> for WithItsSeed {
    fn expire_after_create(&self, _: &[u8; 32], opened: &Opened, _: std::time::Instant) -> Option<Duration> {
        Some(opened.until.saturating_duration_since(Instant::now()))
    }
}

/// Values by what they were opened from.
pub struct Values(Cache<[u8; 32], Opened>);

impl Default for Values {
    fn default() -> Self {
        let weight = |_: &[u8; 32], opened: &Opened| u32::try_from(opened.value.len() + EACH).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(ROOM).weigher(weight).expire_after(WithItsSeed).build())
    }
}

impl Values {
    /// The value of `sealed` at `place`, by `open` when it is not here; who asks for the same meanwhile waits for that.
    pub async fn get(
        &self,
        (seed, place, sealed): (&Seed, &Place<'_>, &SealedValue),
        open: impl Future<Output = Result<Opened, Failure>>,
    ) -> Result<Arc<SecretBytes>, Failure> {
        let opened = self.0.try_get_with(name(seed, place, sealed), open).await;
        opened.map(|opened| opened.value).map_err(|failure| failure.as_ref().clone())
    }

    /// Overwrites what is over.
    pub async fn sweep(&self) {
        self.0.run_pending_tasks().await;
    }
}

/// Of everything that decides what opens: another seed, place or byte is another value.
fn name(seed: &Seed, place: &Place<'_>, sealed: &SealedValue) -> [u8; 32] {
    let header = sealed.header.to_bytes();
    let parts =
        [place.namespace.as_bytes(), place.binding.as_bytes(), place.secret.as_bytes(), &header, &sealed.encapsulated, &sealed.ciphertext];
    let mut digest = Sha256::new_with_prefix(seed.id.to_be_bytes());
    for part in parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use kustody_core::sealing::Header;

    use super::*;

    fn seed(id: u64) -> Seed {
        Seed { bytes: SecretBytes::new(vec![0; 32]), id, until: Instant::now() + Duration::from_mins(1) }
    }

    fn sealed(ciphertext: &[u8]) -> SealedValue {
        let header = Header { provider_key_id: "id".to_owned(), version: 1, public_key_sha256: [0; 32], wrapped_seed: vec![1] };
        SealedValue { header, encapsulated: vec![2], ciphertext: ciphertext.to_vec() }
    }

    const PLACE: Place<'static> = Place { namespace: "n", binding: "b", secret: "s" };

    #[test]
    fn what_another_seed_place_or_byte_opens_is_another_value() {
        let mut names =
            vec![name(&seed(1), &PLACE, &sealed(b"c")), name(&seed(2), &PLACE, &sealed(b"c")), name(&seed(1), &PLACE, &sealed(b"d"))];
        for place in [Place { namespace: "nb", binding: "", ..PLACE }, Place { secret: "t", ..PLACE }, Place { binding: "c", ..PLACE }] {
            names.push(name(&seed(1), &place, &sealed(b"c")));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(name(&seed(1), &PLACE, &sealed(b"c")), name(&seed(1), &PLACE, &sealed(b"c")));
    }

    #[tokio::test]
    async fn a_value_ends_with_its_seed_and_a_failure_is_not_kept() {
        let (values, seed) = (Values::default(), seed(1));
        let opened = |until| async move { Ok(Opened { value: Arc::new(SecretBytes::new(b"v".to_vec())), until }) };
        let asked = (&seed, &PLACE, &sealed(b"c"));
        let failed = values.get(asked, async { Err(Failure::Never("no".to_owned())) }).await;
        assert!(matches!(failed, Err(Failure::Never(why)) if why == "no"));
        // Over already: the next who asks opens it again.
        values.get(asked, opened(Instant::now())).await.unwrap();
        let first = values.get(asked, opened(seed.until)).await.unwrap();
        let second = values.get(asked, async { Err(Failure::Never("it is there".to_owned())) }).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = values.get((&seed, &PLACE, &sealed(b"d")), opened(seed.until)).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
    }
}
