//! `watch`: follows what changes for a running pod, and swaps it in. For ever, whatever happens to the broker.

use std::time::Duration;

use kustody_core::wire::watch::{Authorities, HOLD_SECONDS, Known, WatchRequest, is_revision};
use kustody_core::wire::{Release, Withdrawn};
use rustls::pki_types::CertificateDer;
use ureq::Agent;

use crate::failure::Failure;
use crate::options::{self, Options};
use crate::retry::{Host, patience};
use crate::{deliver, plan, release};

/// What one call may take: the broker's longest wait, and then its answer.
const LIMIT: Duration = Duration::from_secs(HOLD_SECONDS + 25);

/// What the watch tells besides why it is waiting.
pub trait Listener: Host {
    /// A binding is in another state.
    fn changed(&mut self, change: &Change<'_>);
    /// The broker answers after it did not.
    fn answering(&mut self);
    /// So many may vouch for the broker now, and they are others than before.
    fn trusting(&mut self, authorities: usize);
}

/// What happened to one binding's files.
#[derive(Debug)]
pub struct Change<'a> {
    /// Name of the binding.
    pub binding: &'a str,
    /// How many files were replaced, all at once.
    pub files: usize,
    /// What is not given any more. Its files stay as they are.
    pub withdrawn: &'a [Withdrawn],
}

/// What the broker says.
enum Answer {
    /// Nothing changed within its patience.
    Nothing,
    Release(Release),
    Authorities(Authorities),
}

/// A pod's bindings, and what it holds of them.
///
/// Guarantees: the files of a binding change all at once; no environment file is ever written; nothing that fails ends it.
pub struct Watch<'a> {
    options: &'a Options,
    request: WatchRequest,
    /// Who may vouch for the broker: as admission said, until the broker itself says otherwise.
    authorities: Vec<CertificateDer<'static>>,
    /// The connection that is used again.
    agent: Option<Agent>,
    failures: u32,
}

impl<'a> Watch<'a> {
    /// Of the plan in `options`, and of the files that are there.
    pub fn new(options: &'a Options) -> Result<Self, Failure> {
        let mut plan = plan::read(&options.plan)?;
        plan.bindings.iter_mut().for_each(|binding| binding.env.clear());
        plan.bindings.retain(|binding| !binding.files.is_empty());
        let known = plan.bindings.iter().map(|binding| {
            let held = deliver::held(options, binding);
            Known { binding: binding.name.clone(), seen: held.clone(), held }
        });
        let known = known.collect();
        let request = WatchRequest { plan, known, authorities: Some(String::new()) };
        Ok(Self { options, request, authorities: options.authorities.clone(), agent: None, failures: 0 })
    }

    /// How many bindings are followed.
    pub fn bindings(&self) -> usize {
        self.request.plan.bindings.len()
    }

    /// Asks once, and does what the answer says; after a failure waits, longer each time.
    pub fn turn(&mut self, host: &mut impl Listener) {
        let outcome = self.ask().and_then(|answer| match answer {
            Answer::Nothing => Ok(()),
            Answer::Release(release) => self.apply(release, host),
            Answer::Authorities(authorities) => self.trust(authorities, host),
        });
        match outcome {
            Ok(()) if self.failures > 0 => {
                self.failures = 0;
                host.answering();
            }
            Ok(()) => {}
            Err(failure) => {
                // The next connection may reach another replica.
                self.agent = None;
                self.failures = self.failures.saturating_add(1);
                host.waiting(&failure);
                let pause = patience(self.failures, host.random());
                host.sleep(pause);
            }
        }
    }

    /// What changed, or nothing within the broker's patience.
    fn ask(&mut self) -> Result<Answer, Failure> {
        let options = self.options;
        let agent = self.agent.get_or_insert_with(|| release::agent(options, &self.authorities, LIMIT, 1));
        let body = serde_json::to_vec(&self.request).map_err(|_| unusable(options, "the watch cannot be written"))?;
        let response = release::post(agent, options, "/v1/watch", &body)?;
        match response.status().as_u16() {
            204 => Ok(Answer::Nothing),
            200 if release::names_authorities(&response) => release::authorities(options, response).map(Answer::Authorities),
            200 => release::release(options, response).map(Answer::Release),
            _ => Err(release::refusal(options, response)),
        }
    }

    /// Takes those that a broker names for whom the ones before vouched.
    fn trust(&mut self, Authorities { name, bundle }: Authorities, host: &mut impl Listener) -> Result<(), Failure> {
        // Whoever names the same ones again would be asked without end.
        if !is_revision(&name) || self.request.authorities.as_ref() == Some(&name) {
            return Err(unusable(self.options, "it names no authorities that the pod does not know"));
        }
        let authorities = options::authorities(&bundle).map_err(|_| unusable(self.options, "its authorities cannot be used"))?;
        self.request.authorities = Some(name);
        if authorities != self.authorities {
            host.trusting(authorities.len());
            self.authorities = authorities;
            // The next connection is by the new ones.
            self.agent = None;
        }
        Ok(())
    }

    fn apply(&mut self, mut release: Release, host: &mut impl Listener) -> Result<(), Failure> {
        let mut news = false;
        for (binding, known) in self.request.plan.bindings.iter().zip(&mut self.request.known) {
            let Some(revision) = deliver::revision(&release, &binding.name).map(str::to_owned) else { continue };
            if known.seen.as_ref() == Some(&revision) {
                continue;
            }
            let refreshed = deliver::refresh(self.options, binding, &mut release)?;
            if refreshed.complete {
                known.held = Some(revision.clone());
            }
            known.seen = Some(revision);
            host.changed(&Change { binding: &binding.name, files: refreshed.files, withdrawn: &refreshed.withdrawn });
            news = true;
        }
        // Whoever answers at once without news would be asked without end.
        if news { Ok(()) } else { Err(unusable(self.options, "it says of no binding what the pod does not know")) }
    }
}

fn unusable(options: &Options, rule: &str) -> Failure {
    Failure::Answer { broker: options.broker.to_string(), rule: rule.to_owned() }
}
