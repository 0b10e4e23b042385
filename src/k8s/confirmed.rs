//! When the API server last took each watch up: a cache whose watch it does not take up any more may be as old as that.
//!
//! A reflector does not say so itself: on a quiet kind it hears nothing for minutes, whether or not somebody is there. So these
//! watches are short, and each beginning is noted on its way through the client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher;
use tokio::time::Instant;

/// After so many seconds the API server ends a watch, and five later at most the watcher takes it for dead.
const LASTS: u32 = 25;

/// The newest beginning of each watch; clones share it.
#[derive(Clone, Default)]
pub struct Confirmed(Arc<Mutex<BTreeMap<&'static str, Option<Instant>>>>);

impl Confirmed {
    /// A client that notes each beginning of the watch of this name, of which there is none yet.
    pub fn noting(&self, name: &'static str, client: &Client) -> Client {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, None);
        let (confirmed, client) = (self.clone(), client.clone());
        let namespace = client.default_namespace().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (confirmed, client) = (confirmed.clone(), client.clone());
            async move {
                // A list alone does not count: of one in pages the last may never come.
                let watches = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
                // What was asked for before it is no older than the question.
                let asked = Instant::now();
                let response = client.send(request).await?;
                if watches && response.status().is_success() {
                    confirmed.note(name, asked);
                }
                Ok::<_, kube::Error>(response)
            }
        });
        Client::new(service, namespace)
    }

    /// How such a watch is asked for.
    pub fn config() -> watcher::Config {
        watcher::Config::default().any_semantic().timeout(LASTS)
    }

    fn note(&self, name: &'static str, at: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Some(at));
    }

    /// The watch that began longest ago, if that is longer than `after` or if it never did.
    pub fn stale(&self, now: Instant, after: Duration) -> Option<&'static str> {
        let watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, at) = watches.iter().min_by_key(|(_, at)| **at)?;
        at.is_none_or(|at| now.saturating_duration_since(at) > after).then_some(*name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::{Response, StatusCode};
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::k8s::cache::Watches;
    use crate::runtime::readiness::Readiness;

    const AFTER: Duration = Duration::from_mins(1);

    /// An API server that lists, and takes up so many watches, each of which ends at once without a word.
    fn api_server(watches: usize, asked: &Arc<AtomicUsize>) -> Client {
        let asked = Arc::clone(asked);
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                let refused = watch && asked.fetch_add(1, Ordering::Relaxed) >= watches;
                async move {
                    let list = r#"{"apiVersion": "v1", "kind": "NamespaceList", "metadata": {"resourceVersion": "1"}, "items": []}"#;
                    let text = if watch { "" } else { list };
                    let status = if refused { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                    Ok::<_, kube::Error>(Response::builder().status(status).body(Body::from(text.as_bytes().to_vec())).unwrap())
                }
            }),
            "default",
        )
    }

    /// Runs a cache until that many watches were asked for.
    async fn until(asks: usize, taken: usize, confirmed: &Confirmed) {
        let asked = Arc::default();
        let watches = Watches { readiness: Readiness::default(), tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let client = confirmed.noting("namespaces", &api_server(taken, &asked));
        let store = watches.start("namespaces", Api::<Namespace>::all(client), Confirmed::config(), |_| {});
        while asked.load(Ordering::Relaxed) < asks {
            // As those do who look in passing.
            let _ = futures::FutureExt::now_or_never(store.wait_until_ready());
            tokio::task::yield_now().await;
        }
        assert!(watches.readiness.waiting().is_empty(), "whoever looks whether a cache is filled keeps nobody from being ready");
        watches.stop.cancel();
        watches.tasks.close();
        watches.tasks.wait().await;
    }

    #[tokio::test]
    async fn a_watch_that_is_taken_up_again_is_confirmed_though_it_says_nothing() {
        let confirmed = Confirmed::default();
        until(2, usize::MAX, &confirmed).await;
        let now = Instant::now();
        assert_eq!(confirmed.stale(now, AFTER), None);
        assert_eq!(confirmed.stale(now + AFTER + Duration::from_secs(1), AFTER), Some("namespaces"));
    }

    #[tokio::test]
    async fn a_list_and_a_watch_that_is_refused_confirm_nothing() {
        let confirmed = Confirmed::default();
        assert_eq!(confirmed.stale(Instant::now(), AFTER), None, "there is no watch");
        until(1, 0, &confirmed).await;
        assert_eq!(confirmed.stale(Instant::now(), AFTER), Some("namespaces"));
    }

    #[test]
    fn one_watch_that_is_old_is_enough_and_is_named() {
        let (confirmed, now) = (Confirmed::default(), Instant::now());
        confirmed.note("pods", now);
        confirmed.note("bindings", now + Duration::from_secs(30));
        assert_eq!(confirmed.stale(now + AFTER, AFTER), None);
        assert_eq!(confirmed.stale(now + AFTER + Duration::from_secs(1), AFTER), Some("pods"));
        confirmed.note("pods", now + Duration::from_secs(31));
        assert_eq!(confirmed.stale(now + AFTER + Duration::from_secs(1), AFTER), None);
    }
}
