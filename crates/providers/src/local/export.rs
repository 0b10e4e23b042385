//! The file of an export: a line that names the format, a line of public facts, and the records, encrypted.
//!
//! The two lines are the associated data of the third (AES-256-GCM, a key of its own for each export), so that nothing in
//! the file can be changed unnoticed. Records lie in it as they lie in the store: material wrapped by the root key.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kustody_core::secret::SecretBytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::derivation::Parameters;
use super::root_record::Source;
use super::{crypto, record};
use crate::Error;
use crate::key_store::Record;

const FORMAT: &str = "kustody-export-v1";
const ANY_FORMAT: &str = "kustody-export-";

/// What a reader must know before the file is opened; public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Header {
    /// Name of the `KeyProvider`.
    pub(super) provider: String,
    /// When the export was made.
    pub(super) made: Timestamp,
    /// How many keys are in it.
    pub(super) keys: usize,
    /// Which root key they are under.
    pub(super) root: RootFacts,
    /// What the file is encrypted with.
    pub(super) lock: Lock,
}

/// A root key, without itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RootFacts {
    pub(super) source: Source,
    pub(super) check: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) derivation: Option<Parameters>,
}

/// What the file is encrypted with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Lock {
    /// A key made of this salt and the root key.
    RootKey { salt: String },
    /// A passphrase of the export's own.
    Passphrase(Parameters),
}

/// A file that was read and not opened yet.
pub(super) struct Sealed {
    pub(super) header: Header,
    associated: Vec<u8>,
    body: Vec<u8>,
}

/// The file.
pub(super) fn write(header: &Header, key: &SecretBytes, records: &[Record]) -> Result<String, Error> {
    let head = format!("{FORMAT}\n{}\n", record::json(header)?);
    let body = crypto::seal(key, head.as_bytes(), &encode(records))?;
    Ok(format!("{head}{}\n", STANDARD.encode(body)))
}

/// Reads a file; what its header says is true only once it has been opened.
pub(super) fn read(text: &str) -> Result<Sealed, Error> {
    let refuse = |rule: &str| Error::Configuration { detail: format!("the file {rule}") };
    let mut lines = text.splitn(3, '\n');
    match lines.next().map(str::trim_end) {
        Some(FORMAT) => {}
        Some(other) if other.starts_with(ANY_FORMAT) => {
            return Err(refuse(&format!(
                "is an export of the format {:?}, this release reads {FORMAT}; take the release that made it",
                &other[..other.len().min(40)]
            )));
        }
        _ => return Err(refuse("is not an export; make one with kubectl kustody export-keys")),
    }
    let (Some(facts), Some(body)) = (lines.next(), lines.next()) else { return Err(refuse("is truncated; take another copy")) };
    let header = serde_json::from_str(facts).map_err(|_| refuse("has a second line that cannot be read; take another copy"))?;
    let body = STANDARD.decode(body.trim_end()).map_err(|_| refuse("is truncated or altered; take another copy"))?;
    Ok(Sealed { header, associated: format!("{FORMAT}\n{facts}\n").into_bytes(), body })
}

impl Sealed {
    /// The records; `None` when the key is another or anything in the file was altered.
    pub(super) fn open(&self, key: &SecretBytes) -> Option<Vec<Record>> {
        decode(&crypto::open(key, &self.associated, &self.body)?)
    }
}

/// Name, labels, annotations and data of each record, everything behind its length.
#[expect(clippy::disallowed_methods, reason = "what is encoded is encrypted next")]
fn encode(records: &[Record]) -> SecretBytes {
    let size: usize = records.iter().map(encoded_size).sum();
    // Reserved at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 4));
    count(&mut bytes, records.len());
    for record in records {
        crypto::put(&mut bytes, record.name.as_bytes());
        for pairs in [&record.labels, &record.annotations] {
            count(&mut bytes, pairs.len());
            for (name, value) in pairs {
                crypto::put(&mut bytes, name.as_bytes());
                crypto::put(&mut bytes, value.as_bytes());
            }
        }
        count(&mut bytes, record.data.len());
        for (name, value) in &record.data {
            crypto::put(&mut bytes, name.as_bytes());
            crypto::put(&mut bytes, value.expose());
        }
    }
    SecretBytes::new(std::mem::take(&mut *bytes))
}

fn encoded_size(record: &Record) -> usize {
    let texts = record.labels.iter().chain(&record.annotations).map(|(name, value)| name.len() + value.len() + 8);
    let data = record.data.iter().map(|(name, value)| name.len() + value.len() + 8);
    record.name.len() + 16 + texts.chain(data).sum::<usize>()
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

#[expect(clippy::disallowed_methods, reason = "what was decrypted becomes records")]
fn decode(bytes: &SecretBytes) -> Option<Vec<Record>> {
    let mut reader = Reader(bytes.expose());
    let records = (0..reader.count()?).map(|_| reader.record()).collect::<Option<Vec<_>>>()?;
    reader.0.is_empty().then_some(records)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn count(&mut self) -> Option<u32> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*length))
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.count()?).ok()?;
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.part()?.to_vec()).ok()
    }

    fn texts(&mut self) -> Option<BTreeMap<String, String>> {
        (0..self.count()?).map(|_| Some((self.text()?, self.text()?))).collect()
    }

    fn record(&mut self) -> Option<Record> {
        let (name, labels, annotations) = (self.text()?, self.texts()?, self.texts()?);
        let data = (0..self.count()?).map(|_| Some((self.text()?, SecretBytes::new(self.part()?.to_vec())))).collect::<Option<_>>()?;
        Some(Record { name, revision: String::new(), labels, annotations, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            provider: "local".to_owned(),
            made: Timestamp::UNIX_EPOCH,
            keys: 1,
            root: RootFacts { source: Source::File, check: "00".to_owned(), derivation: None },
            lock: Lock::RootKey { salt: "s".to_owned() },
        }
    }

    fn record() -> Record {
        Record {
            name: "kustody-key-a".to_owned(),
            revision: "7".to_owned(),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            annotations: BTreeMap::from([("c".to_owned(), "d\n".to_owned()), ("e".to_owned(), String::new())]),
            data: BTreeMap::from([("version-1".to_owned(), SecretBytes::new(vec![0, 255, 10]))]),
        }
    }

    fn key() -> SecretBytes {
        SecretBytes::new(vec![7; 32])
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test compares what was opened")]
    fn records_come_back_as_they_were_without_their_revision() {
        let text = write(&header(), &key(), &[record(), record()]).unwrap();
        let sealed = read(&text).unwrap();
        assert_eq!(sealed.header, header());
        let records = sealed.open(&key()).unwrap();
        assert_eq!(records.len(), 2);
        let (found, wanted) = (&records[1], record());
        assert_eq!((&found.name, &found.labels, &found.annotations), (&wanted.name, &wanted.labels, &wanted.annotations));
        assert_eq!((found.data["version-1"].expose(), found.revision.as_str()), (&[0, 255, 10][..], ""));
    }

    #[test]
    fn nothing_in_the_file_can_be_changed_unnoticed() {
        let text = write(&header(), &key(), &[record()]).unwrap();
        for at in (0..text.trim_end().len()).filter(|at| text.is_char_boundary(*at)) {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            let opened = read(&altered).ok().and_then(|sealed| sealed.open(&key()));
            assert!(opened.is_none(), "byte {at}");
        }
        assert!(read(&text).unwrap().open(&SecretBytes::new(vec![8; 32])).is_none(), "another key");
        for length in 0..text.trim_end().len() {
            assert!(read(&text[..length]).ok().and_then(|sealed| sealed.open(&key())).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn the_file_holds_nothing_of_its_records_in_the_clear() {
        let text = write(&header(), &key(), &[record()]).unwrap();
        assert!(!text.contains("kustody-key-a") && !text.contains("version-1"));
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn what_is_no_export_or_of_another_release_is_refused_by_name() {
        for (text, words) in
            [("", "not an export"), ("{}", "not an export"), ("kustody-export-v2\n{}\nAA", "take the release that made it")]
        {
            let error = read(text).err().unwrap().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
