//! Why certificates are not as they should be, each with its remedy.

use jiff::Timestamp;
use thiserror::Error;

use crate::runtime::tls;

/// Why certificates are not as they should be. No error holds a key.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server.
    #[error("failed to {action} {object}")]
    Kubernetes {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// The authority's Secret is damaged; a new authority would cut off every pod that waits for the broker.
    #[error("Secret {name}: {entry} is missing or unreadable; restore it, or delete the Secret to have a new authority made")]
    Damaged {
        /// Which Secret.
        name: String,
        /// Which entry.
        entry: &'static str,
    },
    /// The authority does not hold now, or the clock is wrong.
    #[error(
        "Secret {name}: ca.crt holds from {begins} to {ends}, and by this machine's clock it is {now}: nothing is issued; set the \
         clock right, or, if it is, delete the Secret to have a new authority made"
    )]
    Validity {
        /// Which Secret.
        name: String,
        /// From when it holds.
        begins: Timestamp,
        /// Until when.
        ends: Timestamp,
        /// What the clock says.
        now: Timestamp,
    },
    /// Somebody changed the authority meanwhile.
    #[error("Secret {name} was changed meanwhile: nothing is written by what it held before; it is read again")]
    Moved {
        /// Which Secret.
        name: String,
    },
    /// A certificate could not be made.
    #[error("failed to make a certificate")]
    Issue(#[from] rcgen::Error),
    /// cert-manager has issued nothing that can be used.
    #[error(
        "Secret {name} has no {entry}: cert-manager has not issued it, or its issuer does not say its CA; \
         `kubectl describe certificate {name}` says why"
    )]
    Awaited {
        /// Which Secret.
        name: String,
        /// Which entry.
        entry: &'static str,
    },
    /// What cert-manager issued vouches for nothing.
    #[error(
        "Secret {name}: {source}; `kubectl describe certificate {name}` says who issued it, and `cmctl renew {name}` has it issued anew"
    )]
    Unusable {
        /// Which Secret.
        name: String,
        /// Why.
        source: tls::Error,
    },
    /// The two certificates are of two authorities.
    #[error(
        "Secret {name} cannot be trusted by pods, which are given ca.crt of the webhook's Secret: {source}; renew both certificates \
         (`cmctl renew`), and recreate pods that wait"
    )]
    Apart {
        /// Which Secret.
        name: String,
        /// Why.
        source: tls::Error,
    },
}
