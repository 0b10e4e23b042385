//! Puts records at the end of the chain, so that a failed write leaves nothing that a later one would stand behind.

use std::io;

use jiff::Timestamp;

use super::segments::{Directory, Found, Sink};
use super::{Chain, Draft, Event};

/// A file that is as large is followed by another. Nothing is ever deleted.
pub const SEGMENT_LIMIT: u64 = 64 << 20;

/// The one writer of a log.
pub struct Writer {
    directory: Box<dyn Directory>,
    sink: Option<Box<dyn Sink>>,
    /// The end of the chain on disk.
    chain: Chain,
    /// Where the last durable record ends.
    length: u64,
    /// Bytes of an unfinished line behind that, which a crash left.
    torn: u64,
    /// Whether a failed write left bytes there that could not be removed yet.
    dirty: bool,
    limit: u64,
}

impl Writer {
    /// Goes on where the log ended.
    pub fn new(found: Found, limit: u64) -> Self {
        let Found { directory, sink, length, torn, chain } = found;
        Self { directory, sink, chain, length, torn, dirty: false, limit }
    }

    /// The record that says that the log was opened, and what a crash left behind.
    pub fn opened(&self, time: Timestamp) -> Draft {
        let reasons = if self.torn == 0 {
            Vec::new()
        } else {
            let (torn, last) = (self.torn, self.chain.len());
            vec![format!("{torn} bytes of an unfinished line after record {last} were removed; nothing was answered for them")]
        };
        Draft { time, event: Event::Opened, subject: None, items: Vec::new(), reasons, correlation_id: String::new() }
    }

    /// Writes all or none: when this returns, the records are on disk; on an error none of them is part of the log.
    pub fn write(&mut self, drafts: Vec<Draft>) -> io::Result<()> {
        let mut sink = match self.sink.take() {
            Some(sink) if self.length < self.limit => sink,
            kept => match self.directory.create(self.chain.len() + 1) {
                Ok(sink) => {
                    (self.length, self.torn, self.dirty) = (0, 0, false);
                    sink
                }
                Err(error) => {
                    self.sink = kept;
                    return Err(error);
                }
            },
        };
        let result = self.append(sink.as_mut(), drafts);
        self.sink = Some(sink);
        result
    }

    fn append(&mut self, sink: &mut dyn Sink, drafts: Vec<Draft>) -> io::Result<()> {
        if self.dirty {
            sink.truncate(self.length)?;
            self.dirty = false;
        }
        let mut chain = self.chain.clone();
        let mut lines = Vec::new();
        for draft in drafts {
            lines.extend_from_slice(chain.append(draft).to_line().as_bytes());
            lines.push(b'\n');
        }
        let end = self.length + lines.len() as u64;
        // Written over what was torn, cut off behind: the record that tells of it is there before it is gone.
        let written = sink.write_at(self.length, &lines).and_then(|()| if self.torn > 0 { sink.truncate(end) } else { Ok(()) });
        if let Err(error) = written.and_then(|()| sink.sync()) {
            // Removed at once where that is possible: a full disk gets its room back, and a crash finds no half a record.
            self.dirty = sink.truncate(self.length).is_err();
            return Err(error);
        }
        (self.chain, self.length, self.torn) = (chain, end, 0);
        Ok(())
    }
}
