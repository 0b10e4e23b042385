//! Tests of how old an intent may be that is acted upon.

use super::*;

/// An effect that remembers what was done, and whose object was confirmed so long ago.
struct Sleeper {
    slept: Duration,
    confirmed: Instant,
    done: Vec<&'static str>,
}

#[async_trait]
impl Effect for Sleeper {
    type Result = ();
    type Error = Late;

    fn nonce(&mut self) -> Result<String, Late> {
        Ok("n".to_owned())
    }
    async fn intend(&mut self, _: &str) -> Result<(), Late> {
        self.done.push("intend");
        Ok(())
    }
    async fn find(&mut self, _: &str) -> Result<Option<()>, Late> {
        self.done.push("find");
        Ok(None)
    }
    fn confirmed(&self) -> Instant {
        self.confirmed.checked_sub(self.slept).unwrap()
    }
    async fn act(&mut self, _: &str) -> Result<(), Late> {
        self.done.push("act");
        Ok(())
    }
    async fn record(&mut self, (): &()) -> Result<(), Late> {
        self.done.push("record");
        Ok(())
    }
}

#[tokio::test]
async fn whoever_slept_between_an_intent_and_its_act_does_not_act() {
    for (pending, first) in [(None, "intend"), (Some("n"), "find")] {
        for (slept, acts) in [(Duration::ZERO, true), (FRESH + Duration::from_millis(1), false)] {
            let mut effect = Sleeper { slept, confirmed: Instant::now(), done: Vec::new() };
            let carried = carry_out(&mut effect, pending).await;
            assert_eq!(carried.is_ok(), acts, "{pending:?} {slept:?}");
            assert_eq!(effect.done, if acts { vec![first, "act", "record"] } else { vec![first] });
        }
    }
}
