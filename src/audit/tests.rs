//! Tests of the log: what is answered is on disk, and what is on disk is one chain.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kustody_core::audit::{Chain, Draft, Event, Record, verify};

use super::segments::{self, Directory, Found, OpenError, Sink};
use super::writer::{SEGMENT_LIMIT, Writer};
use super::{Log, Unrecorded};
use crate::runtime::clock::SystemClock;
use crate::runtime::process::Process;

fn process() -> Process {
    Process::new(Arc::new(SystemClock))
}

fn draft(id: &str) -> Draft {
    Draft {
        time: Timestamp::UNIX_EPOCH,
        event: Event::Release,
        subject: None,
        items: Vec::new(),
        reasons: Vec::new(),
        correlation_id: id.to_owned(),
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect();
    files.sort();
    files
}

fn text(directory: &Path) -> String {
    files(directory).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn records(text: &str) -> Vec<Record> {
    verify(None, text.lines()).expect("one chain");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn end(log: Log, process: &Process) {
    drop(log);
    process.tasks.close();
    process.tasks.wait().await;
}

#[tokio::test]
async fn concurrent_records_are_one_chain_and_each_is_on_disk_when_it_is_answered() {
    let (directory, process) = (tempfile::tempdir().unwrap(), process());
    let log = Log::open(directory.path(), &process).unwrap();
    let each = (0..200).map(|i| {
        let (log, path) = (log.clone(), directory.path().to_owned());
        async move {
            let id = format!("id-{i}-");
            log.record(draft(&id)).await.unwrap();
            assert!(text(&path).contains(&id), "{id} was answered before it was on disk");
        }
    });
    futures::future::join_all(each).await;
    end(log, &process).await;
    let records = records(&text(directory.path()));
    assert_eq!(records.len(), 201);
    assert_eq!(records[0].event, Event::Opened);
    let metrics = process.metrics.render();
    assert!(metrics.contains("kustody_audit_records_total 200"), "{metrics}");
}

#[tokio::test]
async fn a_torn_last_line_is_removed_and_the_next_record_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let first = process();
    let log = Log::open(directory.path(), &first).unwrap();
    log.record(draft("whole")).await.unwrap();
    end(log, &first).await;
    let path = files(directory.path()).remove(0);
    let torn = format!("{{\"seq\":3,\"time\":\"{}", "x".repeat(2000));
    std::fs::write(&path, text(directory.path()) + &torn).unwrap();
    let second = process();
    end(Log::open(directory.path(), &second).unwrap(), &second).await;
    let records = records(&text(directory.path()));
    assert_eq!(records.len(), 3);
    assert_eq!(records[2].event, Event::Opened);
    assert!(records[2].reasons[0].starts_with(&format!("{} bytes of an unfinished line after record 2", torn.len())), "{records:?}");
}

#[tokio::test]
async fn an_altered_log_is_refused_with_file_line_and_remedy() {
    let (directory, first) = (tempfile::tempdir().unwrap(), process());
    let log = Log::open(directory.path(), &first).unwrap();
    log.record(draft("canary")).await.unwrap();
    end(log, &first).await;
    let path = files(directory.path()).remove(0);
    std::fs::write(&path, text(directory.path()).replace("canary", "parrot")).unwrap();
    let error = Log::open(directory.path(), &process()).err().unwrap().to_string();
    assert!(
        error.contains(path.to_str().unwrap()) && error.contains("line 2") && error.contains("start the broker on an empty one"),
        "{error}"
    );
}

#[tokio::test]
async fn a_directory_is_written_by_one_process_at_a_time() {
    let (directory, first) = (tempfile::tempdir().unwrap(), process());
    let log = Log::open(directory.path(), &first).unwrap();
    assert!(matches!(Log::open(directory.path(), &process()), Err(OpenError::InUse { .. })));
    end(log, &first).await;
    let second = process();
    end(Log::open(directory.path(), &second).unwrap(), &second).await;
}

#[test]
fn the_chain_goes_on_over_files_of_bounded_size() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut writer = Writer::new(segments::open(directory.path()).unwrap(), 600);
        for i in 0..5 {
            writer.write(vec![draft(&format!("id-{i}"))]).unwrap();
        }
    }
    let found = files(directory.path());
    assert!(found.len() > 2, "{found:?}");
    assert_eq!(records(&text(directory.path())).len(), 10);

    std::fs::remove_file(&found[0]).unwrap();
    segments::open(directory.path()).expect("the oldest files may be moved elsewhere");
    std::fs::remove_file(&found[2]).unwrap();
    assert!(matches!(segments::open(directory.path()), Err(OpenError::Gap { .. })), "a file in the middle may not");
}

/// A disk that can be told to fail, and how much it takes before it does.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    room: Option<usize>,
    sync_fails: bool,
    truncate_fails: bool,
}

impl Sink for Disk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let fits = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        let end = state.bytes.len().max(offset + fits);
        state.bytes.resize(end, 0);
        state.bytes[offset..offset + fits].copy_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.truncate_fails {
            return Err(io::Error::other("no"));
        }
        state.bytes.truncate(usize::try_from(length).map_err(io::Error::other)?);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.state().sync_fails { Err(io::Error::other("no")) } else { Ok(()) }
    }
}

impl Directory for Disk {
    fn create(&self, _: u64) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl Disk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn recover(&self) {
        let mut state = self.state();
        (state.room, state.sync_fails, state.truncate_fails) = (None, false, false);
    }

    fn log(&self, process: &Process) -> Log {
        let found = Found { directory: Box::new(self.clone()), sink: None, length: 0, torn: 0, chain: Chain::default() };
        Log::start(Writer::new(found, SEGMENT_LIMIT), process)
    }

    fn text(&self) -> String {
        String::from_utf8(self.state().bytes.clone()).unwrap()
    }
}

#[tokio::test]
async fn a_full_or_failing_disk_refuses_and_leaves_one_chain_when_it_recovers() {
    let (disk, process) = (Disk::default(), process());
    let log = disk.log(&process);
    log.record(draft("before")).await.unwrap();
    let fail: [fn(&mut State); 3] =
        [|state| state.room = Some(40), |state| state.sync_fails = true, |state| (state.room, state.truncate_fails) = (Some(40), true)];
    for (i, fail) in fail.into_iter().enumerate() {
        fail(&mut disk.state());
        assert_eq!(log.record(draft("lost")).await, Err(Unrecorded::Disk));
        assert_eq!(log.record(draft("lost")).await, Err(Unrecorded::Disk));
        disk.recover();
        log.record(draft(&format!("after {i}"))).await.unwrap();
    }
    end(log, &process).await;
    let ids: Vec<_> = records(&disk.text()).into_iter().map(|record| record.correlation_id).collect();
    assert_eq!(ids, ["before", "after 0", "after 1", "after 2"]);
    assert!(process.metrics.render().contains("kustody_audit_failures_total 6"));
}
