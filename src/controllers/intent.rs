//! Side effects that a crash cannot repeat: intent, effect, result.
//!
//! An action at a provider and a write to the API server are no transaction. So the intent, with a nonce, is written
//! first; the effect carries the nonce; then its result is recorded. An intent without a result is looked up by its
//! nonce before anything is done again, and what is done again carries the same nonce.
//!
//! An intent is good for seconds: a leader that slept may have been succeeded, and its successor may have taken the intent
//! back. Whoever wakes up does not act, and reads again.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// How long after the object was confirmed its intent is acted upon: a lease that is renewed in time has so long left.
const FRESH: Duration = Duration::from_secs(5);

/// Too much time went by since the intent was written or read.
#[derive(Debug, thiserror::Error)]
#[error("more than {} s went by between an intent and its act; it is read again", FRESH.as_secs())]
pub struct Late;

/// One side effect.
#[async_trait]
pub trait Effect: Send {
    /// What the effect yields.
    type Result: Send;
    /// Why a step failed.
    type Error: Send + From<Late>;

    /// A nonce that nobody used before.
    fn nonce(&mut self) -> Result<String, Self::Error>;
    /// Writes down what is about to happen, refused when anybody wrote since this was decided.
    async fn intend(&mut self, nonce: &str) -> Result<(), Self::Error>;
    /// The result of an earlier attempt with this nonce, if it took effect.
    async fn find(&mut self, nonce: &str) -> Result<Option<Self::Result>, Self::Error>;
    /// When the last live read or conditional write of the object was begun, which said that nobody wrote otherwise.
    fn confirmed(&self) -> Instant;
    /// Does it, carrying the nonce.
    async fn act(&mut self, nonce: &str) -> Result<Self::Result, Self::Error>;
    /// Writes the result down and takes the intent away, in one write.
    async fn record(&mut self, result: &Self::Result) -> Result<(), Self::Error>;
}

/// Carries `effect` out once, whatever `pending` attempt a crash left behind.
pub async fn carry_out<E: Effect>(effect: &mut E, pending: Option<&str>) -> Result<E::Result, E::Error> {
    let result = if let Some(nonce) = pending {
        match effect.find(nonce).await? {
            Some(result) => result,
            None => act(effect, nonce).await?,
        }
    } else {
        let nonce = effect.nonce()?;
        effect.intend(&nonce).await?;
        act(effect, &nonce).await?
    };
    effect.record(&result).await?;
    Ok(result)
}

async fn act<E: Effect>(effect: &mut E, nonce: &str) -> Result<E::Result, E::Error> {
    if effect.confirmed().elapsed() > FRESH { Err(Late.into()) } else { effect.act(nonce).await }
}
