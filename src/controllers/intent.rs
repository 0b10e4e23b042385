//! Side effects that a crash cannot repeat: intent, effect, result.
//!
//! An action at a provider and a write to the API server are no transaction. So the intent, with a nonce, is written
//! first; the effect carries the nonce; then its result is recorded. An intent without a result is looked up by its
//! nonce before anything is done again, and what is done again carries the same nonce.

use async_trait::async_trait;

/// One side effect.
#[async_trait]
pub trait Effect: Send {
    /// What the effect yields.
    type Result: Send;
    /// Why a step failed.
    type Error: Send;

    /// A nonce that nobody used before.
    fn nonce(&mut self) -> Result<String, Self::Error>;
    /// Writes down what is about to happen, refused when anybody wrote since this was decided.
    async fn intend(&mut self, nonce: &str) -> Result<(), Self::Error>;
    /// The result of an earlier attempt with this nonce, if it took effect.
    async fn find(&mut self, nonce: &str) -> Result<Option<Self::Result>, Self::Error>;
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
            None => effect.act(nonce).await?,
        }
    } else {
        let nonce = effect.nonce()?;
        effect.intend(&nonce).await?;
        effect.act(&nonce).await?
    };
    effect.record(&result).await?;
    Ok(result)
}
