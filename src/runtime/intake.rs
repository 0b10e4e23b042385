//! Takes request bodies in: bounded in size, in time, and in what all of them hold together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a body may take to arrive.
const ARRIVES: Duration = Duration::from_secs(4);
/// How long what has arrived waits for room: others go within milliseconds, or hold it too long to wait for.
const WAITS: Duration = Duration::from_secs(1);
/// What the smallest request counts as once it is whole: bounds how many are worked on at once.
const LEAST: usize = 64 * 1024;
const KIB: usize = 1024;

/// Room for bodies; clones share it.
#[derive(Clone)]
pub struct Intake {
    room: Arc<Semaphore>,
    most: usize,
    arrives: Duration,
    waits: Duration,
}

/// A body that holds its room until it is dropped.
pub struct Taken {
    /// The body.
    pub bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Intake {
    /// Room for `all` bytes together, of which one body has at most `most`.
    pub fn new(all: usize, most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(all / KIB)), most, arrives: ARRIVES, waits: WAITS }
    }

    /// The whole body, or the answer of one who has no room for it.
    pub async fn take(&self, body: Body) -> Result<Taken, Response> {
        if body.size_hint().lower() > u64::try_from(self.most).unwrap_or(u64::MAX) {
            return Err(self.too_large());
        }
        let late = |_| refusal(StatusCode::REQUEST_TIMEOUT, format!("the request did not arrive within {} s", self.arrives.as_secs()));
        tokio::time::timeout(self.arrives, self.gather(body)).await.map_err(late)?
    }

    /// Room is taken for what has arrived, never for what is announced: whoever only announces would keep others out.
    async fn gather(&self, body: Body) -> Result<Taken, Response> {
        let (mut parts, mut bytes, mut held) = (body.into_data_stream(), Vec::new(), None);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| refusal(StatusCode::BAD_REQUEST, "the request broke off before its end".to_owned()))?;
            if part.len() > self.most - bytes.len() {
                return Err(self.too_large());
            }
            self.hold(&mut held, bytes.len() + part.len()).await?;
            bytes.extend_from_slice(&part);
        }
        self.hold(&mut held, bytes.len().max(LEAST)).await?;
        Ok(Taken { bytes: bytes.into(), _room: held })
    }

    /// Makes what is held enough for `bytes`.
    async fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Response> {
        let more = bytes.div_ceil(KIB).saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let more = Arc::clone(&self.room).acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX));
        let Ok(Ok(more)) = tokio::time::timeout(self.waits, more).await else {
            return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "as many requests are held as there is room for; try again".to_owned()));
        };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }

    fn too_large(&self) -> Response {
        refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the request has more than {} bytes", self.most))
    }
}

fn refusal(status: StatusCode, why: String) -> Response {
    tracing::debug!(%status, why, "shed a request");
    (status, why).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::{Body, Bytes};
    use axum::http::StatusCode;
    use axum::response::Response;
    use futures::{StreamExt as _, stream};

    use super::{Intake, LEAST};

    fn intake(all: usize, most: usize) -> Intake {
        Intake { waits: Duration::from_millis(50), ..Intake::new(all, most) }
    }

    async fn said(refused: Response) -> String {
        String::from_utf8(axum::body::to_bytes(refused.into_body(), 1000).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_finds_no_room_within_its_wait_is_refused_and_room_comes_back() {
        let intake = intake(4 * LEAST, 2 * LEAST);
        let small = || Body::from("{}");
        let large = || Body::from(vec![b' '; 2 * LEAST]);
        let held = [intake.take(large()).await.ok().unwrap(), intake.take(small()).await.ok().unwrap()];
        let refused = intake.take(large()).await.err().unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(said(refused).await, "as many requests are held as there is room for; try again");
        let last = intake.take(small()).await.ok().unwrap();
        assert_eq!(last.bytes, "{}");
        assert_eq!(intake.take(small()).await.err().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
        assert!(intake.take(large()).await.is_ok());
    }

    #[tokio::test]
    async fn what_waits_for_room_is_taken_when_room_comes() {
        let intake = Intake { waits: Duration::from_mins(1), arrives: Duration::from_mins(1), ..Intake::new(LEAST, LEAST) };
        let held = intake.take(Body::from("{}")).await.ok().unwrap();
        let waiting = intake.take(Body::from("{}"));
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(held);
        assert_eq!(waiting.await.ok().unwrap().bytes, "{}");
    }

    #[tokio::test]
    async fn bodies_that_are_announced_and_do_not_come_keep_nobody_out() {
        let intake = intake(4 * LEAST, 2 * LEAST);
        let silent: Vec<_> = (0..100).map(|_| Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())).collect();
        let mut silent: Vec<_> = silent.into_iter().map(|body| Box::pin(intake.take(body))).collect();
        for taking in &mut silent {
            assert!(futures::poll!(taking).is_pending());
        }
        assert!(intake.take(Body::from(vec![b' '; 2 * LEAST])).await.is_ok());
    }

    #[tokio::test]
    async fn bodies_that_come_in_part_hold_what_has_come_and_no_more_than_there_is() {
        let intake = intake(4 * LEAST, 4 * LEAST);
        let half = || {
            let part = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 2 * LEAST]))]);
            Body::from_stream(part.chain(stream::pending()))
        };
        let (mut first, mut second) = (Box::pin(intake.take(half())), Box::pin(intake.take(half())));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        assert_eq!(intake.take(half()).await.err().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(intake.take(Body::from(vec![b' '; 2 * LEAST])).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_said_to_have_broken_off() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]);
        let refused = intake(LEAST, LEAST).take(Body::from_stream(broken)).await.err().unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert_eq!(said(refused).await, "the request broke off before its end");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_whether_it_says_so_or_not() {
        let intake = Intake::new(8 * LEAST, LEAST);
        let silent = Body::from_stream(stream::iter((0..=LEAST).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b" ")))));
        for body in [Body::from(vec![b' '; LEAST + 1]), silent] {
            let refused = intake.take(body).await.err().unwrap();
            assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(said(refused).await, "the request has more than 65536 bytes");
        }
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_given_up() {
        let intake = Intake { arrives: Duration::from_secs(1), ..Intake::new(8 * LEAST, LEAST) };
        let drop_by_drop = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        let refused = intake.take(Body::from_stream(drop_by_drop)).await.err().unwrap();
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(said(refused).await, "the request did not arrive within 1 s");
    }
}
