//! A roll from its first step to its last, seen by pods and API server, under clocks that jump.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::json;

use super::authority::{self, Authority, ROLL};
use super::leaf::Wanted;
use super::roll::{self, SETTLES, Step};
use super::{Error, Kept, issue, usable};
use crate::controllers::tests::{absent, context};
use crate::runtime::clock::{Clock as _, SystemClock};
use crate::runtime::expiry::Expiries;
use crate::runtime::metrics::Metrics;

const NAME: &str = "broker.kustody.dev";

/// Whether a client that trusts this bundle takes the certificate for this name at this time.
pub(super) fn takes(bundle: &str, certificate: &str, name: &str, at: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle.as_bytes()).flatten());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let Ok(verifier) = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else { return false };
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap()));
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    verifier.verify_server_cert(&der, &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], at).is_ok()
}

fn entry(secret: &Secret, name: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[name].0.clone()).unwrap()
}

/// A cluster without an API server: the true time, what lies in Secrets, and pods with the bundle that each was given.
struct World {
    now: Timestamp,
    authority: Secret,
    leaf: Option<Secret>,
    /// What replicas serve and hand out: what lay in the Secret half a minute ago.
    served: Option<Secret>,
    pods: Vec<(Timestamp, String)>,
    /// What further live pods were given.
    strays: Vec<String>,
    steps: Vec<Step>,
}

const TICK: SignedDuration = SignedDuration::from_secs(10);
/// Three ticks.
const LATE: usize = 3;

impl World {
    fn new() -> Self {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let pair = issue::authority("kustody", None, now).unwrap();
        Self {
            now,
            authority: authority::first("kustody-ca", &pair),
            leaf: None,
            served: None,
            pods: Vec::new(),
            strays: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// One pass of the controller, whose clock is off by `skew`.
    fn pass(&mut self, skew: SignedDuration) -> Result<(), Error> {
        let now = self.now + skew;
        let authority = Authority::parse(self.authority.clone())?;
        authority.check(now)?;
        let (bundle, names) = (authority.bundle(), [NAME.to_owned()]);
        let wanted = Wanted { names: &names, signer: &authority.signer, common_name: "kustody", bundle: &bundle };
        let write = wanted.over(self.leaf.as_ref(), "leaf", now)?.write;
        let in_place = write.is_none();
        self.leaf = write.or_else(|| self.leaf.take());
        let mut step = roll::step(&authority.roll(), now, in_place, None);
        if step == Step::Count {
            let lagging = self
                .pods
                .iter()
                .map(|(_, given)| given)
                .chain(&self.strays)
                .filter(|given| !given.contains(authority.newest().trim()))
                .count();
            step = roll::step(&authority.roll(), now, in_place, Some(lagging));
        }
        if let Some(secret) = authority.after(step, "kustody", now)? {
            self.authority = secret;
            self.steps.push(step);
        }
        Ok(())
    }

    /// Runs for `ticks`; a pod is born at each and lives for `life`. All live pods must take what is served, all the time.
    fn run(&mut self, ticks: usize, life: SignedDuration, skew: impl Fn(usize) -> SignedDuration) {
        let mut past = Vec::new();
        for tick in 0..ticks {
            // A clock beyond the authority's life is refused, and nothing happens.
            let _ = self.pass(skew(tick));
            past.push(self.leaf.clone());
            self.served = past[past.len().saturating_sub(LATE)].clone().or_else(|| self.served.take());
            let Some(served) = &self.served else { continue };
            self.pods.push((self.now, entry(served, "ca.crt")));
            self.pods.retain(|(born, _)| self.now.duration_since(*born) < life);
            let certificate = entry(served, "tls.crt");
            // Most pods were given the same.
            for (given, born) in self.pods.iter().map(|(born, given)| (given, born)).collect::<BTreeMap<_, _>>() {
                assert!(takes(given, &certificate, NAME, self.now), "tick {tick}: the pod of {born} is cut off; {:?}", self.steps);
            }
            self.now += TICK;
        }
    }

    fn ask(&mut self, token: &str) {
        let annotations = self.authority.metadata.annotations.get_or_insert_default();
        annotations.insert(ROLL.to_owned(), token.to_owned());
    }
}

const WHOLE: [Step; 5] = [Step::Begin, Step::Stamp, Step::Switch, Step::Stamp, Step::Retire];
/// How far the controller's clock is off at a tick.
type Skew = fn(usize) -> SignedDuration;
const NO_SKEW: Skew = |_| SignedDuration::ZERO;

#[test]
fn an_authority_takes_over_without_a_gap_for_any_live_pod_and_once_for_each_request() {
    let mut world = World::new();
    let life = SignedDuration::from_mins(5);
    world.run(5, life, NO_SKEW);
    let old = entry(&world.authority, "ca.crt");
    world.ask("one");
    world.run(90, life, NO_SKEW);
    assert_eq!(world.steps, WHOLE);
    assert_ne!(entry(&world.authority, "ca.crt"), old);
    let entries: Vec<String> = world.authority.data.clone().unwrap().into_keys().collect();
    assert_eq!(entries, ["ca.crt", "ca.key"], "the old root and its key are gone");
    world.run(60, life, NO_SKEW);
    assert_eq!(world.steps.len(), WHOLE.len(), "a request is acted on once");
}

#[test]
fn what_is_asked_for_while_an_authority_takes_over_is_done_once_after_it() {
    let life = SignedDuration::from_mins(5);
    for asked_twice in [false, true] {
        let mut world = World::new();
        world.run(5, life, NO_SKEW);
        world.ask("one");
        world.run(3, life, NO_SKEW);
        assert_eq!(world.steps[0], Step::Begin);
        world.ask("two");
        if asked_twice {
            while world.steps.last() != Some(&Step::Switch) {
                world.run(1, life, NO_SKEW);
            }
            world.ask("three");
        }
        world.run(300, life, NO_SKEW);
        assert_eq!(world.steps, [WHOLE, WHOLE].concat());
    }
}

#[test]
fn the_old_root_stays_while_a_live_pod_was_given_it_alone() {
    let mut world = World::new();
    let life = SignedDuration::from_mins(5);
    world.run(5, life, NO_SKEW);
    world.ask("one");
    while world.steps.last() != Some(&Step::Switch) {
        world.run(1, life, NO_SKEW);
    }
    let old = entry(&world.authority, "old.crt");
    // A replica whose watch hangs goes on handing it out; the pod is not one that starts now, so nothing is cut off.
    world.strays.push(old.clone());
    world.run(60, life, NO_SKEW);
    assert!(Authority::parse(world.authority.clone()).unwrap().bundle().contains(old.trim()), "{:?}", world.steps);
    world.strays.clear();
    world.run(60, life, NO_SKEW);
    assert_eq!(world.steps, WHOLE);
}

#[test]
fn a_pod_that_lives_on_with_the_old_root_holds_the_new_one_back() {
    let mut world = World::new();
    world.run(5, SignedDuration::from_hours(9), NO_SKEW);
    world.ask("one");
    world.run(120, SignedDuration::from_hours(9), NO_SKEW);
    assert_eq!(world.steps, WHOLE[..2]);
}

#[test]
fn a_clock_that_jumps_cuts_nobody_off() {
    let year = SignedDuration::from_hours(365 * 24);
    let jumps: [(&str, Skew); 5] =
        [
            ("a year ahead for a while", |tick| {
                if (20..60).contains(&tick) { SignedDuration::from_hours(365 * 24) } else { SignedDuration::ZERO }
            }),
            ("into the overlap and back", |tick| {
                if (20..60).contains(&tick) { SignedDuration::from_hours(3400 * 24) } else { SignedDuration::ZERO }
            }),
            ("beyond the end", |tick| if tick > 20 { SignedDuration::from_hours(9000 * 24) } else { SignedDuration::ZERO }),
            ("back before the beginning", |tick| if tick > 20 { SignedDuration::from_hours(-900 * 24) } else { SignedDuration::ZERO }),
            ("to and fro", |tick| if tick % 2 == 0 { SignedDuration::from_secs(40) } else { SignedDuration::from_secs(-40) }),
        ];
    for (name, skew) in jumps {
        for asked in [false, true] {
            let mut world = World::new();
            world.run(10, SignedDuration::from_mins(5), NO_SKEW);
            if asked {
                world.ask("one");
            }
            world.run(150, SignedDuration::from_mins(5), skew);
            // Whatever the clock did, what is there is whole, and works a while later.
            world.now += year / 12;
            world.pods.clear();
            world.run(10, SignedDuration::from_mins(5), NO_SKEW);
            assert!(Authority::parse(world.authority.clone()).is_ok(), "{name}");
        }
    }
}

#[test]
fn an_authority_that_does_not_hold_now_issues_nothing_and_says_what_to_do() {
    let mut world = World::new();
    let error = world.pass(SignedDuration::from_hours(9000 * 24)).unwrap_err().to_string();
    for part in ["Secret kustody-ca", "ca.crt holds from 2026-02-28", "set the clock right", "delete the Secret"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(world.leaf.is_none());
}

#[test]
fn an_authority_that_has_ended_is_a_metric_though_nothing_is_issued() {
    let world = World::new();
    let authority = Authority::parse(world.authority.clone()).unwrap();
    let metrics = Metrics::default();
    usable(&authority, &Expiries::new(&metrics), authority.signer.validity.ends + SignedDuration::from_secs(1)).unwrap_err();
    let line = format!("{{certificate=\"authority\",source=\"issued\"}} {}\n", authority.signer.validity.ends.as_second());
    assert!(metrics.render().contains(&line), "{}", metrics.render());
}

#[test]
fn what_is_damaged_is_made_anew_but_never_the_authority() {
    let mut world = World::new();
    world.pass(SignedDuration::ZERO).unwrap();
    let good = world.leaf.clone().unwrap();
    for name in ["tls.crt", "tls.key"] {
        world.leaf.as_mut().unwrap().data.as_mut().unwrap().insert(name.to_owned(), ByteString(b"damaged".to_vec()));
        world.pass(SignedDuration::ZERO).unwrap();
        let healed = world.leaf.clone().unwrap();
        assert!(takes(&entry(&healed, "ca.crt"), &entry(&healed, "tls.crt"), NAME, world.now), "{name}");
        assert_ne!(entry(&healed, "tls.key"), entry(&good, "tls.key"));
    }
    for name in ["ca.crt", "ca.key"] {
        let mut damaged = world.authority.clone();
        damaged.data.as_mut().unwrap().remove(name);
        let error = Authority::parse(damaged).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("Secret kustody-ca") && error.contains("restore it"), "{error}");
    }
    let mut half = world.authority.clone();
    half.data.as_mut().unwrap().extend(BTreeMap::from([("next.crt".to_owned(), ByteString(b"damaged".to_vec()))]));
    assert!(Authority::parse(half).unwrap().next.is_none(), "a successor that nothing depends on");
}

#[test]
fn a_bundle_that_grows_keeps_the_certificate() {
    let mut world = World::new();
    world.pass(SignedDuration::ZERO).unwrap();
    let before = world.leaf.clone().unwrap();
    world.ask("one");
    for _ in 0..2 {
        world.pass(SignedDuration::ZERO).unwrap();
    }
    let after = world.leaf.clone().unwrap();
    assert_eq!(entry(&after, "tls.crt"), entry(&before, "tls.crt"));
    assert_eq!(entry(&after, "ca.crt").matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn what_settles_settles_longer_than_a_watch_may_pause() {
    // Five seconds are kube's, the rest is for connecting again.
    let pause = SignedDuration::from_secs(i64::from(crate::k8s::certificate::WATCH) + 5 + 5);
    assert!(SETTLES >= pause * 2 && SETTLES > TICK * i32::try_from(LATE).unwrap());
}

/// What one pass writes, when the authority is another from its `reads`-th reading on.
async fn written(reads: u32) -> (Result<(), Error>, Vec<String>) {
    let pair = issue::authority("kustody", None, SystemClock.now()).unwrap();
    let (secret, read) = (authority::first("kustody-ca", &pair), Arc::new(AtomicU32::new(0)));
    let (context, writes) = context(move |method, path, body| match (method, path) {
        (&Method::GET, path) if path.ends_with("/secrets/kustody-ca") => {
            let mut secret = secret.clone();
            secret.metadata.resource_version = Some(if read.fetch_add(1, Ordering::Relaxed) < reads { "1" } else { "2" }.to_owned());
            (200, serde_json::to_value(secret).unwrap())
        }
        (&Method::GET, path) if path.contains("/mutatingwebhookconfigurations/") => {
            (200, json!({"metadata": {"name": "m"}, "webhooks": [{"name": "w", "clientConfig": {}}]}))
        }
        (&Method::GET, _) => absent(),
        _ => (200, body.clone()),
    });
    let secrets = Api::namespaced(context.client.clone(), "kustody-system");
    let (mutating, validating) = (Api::all(context.client.clone()), Api::all(context.client.clone()));
    let done = Kept { context: &context, secrets, mutating, validating }.ensure().await.map(drop);
    let writes = std::mem::take(&mut *writes.lock().unwrap());
    (done, writes.into_iter().map(|(path, _)| path.rsplit('/').next().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn a_pass_that_slept_while_another_changed_the_authority_writes_nothing_by_the_former_one() {
    for (reads, least) in [(1, 0), (2, 1), (3, 2)] {
        let (done, writes) = written(reads).await;
        assert!(matches!(done, Err(Error::Moved { .. })) && writes.len() == least, "{reads}: {writes:?}");
    }
    let (done, writes) = written(u32::MAX).await;
    assert!(done.is_ok() && writes.len() == 3, "{done:?} {writes:?}");
}
