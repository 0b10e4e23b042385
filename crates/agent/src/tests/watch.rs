//! What a running pod's watch does with what it is told.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kustody_core::wire::Release;
use kustody_core::wire::watch::{AUTHORITIES_TYPE, Authorities, Known, MAX_BUNDLE, Revision, WatchRequest};
use tempfile::TempDir;

use super::broker::{Authority, Broker, give, http, refuse, values, withdrawn};
use super::{Still, pod};
use crate::deliver::deliver;
use crate::failure::Failure;
use crate::options::Options;
use crate::plan;
use crate::retry::Host;
use crate::watch::{Change, Listener, Watch};

/// As the watch is given it, but with a variable, which must make no difference.
const LIVE: &str = r#"{"version":1,"bindings":[{"name":"db","uid":"1","files":[
    {"path":"user","secret":"user","mode":292},{"path":"sub/password","secret":"password","mode":256}],
    "env":[{"name":"A","secret":"user"}]}]}"#;

#[derive(Default)]
struct Heard {
    still: Still,
    changes: Vec<(String, usize, String)>,
    answered: usize,
    trusted: Vec<usize>,
}

impl Host for Heard {
    fn elapsed(&self) -> Duration {
        self.still.elapsed()
    }

    fn sleep(&mut self, pause: Duration) {
        self.still.sleep(pause);
    }

    fn random(&mut self) -> u64 {
        0
    }

    fn waiting(&mut self, failure: &Failure) {
        self.still.waiting(failure);
    }
}

impl Listener for Heard {
    fn changed(&mut self, change: &Change<'_>) {
        let reasons: Vec<&str> = change.withdrawn.iter().map(|withdrawn| withdrawn.reason.as_str()).collect();
        self.changes.push((change.binding.to_owned(), change.files, reasons.join(" ")));
    }

    fn answering(&mut self) {
        self.answered += 1;
    }

    fn trusting(&mut self, authorities: usize) {
        self.trusted.push(authorities);
    }
}

fn revision(digit: char) -> String {
    digit.to_string().repeat(32)
}

/// A release of one state: both values, under the revision of this digit.
fn state(digit: char, user: &str, password: &str) -> Release {
    let revisions = vec![Revision { binding: "db".to_owned(), revision: revision(digit) }];
    Release { revisions, ..values(&[("db", "user", None, user), ("db", "password", None, password)]) }
}

/// An answer after which the connection is kept.
fn kept(reply: &[u8]) -> Vec<u8> {
    let end = b"connection: close\r\n";
    let at = reply.windows(end.len()).position(|part| part == end).unwrap();
    [&reply[..at], &reply[at + end.len()..]].concat()
}

fn nothing() -> Vec<u8> {
    b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
}

struct Pod {
    directory: TempDir,
    broker: Broker,
    options: Options,
}

impl Pod {
    /// With the files of the first state, as `init` leaves them.
    fn running(replies: Vec<Vec<u8>>) -> Self {
        let (directory, authority) = (pod(), Authority::new());
        let broker = Broker::start_keeping(&authority, replies);
        let options = Options { plan: LIVE.to_owned(), ..super::options(directory.path(), &authority, &broker) };
        deliver(&options, &plan::read(LIVE).unwrap(), &state('1', "one", "p1")).unwrap();
        Self { directory, broker, options }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn asked(&self) -> Vec<(usize, WatchRequest)> {
        let requests = self.broker.asked().into_iter();
        requests.map(|request| (request.connection, serde_json::from_str(&request.body).unwrap())).collect()
    }
}

fn known(seen: char, held: char) -> Vec<Known> {
    vec![Known { binding: "db".to_owned(), seen: Some(revision(seen)), held: Some(revision(held)) }]
}

#[test]
fn a_changed_value_is_swapped_in_over_one_connection_and_what_is_held_is_reported() {
    let pod = Pod::running(vec![nothing(), kept(&give(&state('2', "two", "p2"))), nothing()]);
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    (0..3).for_each(|_| watch.turn(&mut host));
    assert_eq!(host.changes, [("db".to_owned(), 2, String::new())]);
    assert_eq!((pod.read("files/db/user"), pod.read("files/db/sub/password")), ("two".to_owned(), "p2".to_owned()));
    assert_eq!(super::mode(&pod.at("files/db/sub/password")), 0o400);
    let asked = pod.asked();
    assert_eq!(asked.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 0, 0]);
    let reported: Vec<_> = asked.into_iter().map(|(_, request)| request.known).collect();
    assert_eq!(reported, [known('1', '1'), known('1', '1'), known('2', '2')]);
    assert!(host.still.waited_for.is_empty(), "{:?}", host.still.waited_for);
}

#[test]
fn an_environment_file_is_never_written_again_and_its_variables_are_not_asked_for() {
    let pod = Pod::running(vec![kept(&give(&state('2', "two", "p2")))]);
    Watch::new(&pod.options).unwrap().turn(&mut Heard::default());
    assert_eq!(pod.read("env/db/env"), "A='one'\n");
    assert_eq!(pod.read("files/db/user"), "two");
    assert_eq!(pod.asked()[0].1.plan.bindings[0].env, []);
}

#[test]
fn a_watch_that_was_started_again_knows_what_it_holds() {
    let pod = Pod::running(vec![kept(&give(&state('2', "two", "p2"))), nothing()]);
    Watch::new(&pod.options).unwrap().turn(&mut Heard::default());
    Watch::new(&pod.options).unwrap().turn(&mut Heard::default());
    assert_eq!(pod.asked()[1].1.known, known('2', '2'));
}

#[test]
fn files_of_an_agent_that_was_told_no_revision_are_asked_for_once() {
    let pod = Pod::running(vec![kept(&give(&state('2', "two", "p2"))), nothing()]);
    let unnamed = Release { revisions: Vec::new(), ..state('1', "one", "p1") };
    deliver(&pod.options, &plan::read(LIVE).unwrap(), &unnamed).unwrap();
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    (0..2).for_each(|_| watch.turn(&mut host));
    let reported: Vec<_> = pod.asked().into_iter().map(|(_, request)| request.known).collect();
    assert_eq!(reported, [vec![Known { binding: "db".to_owned(), ..Known::default() }], known('2', '2')]);
}

#[test]
fn what_is_withdrawn_is_named_and_its_file_stays_while_the_others_are_replaced() {
    let mut partial = state('2', "two", "");
    partial.values.retain(|value| value.secret == "user");
    partial.withdrawn.push(withdrawn("db", "password", "the grant is gone"));
    let all = Release { withdrawn: vec![withdrawn("db", "", "deleted; restore it")], ..state('3', "", "") };
    let gone = Release { values: Vec::new(), ..all };
    let pod = Pod::running(vec![kept(&give(&partial)), kept(&give(&gone)), nothing()]);
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    watch.turn(&mut host);
    assert_eq!((pod.read("files/db/user"), pod.read("files/db/sub/password")), ("two".to_owned(), "p1".to_owned()));
    let before = fs::read_link(pod.at("files/db/..data")).unwrap();
    (0..2).for_each(|_| watch.turn(&mut host));
    assert_eq!(fs::read_link(pod.at("files/db/..data")).unwrap(), before, "nothing was given, so nothing was swapped");
    let heard: Vec<_> = host.changes.iter().map(|(_, files, why)| (*files, why.as_str())).collect();
    assert_eq!(heard, [(1, "the grant is gone"), (0, "deleted; restore it")]);
    let reported: Vec<_> = pod.asked().into_iter().map(|(_, request)| request.known).collect();
    assert_eq!(reported, [known('1', '1'), known('2', '1'), known('3', '1')], "held is what all files are of");
}

#[test]
fn nothing_that_fails_ends_it_and_each_wait_is_longer() {
    let unnamed = Release { revisions: Vec::new(), ..state('2', "two", "p2") };
    let again = state('1', "one", "p1");
    let replies = vec![
        Vec::new(),
        http("404 Not Found", "text/plain", b""),
        refuse("403 Forbidden", "PodNotAlive", false),
        give(&unnamed),
        give(&again),
        nothing(),
        refuse("503 Service Unavailable", "Stopping", true),
    ];
    let pod = Pod::running(replies);
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    (0..5).for_each(|_| watch.turn(&mut host));
    for (cause, part) in host.still.waited_for.iter().zip(["no answer", "404", "PodNotAlive", "does not know", "does not know"]) {
        assert!(cause.contains(part), "{cause}");
    }
    assert_eq!(host.still.now, Duration::from_millis(500 + 1000 + 2000 + 4000 + 8000));
    watch.turn(&mut host);
    assert_eq!((host.answered, host.changes.len()), (1, 0));
    watch.turn(&mut host);
    assert_eq!(host.still.now, Duration::from_secs(16), "from the beginning after an answer");
    assert_eq!(pod.read("files/db/user"), "one");
}

#[test]
fn each_request_carries_the_token_that_the_kubelet_wrote_last() {
    let pod = Pod::running(vec![nothing()]);
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    watch.turn(&mut host);
    fs::write(pod.at("token"), "a.newer.token").unwrap();
    watch.turn(&mut host);
    let heads: Vec<_> = pod.broker.asked().into_iter().map(|request| request.head).collect();
    assert!(heads[0].starts_with("POST /v1/watch ") && heads[0].contains("Bearer the.pod.token\r\n"), "{}", heads[0]);
    assert!(heads[1].contains("Bearer a.newer.token\r\n"), "{}", heads[1]);
}

#[test]
fn a_volume_that_cannot_be_written_is_tried_again_and_the_files_stay() {
    let pod = Pod::running(vec![kept(&give(&state('2', "two", "p2")))]);
    let volume = pod.at("files/db");
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    let away = pod.at("away");
    fs::rename(&volume, &away).unwrap();
    watch.turn(&mut host);
    assert!(host.still.waited_for[0].contains("files/db"), "{:?}", host.still.waited_for);
    assert_eq!(fs::read_to_string(away.join("user")).unwrap(), "one");
    fs::rename(&away, &volume).unwrap();
    watch.turn(&mut host);
    assert_eq!(fs::read_to_string(volume.join("user")).unwrap(), "two");
}

#[test]
fn a_revision_is_never_a_path() {
    let mut wrong = state('2', "two", "p2");
    wrong.revisions[0].revision = "../../../etc/x00000000000000000".to_owned();
    let pod = Pod::running(vec![give(&wrong)]);
    let mut host = Heard::default();
    Watch::new(&pod.options).unwrap().turn(&mut host);
    assert!(host.still.waited_for[0].contains("does not know") && Path::new(&pod.at("files/db/user")).exists());
    assert_eq!(pod.read("files/db/user"), "one");
}

fn told(name: char, bundle: &str) -> Vec<u8> {
    let authorities = Authorities { name: revision(name), bundle: bundle.to_owned() };
    kept(&http("200 OK", AUTHORITIES_TYPE, &serde_json::to_vec(&authorities).unwrap()))
}

#[test]
fn a_watch_trusts_whom_the_broker_names_and_goes_on_after_two_rolls_without_a_restart() {
    let (first, second, third) = (Authority::new(), Authority::new(), Authority::new());
    let both = |one: &Authority, other: &Authority| format!("{}{}", one.pem, other.pem);
    let replies =
        vec![told('a', &first.pem), told('b', &both(&first, &second)), told('c', &both(&second, &third)), told('d', &third.pem), nothing()];
    let directory = pod();
    let broker = Broker::start_rolling(&[&first, &second, &third], replies);
    let options = Options { plan: LIVE.to_owned(), ..super::options(directory.path(), &first, &broker) };
    let (mut watch, mut host) = (Watch::new(&options).unwrap(), Heard::default());
    (0..5).for_each(|_| watch.turn(&mut host));
    drop(watch);
    assert!(host.still.waited_for.is_empty(), "{:?}", host.still.waited_for);
    assert_eq!(host.trusted, [2, 2, 1]);
    let asked = broker.asked();
    assert_eq!(asked.iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0, 1, 2, 3]);
    let last: WatchRequest = serde_json::from_str(&asked[4].body).unwrap();
    assert_eq!(last.authorities, Some(revision('d')));
    // By what it was given at its start it could not ask any more.
    let mut host = Heard::default();
    Watch::new(&options).unwrap().turn(&mut host);
    assert!(host.still.waited_for[0].contains("certificate") && broker.asked().is_empty(), "{:?}", host.still.waited_for);
}

#[test]
fn a_watch_takes_the_largest_bundle_that_a_broker_may_name() {
    let authority = Authority::new();
    let bundle = authority.pem.clone() + &"\n".repeat(MAX_BUNDLE - authority.pem.len());
    let pod = Pod::running(vec![told('a', &bundle), nothing()]);
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    watch.turn(&mut host);
    assert!(host.still.waited_for.is_empty() && host.trusted == [1], "{:?}", host.still.waited_for);
}

#[test]
fn authorities_that_cannot_be_used_leave_those_in_force() {
    let nameless = |text: &str| kept(&http("200 OK", AUTHORITIES_TYPE, text.as_bytes()));
    let pod = Pod::running(vec![told('a', "nonsense"), nameless(r#"{"name": "x", "bundle": ""}"#), nameless("{"), nothing()]);
    let (mut watch, mut host) = (Watch::new(&pod.options).unwrap(), Heard::default());
    (0..4).for_each(|_| watch.turn(&mut host));
    for (cause, part) in host.still.waited_for.iter().zip(["cannot be used", "does not know", "cannot be read"]) {
        assert!(cause.contains(part), "{cause}");
    }
    assert!(host.trusted.is_empty() && host.answered == 1);
    assert!(pod.asked().into_iter().all(|(_, request)| request.authorities == Some(String::new())));
}
