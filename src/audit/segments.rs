//! The files of the log: found, locked, verified, created.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kustody_core::audit::{Broken, Record};
use thiserror::Error;

use super::Chain;

/// Held as long as a process writes into the directory.
const LOCK: &str = "lock";
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk refuses.
    #[error("the audit log at {path} cannot be read or written; check the volume and its permissions")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process writes there.
    #[error("the audit directory {path} is in use by another process; give each broker a volume of its own")]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// The chain is not what was written.
    #[error("the audit log {path} is broken: {broken}; keep all files of the directory as evidence, then start the broker on an empty one")]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        broken: Broken,
    },
    /// A file is missing, or was put there by somebody else.
    #[error(
        "the audit log {path} begins with record {found}, and record {expected} is the next one: a file was removed or added; put the missing file back, or move the files before the gap elsewhere together"
    )]
    Gap {
        /// Which file.
        path: PathBuf,
        /// What its name says.
        found: u64,
        /// What would follow.
        expected: u64,
    },
}

/// Where records go: one file at a time.
pub trait Sink: Send {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes `length` the end.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Returns when everything is on disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes the file that goes on with a record of this number.
pub trait Directory: Send {
    /// The file is there for good when this returns.
    fn create(&self, first: u64) -> io::Result<Box<dyn Sink>>;
}

/// A directory of this process alone.
pub struct Locked {
    path: PathBuf,
    /// Unlocked when dropped, or when the process dies.
    _lock: File,
}

impl Directory for Locked {
    fn create(&self, first: u64) -> io::Result<Box<dyn Sink>> {
        let path = self.path.join(name(first));
        // Truncated: an attempt before may have left the file, and nothing in it was ever durable.
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
        file.sync_all()?;
        File::open(&self.path)?.sync_all()?;
        Ok(Box::new(file))
    }
}

/// The log as it was found.
pub struct Found {
    /// Makes further files.
    pub directory: Box<dyn Directory>,
    /// The newest file, if there is one.
    pub sink: Option<Box<dyn Sink>>,
    /// Where its last whole record ends.
    pub length: u64,
    /// Bytes behind that: what a crash tore.
    pub torn: u64,
    /// The end of the chain.
    pub chain: Chain,
}

/// Name of the file that begins with record `first`; sorts by it.
pub fn name(first: u64) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}")
}

/// Locks the directory and verifies every file in it. Old files may be moved elsewhere: the oldest that is there is the start.
pub fn open(directory: &Path) -> Result<Found, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    std::fs::create_dir_all(directory).map_err(io(directory))?;
    let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(directory.join(LOCK)).map_err(io(directory))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse { path: directory.to_owned() },
        TryLockError::Error(source) => OpenError::Io { path: directory.to_owned(), source },
    })?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let path = entry.map_err(io(directory))?.path();
        if let Some(first) = first_of(&path) {
            files.push((first, path));
        }
    }
    files.sort();
    let (mut chain, mut length, mut torn) = (None, 0, 0);
    let last = files.last().map(|(_, path)| path.clone());
    for (first, path) in files {
        let (end, rest, next) = verify(&path, first, chain.take())?;
        if rest > 0 && Some(&path) != last.as_ref() {
            let line = usize::try_from(next.len() - first + 2).unwrap_or(usize::MAX);
            return Err(OpenError::Broken { path, broken: Broken::Unreadable { line } });
        }
        (length, torn, chain) = (end, rest, Some(next));
    }
    let sink = match last {
        None => None,
        Some(path) => Some(Box::new(OpenOptions::new().write(true).open(&path).map_err(io(&path))?) as Box<dyn Sink>),
    };
    let directory = Box::new(Locked { path: directory.to_owned(), _lock: lock });
    Ok(Found { directory, sink, length, torn, chain: chain.unwrap_or_default() })
}

fn first_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Follows the chain through one file, line by line; says where its last whole line ends and how many bytes stand behind it.
fn verify(path: &Path, first: u64, before: Option<Chain>) -> Result<(u64, u64, Chain), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let broken = |broken| OpenError::Broken { path: path.to_owned(), broken };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let (mut chain, mut length, mut line) = (before, 0, Vec::new());
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(io)?;
        let Some(text) = line.strip_suffix(b"\n") else {
            let chain = chain.unwrap_or_default();
            // Also of an empty file: the record that would stand in it must be the next one.
            if length == 0 && first != chain.len() + 1 {
                return Err(OpenError::Gap { path: path.to_owned(), found: first, expected: chain.len() + 1 });
            }
            return Ok((length, read as u64, chain));
        };
        let text = std::str::from_utf8(text).map_err(|_| broken(Broken::Unreadable { line: number }))?;
        if number == 1 {
            let known = match &chain {
                Some(chain) => chain.len() + 1,
                None => first,
            };
            if known != first {
                return Err(OpenError::Gap { path: path.to_owned(), found: first, expected: known });
            }
            if chain.is_none() && first > 1 {
                let record: Record = serde_json::from_str(text).map_err(|_| broken(Broken::Unreadable { line: 1 }))?;
                chain = Some(Chain::before(&record));
            }
        }
        chain.get_or_insert_default().follow(number, text).map_err(broken)?;
        length += read as u64;
    }
    Err(broken(Broken::Unreadable { line: usize::MAX }))
}
