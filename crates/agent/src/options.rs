//! What `init` is told: read from the variables that admission set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kustody_core::wire;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::failure::Failure;

/// Where the kubelet projects the agent's token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Two minutes.
const DEADLINE: u64 = 120;

/// Everything that one run needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The pinned plan, byte for byte as it is sent.
    pub plan: String,
    /// Where the broker listens.
    pub broker: SocketAddr,
    /// Who may vouch for the broker.
    pub authorities: Vec<CertificateDer<'static>>,
    /// When to give up.
    pub deadline: Duration,
    /// The pod's token.
    pub token: PathBuf,
    /// The directory of the bindings' file volumes.
    pub files: PathBuf,
    /// The directory of the bindings' environment volumes.
    pub env: PathBuf,
}

impl Options {
    /// From the container's variables, each looked up with `variable`; places are those of the container.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let need = |name| variable(name).ok_or_else(|| bad(name, "is not set"));
        Ok(Self {
            plan: need(wire::env::PLAN)?,
            broker: broker(&need(wire::env::BROKER)?)?,
            authorities: authorities(&need(wire::env::CA)?)?,
            deadline: deadline(variable(wire::env::DEADLINE).as_deref())?,
            token: TOKEN.into(),
            files: wire::FILES_ROOT.into(),
            env: wire::ENV_ROOT.into(),
        })
    }
}

fn bad(name: &'static str, rule: impl Into<String>) -> Failure {
    Failure::Variable { name, rule: rule.into() }
}

fn broker(url: &str) -> Result<SocketAddr, Failure> {
    let address = url.strip_prefix("https://").and_then(|address| address.parse().ok());
    address.ok_or_else(|| bad(wire::env::BROKER, "is not https://IP:PORT"))
}

/// Those that a bundle of PEM names.
pub(crate) fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unreadable = || bad(wire::env::CA, "holds no PEM certificates that can be read");
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| unreadable())?;
    // An authority that cannot be used is refused here: later it would look like a broker with a wrong certificate.
    let (_, unusable) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
    if found.is_empty() || unusable > 0 { Err(unreadable()) } else { Ok(found) }
}

fn deadline(seconds: Option<&str>) -> Result<Duration, Failure> {
    let seconds = seconds.map_or(Ok(DEADLINE), str::parse).ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| bad(wire::env::DEADLINE, "is not a number of seconds from 1 to 86400"))
}

#[cfg(test)]
mod tests {
    use super::{broker, deadline};

    #[test]
    fn a_broker_is_an_https_address() {
        assert!(broker("https://10.0.0.1:8443").is_ok());
        assert!(broker("https://[fd00::1]:8443").is_ok());
        for url in ["", "http://10.0.0.1:8443", "https://broker:8443", "https://10.0.0.1", "https://10.0.0.1:8443/"] {
            assert!(broker(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_deadline_is_two_minutes_unless_it_is_set() {
        assert_eq!(deadline(None).unwrap().as_secs(), 120);
        assert_eq!(deadline(Some("7")).unwrap().as_secs(), 7);
        for seconds in ["", "0", "-1", "1s", "99999999"] {
            assert!(deadline(Some(seconds)).is_err(), "{seconds}");
        }
    }
}
