//! Values that must be found nowhere: high in entropy, and written down for the scan at the end of the run.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::cluster_directory;

/// Name of the list of canaries in the cluster's directory.
const LIST: &str = "canaries";

/// A new canary: 40 letters and digits, with 200 bits, and between them what encodings escape.
pub fn canary() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut bytes = [0; 40];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    let text = |half: &[u8]| half.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect::<String>();
    let canary = format!("{}\"&+/%{}", text(&bytes[..20]), text(&bytes[20..]));
    let mut list = OpenOptions::new().create(true).append(true).open(cluster_directory().join(LIST)).unwrap();
    // One write: tests append side by side.
    list.write_all(format!("{canary}\n").as_bytes()).unwrap();
    canary
}

/// SHA-256 as `sha256sum` prints it.
pub fn digest(value: &str) -> String {
    use sha2::Digest as _;
    kustody_core::sealing::format::hex(&sha2::Sha256::digest(value.as_bytes()))
}
