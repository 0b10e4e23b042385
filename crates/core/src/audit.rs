//! Audit records and the chain that makes an altered or missing one visible.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

const LABEL: &[u8] = b"kustody.dev/audit/v1\0";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Values were given to a pod.
    Release,
    /// A request was refused.
    Refusal,
    /// The controller asked whether a binding opens.
    Inspect,
    /// The same, and what was sealed for an older sealing key was opened and sealed anew for the same place.
    Reseal,
    /// The log was opened; says whether it ended in a torn line.
    Opened,
}

/// Who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub pod_uid: String,
}

/// One secret that was opened or refused. Never a value, nor a digest of one: a short value can be guessed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Name of the binding.
    pub binding: String,
    /// Its UID.
    pub binding_uid: String,
    /// Name of the secret in it.
    pub secret: String,
    /// Name of the `EncryptionKey` that it is sealed under.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Id of that key at the provider.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key_id: String,
    /// Version of the sealing key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key_version: Option<u32>,
}

/// A record before it has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Event,
    /// Who, as far as it is known.
    pub subject: Option<Subject>,
    /// Which secrets.
    pub items: Vec<Item>,
    /// Why something was refused or withdrawn.
    pub reasons: Vec<String>,
    /// Also in the answer, so that a message finds its record.
    pub correlation_id: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Place in the chain, from 1.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Event,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Which secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// Why something was refused or withdrawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Finds the record of an answer.
    pub correlation_id: String,
    /// Hash of the record before, hex; empty for the first.
    pub prev: String,
    /// SHA-256 of label, `prev` and this record without its hash, hex.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// Why a log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// A line is no record.
    #[error("line {line} is not a record")]
    Unreadable {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A record does not follow the one before.
    #[error("record {seq} (line {line}) does not follow the record before it: something was removed, inserted or altered")]
    Order {
        /// Number of the line, from 1.
        line: usize,
        /// What it says of itself.
        seq: u64,
    },
    /// A record was altered.
    #[error("record {seq} (line {line}) was altered")]
    Altered {
        /// Number of the line, from 1.
        line: usize,
        /// What it says of itself.
        seq: u64,
    },
}

/// The end of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    seq: u64,
    hash: String,
}

impl Chain {
    /// The chain that ends with `last`, or an empty one.
    pub fn resume(last: Option<&Record>) -> Self {
        last.map(|record| Self { seq: record.seq, hash: record.hash.clone() }).unwrap_or_default()
    }

    /// The chain that `first` goes on, by its own word: what came before was moved elsewhere.
    pub fn before(first: &Record) -> Self {
        Self { seq: first.seq.saturating_sub(1), hash: first.prev.clone() }
    }

    /// Goes on by a line that was written, if it is the next one.
    pub fn follow(&mut self, line: usize, text: &str) -> Result<(), Broken> {
        let mut record: Record = serde_json::from_str(text).map_err(|_| Broken::Unreadable { line })?;
        let seq = record.seq;
        if seq != self.seq + 1 || record.prev != self.hash {
            return Err(Broken::Order { line, seq });
        }
        let said = std::mem::take(&mut record.hash);
        if hash(&record) != said {
            return Err(Broken::Altered { line, seq });
        }
        *self = Self { seq, hash: said };
        Ok(())
    }

    /// Gives `draft` the next place.
    pub fn append(&mut self, draft: Draft) -> Record {
        let Draft { time, event, subject, items, reasons, correlation_id } = draft;
        let mut record = Record {
            seq: self.seq + 1,
            time,
            event,
            subject,
            items,
            reasons,
            correlation_id,
            prev: self.hash.clone(),
            hash: String::new(),
        };
        record.hash = hash(&record);
        self.seq = record.seq;
        self.hash.clone_from(&record.hash);
        record
    }

    /// How many records there are.
    pub fn len(&self) -> u64 {
        self.seq
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seq == 0
    }
}

impl Record {
    /// The record as one line, without its end.
    pub fn to_line(&self) -> String {
        // A record is strings, numbers and times: its serialisation cannot fail, and an empty line would break the chain.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Checks a whole chain, from its first line or from the record before `lines`.
pub fn verify<'a>(after: Option<&Record>, lines: impl IntoIterator<Item = &'a str>) -> Result<Chain, Broken> {
    let mut chain = Chain::resume(after);
    for (line, text) in (1..).zip(lines) {
        chain.follow(line, text)?;
    }
    Ok(chain)
}

/// Over the record's own serialisation with an empty hash: one writer, one field order.
fn hash(record: &Record) -> String {
    let mut digest = Sha256::new();
    digest.update(LABEL);
    digest.update(record.to_line().as_bytes());
    crate::hex::hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Broken, Chain, Draft, Event, Record, verify};

    fn lines(count: i64) -> Vec<String> {
        let mut chain = Chain::default();
        (0..count)
            .map(|i| {
                let draft = Draft {
                    time: Timestamp::from_second(1_700_000_000 + i).unwrap(),
                    event: Event::Release,
                    subject: None,
                    items: Vec::new(),
                    reasons: vec![format!("reason {i}")],
                    correlation_id: format!("c{i}"),
                };
                chain.append(draft).to_line()
            })
            .collect()
    }

    fn check(lines: &[String]) -> Result<Chain, Broken> {
        verify(None, lines.iter().map(String::as_str))
    }

    #[test]
    fn a_chain_verifies_as_it_was_written() {
        assert_eq!(check(&lines(5)).unwrap().len(), 5);
        assert!(check(&[]).unwrap().is_empty());
    }

    #[test]
    fn an_altered_removed_or_moved_record_is_found() {
        let written = lines(5);
        let mut altered = written.clone();
        altered[2] = altered[2].replace("reason 2", "reason X");
        assert_eq!(check(&altered), Err(Broken::Altered { line: 3, seq: 3 }));
        let mut removed = written.clone();
        removed.remove(1);
        assert_eq!(check(&removed), Err(Broken::Order { line: 2, seq: 3 }));
        let mut moved = written.clone();
        moved.swap(1, 2);
        assert_eq!(check(&moved), Err(Broken::Order { line: 2, seq: 3 }));
        let mut torn = written;
        torn[4].truncate(20);
        assert_eq!(check(&torn), Err(Broken::Unreadable { line: 5 }));
    }

    #[test]
    fn a_resumed_chain_goes_on_where_it_ended() {
        let written = lines(3);
        let last: Record = serde_json::from_str(&written[2]).unwrap();
        let mut chain = Chain::resume(Some(&last));
        let next = chain.append(Draft {
            time: Timestamp::UNIX_EPOCH,
            event: Event::Opened,
            subject: None,
            items: Vec::new(),
            reasons: Vec::new(),
            correlation_id: String::new(),
        });
        assert_eq!((next.seq, next.prev), (4, last.hash));
    }
}
