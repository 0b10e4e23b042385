//! A file that holds a root key or a passphrase: read once, bounded, and refused when others than its owner can use it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kustody_core::secret::SecretBytes;
use zeroize::Zeroizing;

use super::crypto;
use crate::Error;

/// What such a file holds at most.
const MAX: usize = 256;
/// Fewest bytes of a passphrase; what is guessed offline has no lock-out.
const MIN_PASSPHRASE: usize = 12;

/// A root key: 32 bytes, raw or as base64.
pub(super) fn root_key(path: &Path) -> Result<SecretBytes, Error> {
    let refuse = |detail: String| refused("root key file", path, &detail);
    let raw = read("root key file", path)?;
    if raw.len() == crypto::KEY {
        return Ok(raw);
    }
    let key = decode(&raw).filter(|key| key.len() == crypto::KEY);
    key.ok_or_else(|| refuse(format!("holds {} bytes; a root key has 32 bytes, raw or as base64", raw.len())))
}

/// A passphrase: the bytes of the file without one line end at its end.
#[expect(clippy::disallowed_methods, reason = "a passphrase ends before its line end")]
pub(super) fn passphrase(path: &Path) -> Result<SecretBytes, Error> {
    let raw = read("passphrase file", path)?;
    let bytes = raw.expose();
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if bytes.len() < MIN_PASSPHRASE {
        let detail = format!("holds fewer than {MIN_PASSPHRASE} bytes; take a passphrase of six or more random words");
        return Err(refused("passphrase file", path, &detail));
    }
    Ok(SecretBytes::new(bytes.to_vec()))
}

fn read(what: &str, path: &Path) -> Result<SecretBytes, Error> {
    let refuse = |detail: String| refused(what, path, &detail);
    let file = File::open(path).map_err(|error| refuse(format!("cannot be opened: {error}; put it there (in the operator: mount it)")))?;
    let metadata = file.metadata().map_err(|error| refuse(format!("cannot be examined: {error}")))?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file".to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(refuse(format!(
            "has mode {mode:04o}: its group or the world can use it; set it to 0400 and let the user that reads it own it"
        )));
    }
    // Room for what is read at most: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX));
    file.take(MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if bytes.len() > MAX {
        return Err(refuse(format!("has more than {MAX} bytes; a root key has 32 bytes, raw or as base64, a passphrase at most {MAX}")));
    }
    Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
}

fn refused(what: &str, path: &Path, detail: &str) -> Error {
    Error::Configuration { detail: format!("{what} {}: {detail}", path.display()) }
}

#[expect(clippy::disallowed_methods, reason = "decoding the root key needs its text")]
fn decode(text: &SecretBytes) -> Option<SecretBytes> {
    STANDARD.decode(text.expose().trim_ascii()).ok().map(SecretBytes::new)
}
