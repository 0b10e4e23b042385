//! `install-root-key`: copies a mounted root key, or a passphrase, to a file that only the operator's user can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// What a root key or a passphrase has at most, as the provider reads it.
const MAX: usize = 256;

/// Why the root key was not installed.
#[derive(Debug, Error)]
pub enum Error {
    /// The source cannot be read.
    #[error("root key {path}: cannot be read; mount the Secret that holds it there")]
    Read {
        /// The source.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The source holds nothing.
    #[error("root key {path}: is empty; a root key has 32 bytes, raw or as base64, a passphrase 12 to {MAX}")]
    Empty {
        /// The source.
        path: PathBuf,
    },
    /// The source holds something else.
    #[error("root key {path}: has more than {MAX} bytes; a root key has 32 bytes, raw or as base64, a passphrase 12 to {MAX}")]
    TooLarge {
        /// The source.
        path: PathBuf,
    },
    /// The target cannot be written.
    #[error("root key {path}: cannot be written; its directory must be a volume that the operator's user can write")]
    Write {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Copies `from` to `to`: mode 0400, owned by the running user, there wholly or not at all.
///
/// A Secret's volume is readable by its group as soon as the pod has an `fsGroup`, and by the world by default; the
/// provider refuses such a file. What is in the file, the provider judges when it reads it.
pub fn install(from: &Path, to: &Path) -> Result<(), Error> {
    let key = read(from)?;
    write(&key, to).map_err(|source| Error::Write { path: to.to_owned(), source })
}

fn read(from: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::Read { path: from.to_owned(), source };
    let file = File::open(from).map_err(failed)?;
    // Room for what is read at most: a vector that grows leaves copies behind.
    let mut key = Zeroizing::new(Vec::with_capacity(2 * MAX));
    file.take(MAX as u64 + 1).read_to_end(&mut key).map_err(failed)?;
    match key.len() {
        0 => Err(Error::Empty { path: from.to_owned() }),
        1..=MAX => Ok(key),
        _ => Err(Error::TooLarge { path: from.to_owned() }),
    }
}

fn write(key: &[u8], to: &Path) -> io::Result<()> {
    let name = to.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = to.with_file_name(hidden);
    // Left over when an earlier run was killed; never written through, it may be somebody else's link.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new)?;
    let written = file.write_all(key).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, to));
    if written.is_err() {
        // The first error is the one to tell; what could not be removed is removed by the next run.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn run(content: &[u8]) -> (tempfile::TempDir, PathBuf, Result<(), Error>) {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("mounted"), directory.path().join("key"));
        fs::write(&from, content).unwrap();
        let result = install(&from, &to);
        (directory, to, result)
    }

    #[test]
    fn a_root_key_is_copied_with_mode_0400_and_nothing_is_left_beside_it() {
        let (directory, to, result) = run(&[7; 32]);
        result.unwrap();
        assert_eq!(fs::read(&to).unwrap(), [7; 32]);
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_second_run_replaces_the_file_even_after_a_killed_one() {
        let (directory, to, result) = run(&[7; 32]);
        result.unwrap();
        let elsewhere = directory.path().join("elsewhere");
        symlink(&elsewhere, directory.path().join(".key.new")).unwrap();
        fs::write(directory.path().join("mounted"), [8; 32]).unwrap();
        install(&directory.path().join("mounted"), &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), [8; 32]);
        assert!(!elsewhere.exists(), "a link is replaced, not followed");
    }

    #[test]
    fn what_cannot_be_a_root_key_is_refused_with_path_and_rule() {
        for (content, rule) in [(vec![], "is empty"), (vec![7; MAX + 1], "more than 256 bytes")] {
            let (_directory, to, result) = run(&content);
            let error = result.unwrap_err().to_string();
            assert!(error.contains("mounted") && error.contains(rule) && error.contains("32 bytes"), "{error}");
            assert!(!to.exists());
        }
    }

    #[test]
    fn a_missing_source_and_a_missing_directory_are_told_with_their_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let missing = install(&directory.path().join("none"), &directory.path().join("key")).unwrap_err();
        assert!(missing.to_string().contains("mount the Secret"), "{missing}");
        fs::write(directory.path().join("mounted"), [7; 32]).unwrap();
        let nowhere = install(&directory.path().join("mounted"), &directory.path().join("none/key")).unwrap_err();
        assert!(nowhere.to_string().contains("its directory must be"), "{nowhere}");
    }

    #[cfg(feature = "local")]
    #[tokio::test]
    async fn an_installed_root_key_is_one_that_the_provider_takes() {
        use std::sync::Arc;

        use kustody_providers::Provider as _;
        use kustody_providers::local::{Local, RootKeySource};
        use kustody_providers::testing::MemoryStore;

        let (_directory, to, result) = run(b"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n");
        result.unwrap();
        let provider =
            Local::new(Arc::<MemoryStore>::default(), "local", RootKeySource::File(to), Arc::new(|| jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(provider.probe().await.unwrap().root_key_in_cluster, Some(false));
    }
}
