//! Runs of the agent against a broker of the test's own, in directories of the test's own, without waiting.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use kustody_core::wire::{self, RELEASE_TYPE};
use rustls::NamedGroup;
use tempfile::TempDir;

use self::broker::{Authority, Broker, give, http, refuse, refuse_with, values, withdrawn};
use crate::failure::{Failure, GivenUp};
use crate::options::Options;
use crate::retry::Host;
use crate::{Delivered, init};

mod broker;
mod delivery;
mod watch;

/// A value that must not be found in any message.
const CANARY: &str = "canary-Zr8kQ2vX";
const PLAN: &str = r#"{"version":1,"bindings":[
    {"name":"db","uid":"1","files":[{"path":"pgpass","secret":"password","mode":256},
                                    {"path":"tls/deep/key","secret":"tls","property":"key","mode":416}],
     "env":[{"name":"PGUSER","secret":"user"},{"name":"PGPASSWORD","secret":"password"}]},
    {"name":"hub","uid":"2","files":[{"path":"token","secret":"token","mode":292}]}]}"#;

/// Time that passes only while the agent sleeps.
#[derive(Default)]
struct Still {
    now: Duration,
    waited_for: Vec<String>,
    /// A sleep takes at least this long.
    at_least: Duration,
    /// What happens elsewhere while the agent waits.
    meanwhile: Option<Box<dyn Fn()>>,
}

impl Host for Still {
    fn elapsed(&self) -> Duration {
        self.now
    }

    fn sleep(&mut self, pause: Duration) {
        self.now += pause.max(self.at_least);
    }

    fn random(&mut self) -> u64 {
        999
    }

    fn waiting(&mut self, failure: &Failure) {
        self.waited_for.push(failure.to_string());
        self.meanwhile.iter().for_each(|happens| happens());
    }
}

/// The pod: volumes of both bindings and a token.
fn pod() -> TempDir {
    let pod = TempDir::new().unwrap();
    for volume in ["files/db", "files/hub", "env/db"] {
        fs::create_dir_all(pod.path().join(volume)).unwrap();
    }
    fs::write(pod.path().join("token"), "the.pod.token\n").unwrap();
    pod
}

fn options(pod: &Path, authority: &Authority, broker: &Broker) -> Options {
    Options {
        plan: PLAN.to_owned(),
        broker: broker.address,
        authorities: vec![authority.certificate.clone()],
        deadline: Duration::from_mins(2),
        token: pod.join("token"),
        files: pod.join("files"),
        env: pod.join("env"),
    }
}

fn everything() -> wire::Release {
    values(&[
        ("db", "password", None, CANARY),
        ("db", "tls", Some("key"), "key\nof two lines"),
        ("db", "tls", None, "not asked for"),
        ("db", "user", None, "me"),
        ("hub", "token", None, "hf_1"),
        ("other", "token", None, "not asked for"),
    ])
}

/// One run against these replies.
fn run(replies: Vec<Vec<u8>>) -> (TempDir, Broker, Still, Result<Delivered, GivenUp>) {
    let (pod, authority) = (pod(), Authority::new());
    let broker = Broker::start(&authority, replies);
    let mut host = Still::default();
    let outcome = init(&options(pod.path(), &authority, &broker), &mut host);
    (pod, broker, host, outcome)
}

/// The message of a run that gave up; nothing may have been delivered.
fn gives_up(replies: Vec<Vec<u8>>) -> String {
    let (pod, _, _, outcome) = run(replies);
    nothing_in(pod.path());
    let message = outcome.unwrap_err().message();
    assert!(!message.contains(CANARY) && !message.contains("the.pod.token"), "{message}");
    message
}

fn nothing_in(pod: &Path) {
    for volume in ["files/db", "files/hub", "env/db"] {
        assert_eq!(fs::read_dir(pod.join(volume)).unwrap().count(), 0, "{volume}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_modes_and_variables_are_delivered_as_planned() {
    let (pod, broker, _, outcome) = run(vec![give(&everything())]);
    assert_eq!(outcome.unwrap(), Delivered { bindings: 2, files: 3, variables: 2 });
    let db = pod.path().join("files/db");
    assert_eq!(fs::read_to_string(db.join("pgpass")).unwrap(), CANARY);
    assert_eq!(fs::read_to_string(db.join("tls/deep/key")).unwrap(), "key\nof two lines");
    assert_eq!(fs::read_to_string(pod.path().join("files/hub/token")).unwrap(), "hf_1");
    assert_eq!(["pgpass", "tls/deep/key", "tls/deep", "."].map(|path| mode(&db.join("..data").join(path))), [0o400, 0o640, 0o755, 0o755]);
    let env = pod.path().join("env/db/env");
    assert_eq!(fs::read_to_string(&env).unwrap(), format!("PGUSER='me'\nPGPASSWORD='{CANARY}'\n"));
    assert_eq!(mode(&env), 0o444);
    assert_eq!(fs::read_dir(pod.path().join("env/db")).unwrap().count(), 1);

    let request = broker.asked().pop().unwrap();
    assert!(request.head.starts_with("POST /v1/release HTTP/1.1\r\n"), "{}", request.head);
    assert!(request.head.contains("authorization: Bearer the.pod.token\r\n"), "{}", request.head);
    assert!(request.head.contains("accept: application/vnd.kustody.release;revisions=1\r\n"), "{}", request.head);
    assert_eq!(request.body, PLAN);
    assert_eq!(request.group, NamedGroup::X25519MLKEM768);
}

#[test]
fn a_broker_of_another_authority_gets_no_token() {
    let (pod, authority) = (pod(), Authority::new());
    let broker = Broker::start(&Authority::new(), vec![give(&everything())]);
    let message = init(&options(pod.path(), &authority, &broker), &mut Still::default()).unwrap_err().message();
    assert!(message.contains("certificate"), "{message}");
    assert!(broker.asked().is_empty());
    nothing_in(pod.path());
}

#[test]
fn a_broker_of_another_name_gets_no_token() {
    let (pod, authority) = (pod(), Authority::new());
    let broker = Broker::start_as("webhook.kustody.dev", &authority, vec![give(&everything())]);
    let message = init(&options(pod.path(), &authority, &broker), &mut Still::default()).unwrap_err().message();
    assert!(message.contains("certificate"), "{message}");
    assert!(broker.asked().is_empty());
}

#[test]
fn what_heals_is_waited_for() {
    let mut late = everything();
    late.withdrawn.push(withdrawn("db", "user", "SecretBinding ns/db: the grant is missing"));
    let unavailable = http("503 Service Unavailable", "text/plain", b"");
    let replies = vec![
        Vec::new(),
        unavailable,
        refuse("429 Too Many Requests", "Busy", true),
        refuse("403 Forbidden", "NotGranted", false),
        give(&late),
        give(&everything()),
    ];
    let (_, broker, host, outcome) = run(replies);
    outcome.unwrap();
    assert_eq!(broker.asked().len(), 6);
    for (cause, part) in host.waited_for.iter().zip(["no answer", "503", "Busy", "NotGranted", "the grant is missing"]) {
        assert!(cause.contains(part), "{cause}");
    }
}

#[test]
fn at_the_deadline_the_message_names_the_cause_and_its_record() {
    let (_, broker, host, outcome) = run(vec![refuse("403 Forbidden", "NotGranted", false)]);
    let given_up = outcome.unwrap_err();
    assert!(given_up.elapsed > Duration::from_secs(110) && host.now < Duration::from_mins(2));
    assert_eq!(broker.asked().len(), usize::try_from(given_up.attempts).unwrap());
    let message = given_up.message();
    for part in ["NotGranted", "SecretBinding ns/NotGranted.spec: rule; remedy", "01CORRELATION", "attempts"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn while_a_provider_is_down_a_pod_waits_and_then_says_which_and_for_which_secret() {
    let cause = "SecretBinding ns/db: spec.secrets[user].sealed.value: KeyProvider main: the provider did not answer unwrap: timed out";
    let down = || refuse_with("503 Service Unavailable", "ProviderUnavailable", cause, true);
    let said = format!("the broker refused (ProviderUnavailable): {cause} [correlation ID 01CORRELATION]");

    let (_, _, host, outcome) = run(vec![down(), down(), give(&everything())]);
    outcome.unwrap();
    assert_eq!(host.waited_for, [said.clone(), said.clone()]);

    let message = gives_up(vec![down()]);
    assert!(message.starts_with(&format!("{said} (gave up after ")) && message.ends_with(" s)"), "{message}");
}

#[test]
fn what_is_withdrawn_or_missing_is_named_and_nothing_is_delivered() {
    let mut release = everything();
    release.values.retain(|value| value.secret != "user" && value.secret != "tls");
    release.withdrawn.push(withdrawn("db", "user", "key ns/k: grant withdrawn; ask its owner"));
    release.withdrawn.push(withdrawn("other", "", "not this pod's business"));
    let message = gives_up(vec![give(&release)]);
    assert!(message.contains("binding db, secret user: key ns/k: grant withdrawn; ask its owner"), "{message}");
    assert!(message.contains("binding db, secret tls: its property key"), "{message}");
    assert!(!message.contains("business"), "{message}");
}

#[test]
fn a_value_that_an_environment_file_cannot_carry_is_named_but_not_shown() {
    let mut release = everything();
    release.values.retain(|value| value.secret != "user");
    release.values.extend(values(&[("db", "user", None, "canary-Zr8kQ2vX's")]).values);
    let message = gives_up(vec![give(&release)]);
    let said =
        "binding db: variable PGUSER: its value contains a single quote, which an environment file cannot carry; deliver it as a file";
    assert!(message.starts_with(said), "{message}");
}

#[test]
fn a_redirect_is_not_followed() {
    let authority = Authority::new();
    let other = Broker::start(&authority, vec![give(&everything())]);
    let location =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: https://{}/v1/release\r\ncontent-length: 0\r\n\r\n", other.address);
    let message = gives_up(vec![location.into_bytes()]);
    assert!(message.contains("307"), "{message}");
    assert!(other.asked().is_empty());
}

#[test]
fn an_answer_that_is_not_a_release_is_not_used() {
    let large = vec![b'x'; (1 << 20) + 1];
    let unannounced = [format!("HTTP/1.1 200 OK\r\ncontent-type: {RELEASE_TYPE}\r\n\r\n").as_bytes(), &large].concat();
    for (reply, part) in [
        (http("200 OK", RELEASE_TYPE, &large), "larger than 1 MiB"),
        (unannounced, "larger than 1 MiB"),
        (http("200 OK", RELEASE_TYPE, CANARY.as_bytes()), "cannot be read"),
        (http("200 OK", "text/html", CANARY.as_bytes()), "content type"),
        (http("500 Internal Server Error", "text/html", CANARY.as_bytes()), "500"),
    ] {
        let (pod, authority) = (pod(), Authority::new());
        let broker = Broker::start(&authority, vec![reply]);
        // Two attempts are enough.
        let mut host = Still { at_least: Duration::from_secs(119), ..Still::default() };
        let message = init(&options(pod.path(), &authority, &broker), &mut host).unwrap_err().message();
        assert!(message.contains(part) && !message.contains(CANARY), "{message}");
    }
}

#[test]
fn a_path_that_escapes_is_refused_before_the_broker_is_asked() {
    let (pod, authority) = (pod(), Authority::new());
    let broker = Broker::start(&authority, vec![give(&everything())]);
    let options = Options { plan: PLAN.replace("tls/deep/key", "tls/../../hub/token"), ..options(pod.path(), &authority, &broker) };
    let given_up = init(&options, &mut Still::default()).unwrap_err();
    assert_eq!(given_up.attempts, 0);
    let item = r#"the pinned plan: binding db, file "tls/../../hub/token" is not a path inside the binding's directory"#;
    assert!(given_up.message().starts_with(&format!("{item}: admission writes it, so delete the pod")), "{}", given_up.message());
    assert!(broker.asked().is_empty());
}

#[test]
fn a_token_that_is_not_there_yet_is_waited_for() {
    let (pod, authority) = (pod(), Authority::new());
    let broker = Broker::start(&authority, vec![give(&everything())]);
    let token = pod.path().join("token");
    fs::remove_file(&token).unwrap();
    let meanwhile: Box<dyn Fn()> = Box::new(move || fs::write(&token, "the.pod.token").unwrap());
    let mut host = Still { meanwhile: Some(meanwhile), ..Still::default() };
    init(&options(pod.path(), &authority, &broker), &mut host).unwrap();
    assert!(host.waited_for[0].contains("token: No such file") && host.waited_for[0].contains("kubelet"), "{:?}", host.waited_for);
}

#[test]
fn options_are_read_from_the_variables_that_admission_sets() {
    let authority = Authority::new();
    let read = |ca: &str| {
        Options::from_variables(|name| match name {
            wire::env::PLAN => Some(PLAN.to_owned()),
            wire::env::BROKER => Some("https://10.96.0.7:8443".to_owned()),
            wire::env::CA => Some(ca.to_owned()),
            _ => None,
        })
    };
    let two = authority.pem.repeat(2);
    let options = read(&two).unwrap();
    assert_eq!((options.broker.to_string().as_str(), options.authorities.len(), options.deadline.as_secs()), ("10.96.0.7:8443", 2, 120));
    assert_eq!(options.token, Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token"));
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for ca in ["", "nonsense", not_der] {
        let failure = read(ca).unwrap_err();
        assert!(!failure.heals() && failure.to_string().contains("KUSTODY_CA"), "{failure}");
    }
}

#[test]
fn a_termination_message_fits_the_kubelet_and_keeps_its_end() {
    let reason = format!("é\n{}", "é".repeat(4000));
    let failure = Failure::Withdrawn(vec![withdrawn("db", "user", &reason)]);
    let message = GivenUp { failure, attempts: 7, elapsed: Duration::from_secs(119) }.message();
    assert!(message.len() <= 4096 && !message.contains('\n'));
    assert!(message.contains("binding db, secret user") && message.ends_with("(gave up after 7 attempts and 119 s)"));
}
