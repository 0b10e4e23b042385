//! Follows the Secret of a role's own certificate and puts each renewal in force.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use kustody_core::wire::watch::MAX_BUNDLE;

use super::backoff::of_watches;
use crate::runtime::expiry::Source;
use crate::runtime::process::Process;
use crate::runtime::readiness::Token;
use crate::runtime::tls::{self, Certificate};
use crate::runtime::validity::Validity;

/// What the Secret holds, always the newest.
#[derive(Clone)]
pub struct Followed {
    /// For the server; serves nothing until there is one.
    pub certificate: Certificate,
    /// PEM of every authority that is trusted: more than one while one takes over from another.
    pub authority: Arc<ArcSwapOption<String>>,
}

/// Seconds after which the API server ends a watch; five later kube gives a silent connection up. What is in force may be this
/// old, and the roll of an authority waits longer (`certificates::roll::SETTLES`).
pub const WATCH: u32 = 20;

/// Shortest and longest time until a certificate that is not valid yet is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

fn watch(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH)
}

/// Follows Secret `name`, which holds the certificate of `role`; the process is not ready before its first usable content.
///
/// A pair that cannot be used, has ended, or lacks one of `names` leaves the one in force: whoever is ready can be reached under
/// all of them. Requires in `namespace`, by that one name:
/// `secrets: get, list, watch`.
pub fn follow(client: Client, namespace: &str, role: &'static str, name: &str, names: Vec<String>, process: &Process) -> Followed {
    let target = Followed { certificate: Certificate::default(), authority: Arc::default() };
    let changes = watcher(Api::<Secret>::namespaced(client, namespace), watch(name))
        .backoff(of_watches())
        .applied_objects()
        .take_until(process.stop.clone().cancelled_owned());
    let mut follower = Follower {
        role,
        name: name.to_owned(),
        names,
        target: target.clone(),
        waiting: Some(process.readiness.register(format!("certificate in Secret {name}"))),
        in_force: None,
        process: process.clone(),
    };
    process.tasks.spawn(async move {
        tokio::pin!(changes);
        let mut early: Option<(Secret, Duration)> = None;
        loop {
            let change = match &early {
                None => changes.next().await,
                Some((secret, wait)) => match tokio::time::timeout(*wait, changes.next()).await {
                    Ok(change) => change,
                    Err(_) => Some(Ok(secret.clone())),
                },
            };
            match change {
                Some(Ok(secret)) => early = follower.take(&secret).map(|wait| (secret, wait)),
                Some(Err(error)) => tracing::warn!(%error, secret = follower.name, "watch of the certificate failed, retrying"),
                None => break,
            }
        }
        // Ended before there was one: the process stops, and was never ready.
        std::mem::forget(follower.waiting);
    });
    target
}

struct Follower {
    role: &'static str,
    name: String,
    names: Vec<String>,
    target: Followed,
    waiting: Option<Token>,
    in_force: Option<Validity>,
    process: Process,
}

impl Follower {
    /// Puts what the Secret holds in force; answers after which time to try it again, when it is not valid yet: another's clock may
    /// be ahead of ours, and nothing else would tell of it once more.
    fn take(&mut self, secret: &Secret) -> Option<Duration> {
        let name = &self.name;
        let entry = |entry| secret.data.as_ref().and_then(|data| data.get(entry)).map(|ByteString(bytes)| bytes.as_slice());
        let (Some(certificate), Some(key), Some(authority)) = (entry("tls.crt"), entry("tls.key"), entry("ca.crt")) else {
            tracing::warn!(secret = name, "the Secret lacks tls.crt, tls.key or ca.crt; the certificate in force stays");
            return None;
        };
        if authority.len() > MAX_BUNDLE {
            let size = authority.len();
            tracing::warn!(
                secret = name,
                size,
                most = MAX_BUNDLE,
                "ca.crt is larger than pods can be given; the certificate in force stays; take out what nothing needs"
            );
            return None;
        }
        let now = self.process.clock.now();
        let holds = |validity: Option<Validity>| validity.is_some_and(|validity| validity.holds(now));
        let validity = Validity::of_pem(certificate);
        if holds(self.in_force) && !holds(validity) {
            tracing::warn!(secret = name, ends = ?validity.map(|validity| validity.ends), "the Secret's certificate does not hold now; the one in force stays");
            let begins = validity.map(|validity| validity.begins).filter(|begins| *begins > now);
            return begins.map(|begins| begins.duration_since(now).unsigned_abs().clamp(AGAIN.0, AGAIN.1));
        }
        // Agents are handed this authority alone: with one that does not vouch for what is served, every pod would be cut off.
        // One that does not hold now, for want of another in force, is judged by the time at which it would.
        let at = validity.map_or(now, |validity| now.clamp(validity.begins, validity.ends));
        let vouched = tls::vouched(authority, certificate, at).and_then(|()| tls::answers_to(certificate, &self.names));
        if let Err(error) = vouched.and_then(|()| self.target.certificate.replace(certificate, key)) {
            tracing::warn!(%error, secret = name, "the Secret holds no usable certificate; the one in force stays");
            return None;
        }
        self.target.authority.store(Some(Arc::new(String::from_utf8_lossy(authority).into_owned())));
        self.in_force = validity;
        self.process.expiries.set(self.role, Source::Served, validity.map(|validity| validity.ends));
        tracing::info!(secret = name, ends = ?validity.map(|validity| validity.ends), "serving with the certificate");
        drop(self.waiting.take());
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use rcgen::{CertificateParams, KeyPair};

    use super::{AGAIN, Followed, Follower, MAX_BUNDLE, WATCH, watch};
    use crate::runtime::clock::Clock;
    use crate::runtime::process::Process;

    /// Seconds since 1970.
    struct At(AtomicI64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0.load(Relaxed)).unwrap()
        }
    }

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn follower() -> Follower {
        at(Arc::new(At(AtomicI64::new(now().as_second()))))
    }

    fn at(clock: Arc<At>) -> Follower {
        let process = Process::new(clock);
        let target = Followed { certificate: crate::runtime::tls::Certificate::default(), authority: Arc::default() };
        let waiting = Some(process.readiness.register("certificate"));
        let names = vec!["a".to_owned()];
        Follower { role: "broker", name: "kustody-broker-tls".to_owned(), names, target, waiting, in_force: None, process }
    }

    /// A Secret whose certificate ends that many days from now and vouches for itself; its `ca.crt` goes on with `more`.
    fn secret(days: i64, more: &str) -> Secret {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        let day = |days: i64| {
            let date = (now() + SignedDuration::from_hours(days * 24)).to_zoned(jiff::tz::TimeZone::UTC).date();
            rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
        };
        (parameters.not_before, parameters.not_after) = (day(-100), day(days));
        let certificate = parameters.self_signed(&key).unwrap().pem();
        let authority = format!("{certificate}{more}");
        let data = [("tls.crt", certificate), ("tls.key", key.serialize_pem()), ("ca.crt", authority)];
        Secret { data: Some(data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).into()), ..Secret::default() }
    }

    fn with(mut secret: Secret, entry: &str, content: &[u8]) -> Secret {
        secret.data.as_mut().unwrap().insert(entry.to_owned(), ByteString(content.to_vec()));
        secret
    }

    fn in_secret(secret: &Secret) -> String {
        String::from_utf8(secret.data.as_ref().unwrap()["ca.crt"].0.clone()).unwrap()
    }

    fn authority(follower: &Follower) -> String {
        follower.target.authority.load_full().map(|text| text.as_ref().clone()).unwrap_or_default()
    }

    #[test]
    fn a_renewal_is_in_force_at_once_and_its_end_is_a_metric() {
        let mut follower = follower();
        let other = in_secret(&secret(90, ""));
        for secret in [secret(10, ""), secret(80, &other)] {
            follower.take(&secret);
            assert_eq!(authority(&follower), in_secret(&secret));
            let ends = follower.in_force.unwrap().ends.as_second();
            let metric = format!("kustody_certificate_expiry_timestamp_seconds{{certificate=\"broker\",source=\"served\"}} {ends}\n");
            let rendered = follower.process.metrics.render();
            assert!(rendered.contains(&metric), "{metric}{rendered}");
        }
        assert!(follower.process.readiness.waiting().is_empty());
    }

    #[test]
    fn a_damaged_or_ended_certificate_leaves_the_one_in_force() {
        let mut follower = follower();
        let good = secret(10, "");
        follower.take(&good);
        for bad in [with(secret(80, ""), "tls.key", b"nothing"), secret(-10, ""), Secret::default()] {
            follower.take(&bad);
            assert_eq!(authority(&follower), in_secret(&good));
        }
        let next = secret(80, "");
        follower.take(&next);
        assert_eq!(authority(&follower), in_secret(&next));
    }

    #[test]
    fn an_authority_that_is_damaged_or_does_not_vouch_for_the_certificate_leaves_both_in_force() {
        let mut follower = follower();
        let good = secret(10, "");
        follower.take(&good);
        let ends = follower.in_force;
        let of_another = in_secret(&secret(80, ""));
        let half = "-----BEGIN CERTIFICATE-----\nMIIB\n";
        for (name, bad) in [
            ("empty", with(secret(80, ""), "ca.crt", b"")),
            ("no text", with(secret(80, ""), "ca.crt", b"\xff\xfe")),
            ("no PEM", with(secret(80, ""), "ca.crt", b"nothing")),
            ("another's", with(secret(80, ""), "ca.crt", of_another.as_bytes())),
            ("damaged at its end", secret(80, half)),
            ("in part no certificate", secret(80, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")),
            ("larger than pods can be given", secret(80, &"\n".repeat(MAX_BUNDLE))),
        ] {
            follower.take(&bad);
            assert_eq!((authority(&follower), follower.in_force), (in_secret(&good), ends), "{name}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_valid_yet_by_our_clock_is_tried_again_and_one_that_has_ended_is_not() {
        let clock = Arc::new(At(AtomicI64::new(now().as_second())));
        let mut follower = at(Arc::clone(&clock));
        follower.take(&secret(10, ""));
        assert_eq!(follower.take(&secret(-10, "")), None);
        let next = secret(80, "");
        let begins = crate::runtime::validity::Validity::of_pem(in_secret(&next).as_bytes()).unwrap().begins;
        let mut follower = at(Arc::clone(&clock));
        clock.0.store(begins.as_second() - 3, Relaxed);
        follower.in_force = Some(crate::runtime::validity::Validity { begins: begins - SignedDuration::from_hours(24), ends: now() });
        assert_eq!(follower.take(&next), Some(Duration::from_secs(3)));
        assert_eq!(authority(&follower), "");
        clock.0.store(begins.as_second() - 86_400, Relaxed);
        assert_eq!(follower.take(&next), Some(AGAIN.1), "a clock may be set right at any time");
        clock.0.store(begins.as_second(), Relaxed);
        assert_eq!(follower.take(&next), None);
        assert_eq!(authority(&follower), in_secret(&next));
    }

    #[test]
    fn a_watch_ends_before_what_is_in_force_can_be_older_than_a_roll_waits() {
        assert_eq!(watch("kustody-broker-tls").timeout, Some(WATCH));
    }

    #[test]
    fn a_certificate_that_lacks_a_name_is_not_served_and_nobody_is_ready_by_it() {
        let mut follower = follower();
        follower.names.push("b".to_owned());
        follower.take(&secret(10, ""));
        assert_eq!((authority(&follower).as_str(), follower.process.readiness.waiting().len()), ("", 1));
        follower.names.pop();
        follower.take(&secret(10, ""));
        assert!(follower.process.readiness.waiting().is_empty());
    }

    #[test]
    fn nobody_is_ready_without_a_certificate() {
        let mut follower = follower();
        follower.take(&Secret::default());
        assert_eq!(follower.process.readiness.waiting(), ["certificate"]);
    }
}
