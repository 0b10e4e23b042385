//! A file that is there wholly or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes the file wholly or not at all, and never in the place of another: it is filled under a name of its own beside it.
pub(super) fn place(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let new = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let beside = path.with_added_extension(format!("{}.partial", std::process::id()));
    let mut file = new(&beside)?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    // The empty file takes the name, which a rename alone would take from whoever has it.
    let placed = written.and_then(|()| new(path)).and_then(|_| {
        let renamed = fs::rename(&beside, path);
        renamed.inspect_err(|_| drop(fs::remove_file(path)))
    });
    if placed.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
        return placed;
    }
    // The name itself must outlast a power cut.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use super::place;

    #[test]
    fn an_export_has_its_name_only_once_it_is_whole_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("export");
        let names = || -> Vec<_> { std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        let full = place(&path, |file| {
            file.write_all(b"half")?;
            assert!(!path.exists());
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!((full.unwrap_err().to_string().as_str(), names().len()), ("the disk is full", 0));
        place(&path, |file| file.write_all(b"whole")).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names().len()), (b"whole".to_vec(), 1));
        let taken = place(&path, |file| file.write_all(b"another")).unwrap_err();
        assert_eq!((taken.kind(), std::fs::read(&path).unwrap(), names().len()), (io::ErrorKind::AlreadyExists, b"whole".to_vec(), 1));
    }
}
