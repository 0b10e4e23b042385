//! Takes request bodies in: bounded in size, in time, and in what all of them hold together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a body may take to arrive.
const ARRIVES: Duration = Duration::from_secs(4);
/// What the smallest request counts as: bounds how many are worked on at once.
const LEAST: usize = 64 * 1024;
const KIB: usize = 1024;

/// Room for bodies; clones share it.
#[derive(Clone)]
pub struct Intake {
    room: Arc<Semaphore>,
    most: usize,
    arrives: Duration,
}

/// A body that holds its room until it is dropped.
pub struct Taken {
    /// The body.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Intake {
    /// Room for `all` bytes together, of which one body has at most `most`.
    pub fn new(all: usize, most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(all / KIB)), most, arrives: ARRIVES }
    }

    /// The whole body, or at once the answer of one who has no room for it.
    pub async fn take(&self, body: Body) -> Result<Taken, Response> {
        let said = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
        let too_large = || refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the request has more than {} bytes", self.most));
        if said.is_some_and(|bytes| bytes > self.most) {
            return Err(too_large());
        }
        // Who does not say how much is coming is given the most.
        let room = said.unwrap_or(self.most).max(LEAST).div_ceil(KIB);
        let room = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(room).unwrap_or(u32::MAX));
        let room =
            room.map_err(|_| refusal(StatusCode::SERVICE_UNAVAILABLE, "as many requests are held as there is room for".to_owned()))?;
        match tokio::time::timeout(self.arrives, to_bytes(body, self.most)).await {
            Ok(Ok(bytes)) => Ok(Taken { bytes, _room: room }),
            Ok(Err(_)) => Err(too_large()),
            Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, format!("the request did not arrive within {} s", self.arrives.as_secs()))),
        }
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
    use futures::stream;

    use super::{Intake, LEAST};

    #[tokio::test]
    async fn what_has_no_room_is_refused_at_once_and_room_comes_back() {
        let intake = Intake::new(4 * LEAST, 2 * LEAST);
        let small = || Body::from("{}");
        let large = || Body::from(vec![b' '; 2 * LEAST]);
        let held = [intake.take(large()).await.ok().unwrap(), intake.take(small()).await.ok().unwrap()];
        assert_eq!(intake.take(large()).await.err().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        let last = intake.take(small()).await.ok().unwrap();
        assert_eq!(last.bytes, "{}");
        assert_eq!(intake.take(small()).await.err().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
        assert!(intake.take(large()).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_whether_it_says_so_or_not() {
        let intake = Intake::new(8 * LEAST, LEAST);
        let silent = Body::from_stream(stream::iter((0..=LEAST).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b" ")))));
        for body in [Body::from(vec![b' '; LEAST + 1]), silent] {
            assert_eq!(intake.take(body).await.err().unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_given_up() {
        let intake = Intake { arrives: Duration::from_millis(200), ..Intake::new(8 * LEAST, LEAST) };
        let drop_by_drop = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        assert_eq!(intake.take(Body::from_stream(drop_by_drop)).await.err().unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
