//! The format as `docs/concepts/sealed-values.md` tells it, read without the code that writes it.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Takes the next bytes off a line.
struct Reader(Vec<u8>);

impl Reader {
    fn new(line: &Value) -> Self {
        Self(URL_SAFE_NO_PAD.decode(line.as_str().unwrap()).unwrap())
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.0.split_off(length);
        std::mem::replace(&mut self.0, rest)
    }

    fn part(&mut self) -> Vec<u8> {
        let length = self.take(4).try_into().map(u32::from_be_bytes).unwrap();
        self.take(usize::try_from(length).unwrap())
    }

    /// Everything that the table "Header" lists; gives the hash of the public key.
    fn header(&mut self) -> Vec<u8> {
        assert_eq!(self.take(7), [0x01, 0x64, 0x7a, 0x00, 0x01, 0x00, 0x02]);
        assert_eq!(self.part(), b"vision/team-key/0123");
        assert_eq!(self.take(4), [0, 0, 0, 1]);
        let hash = self.take(32);
        assert_eq!(self.part(), [7; 60]);
        hash
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/sealed-v1.json")).unwrap()
}

#[test]
fn a_key_document_is_laid_out_as_documented() {
    let document = &vectors()["document"];
    assert!(document.as_str().unwrap().starts_with("SwFkegABAAI"));
    let mut reader = Reader::new(document);
    assert_eq!(reader.take(1), b"K");
    let hash = reader.header();
    assert_eq!(reader.part(), b"vision");
    assert_eq!(reader.part(), b"team-key");
    assert_eq!(Sha256::digest(reader.take(1216))[..], hash);
    assert!(reader.0.is_empty());
}

#[test]
fn a_sealed_value_is_laid_out_as_documented() {
    let mut seen = 0;
    for case in vectors()["cases"].as_array().unwrap() {
        let Some(plaintext) = case["plaintextHex"].as_str() else { continue };
        assert!(case["sealed"].as_str().unwrap().starts_with("UwFkegABAAI"));
        let mut reader = Reader::new(&case["sealed"]);
        assert_eq!(reader.take(1), b"S");
        reader.header();
        reader.take(1120);
        assert_eq!(reader.0.len(), plaintext.len() / 2 + 16);
        seen += 1;
    }
    assert_eq!(seen, 4);
}
