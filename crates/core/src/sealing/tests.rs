//! Sealing, its committed vectors, and what must not open.

use proptest::prelude::*;
use serde_json::Value;

use super::{Error, Header, KeyDocument, MAX_PLAINTEXT, Place, PublicKey, SealedValue, generate, open, seal};
use crate::secret::SecretBytes;

const VECTORS: &str = include_str!("../../tests/vectors/sealed-v1.json");
const PLACE: Place<'static> = Place { namespace: "vision", binding: "trainer", secret: "hf" };

fn document(seed: &SecretBytes) -> KeyDocument {
    let public_key = PublicKey::from_seed(seed).unwrap();
    KeyDocument {
        header: Header {
            provider_key_id: "vision/team-key/0123".into(),
            version: 1,
            public_key_sha256: public_key.sha256(),
            wrapped_seed: vec![7; 60],
        },
        namespace: "vision".into(),
        key: "team-key".into(),
        public_key,
    }
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is a string"))
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn the_committed_vectors_open_and_the_altered_ones_do_not() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let seed = SecretBytes::new(unhex(text(&vectors, "seedHex")));
    let document = KeyDocument::parse(text(&vectors, "document")).unwrap();
    assert_eq!(document.public_key, PublicKey::from_seed(&seed).unwrap());
    assert_eq!(document.to_string(), text(&vectors, "document"));
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 6);
    for case in cases {
        let place = Place { namespace: text(case, "namespace"), binding: text(case, "binding"), secret: text(case, "secret") };
        let opened = SealedValue::parse(text(case, "sealed")).and_then(|sealed| open(&seed, &sealed, &place));
        match case["plaintextHex"].as_str() {
            Some(hex) => assert_eq!(opened.unwrap().expose(), unhex(hex), "{}", text(case, "name")),
            None => assert!(opened.is_err(), "{}", text(case, "name")),
        }
    }
}

#[test]
fn a_value_opens_at_its_own_place_alone() {
    let (seed, _) = generate().unwrap();
    let sealed = seal(&document(&seed), &PLACE, &secret(b"canary")).unwrap();
    assert_eq!(open(&seed, &sealed, &PLACE).unwrap().expose(), b"canary");
    for place in [
        Place { namespace: "vision2", ..PLACE },
        Place { binding: "other", ..PLACE },
        Place { secret: "hf2", ..PLACE },
        Place { namespace: "visiontrainer", binding: "", secret: "hf" },
    ] {
        assert_eq!(open(&seed, &sealed, &place).err(), Some(Error::DoesNotOpen), "{place:?}");
    }
    let said = Error::DoesNotOpen.to_string();
    assert!(said.contains("for another namespace, binding or secret name") && said.ends_with("seal it again for this place"), "{said}");
}

#[test]
fn a_value_opens_under_its_own_key_alone() {
    let (seed, _) = generate().unwrap();
    let (other, _) = generate().unwrap();
    let sealed = seal(&document(&seed), &PLACE, &secret(b"canary")).unwrap();
    assert_eq!(open(&other, &sealed, &PLACE).err(), Some(Error::OtherKey));
}

#[test]
fn a_changed_header_never_opens() {
    let (seed, _) = generate().unwrap();
    let sealed = seal(&document(&seed), &PLACE, &secret(b"canary")).unwrap();
    let changes: [fn(&mut Header); 3] = [|h| h.provider_key_id.push('x'), |h| h.version += 1, |h| h.wrapped_seed[0] ^= 1];
    for change in changes {
        let mut altered = sealed.clone();
        change(&mut altered.header);
        assert_eq!(open(&seed, &altered, &PLACE).err(), Some(Error::DoesNotOpen));
    }
}

#[test]
fn a_value_over_the_limit_is_refused_with_its_size() {
    let (seed, _) = generate().unwrap();
    let error = seal(&document(&seed), &PLACE, &SecretBytes::new(vec![0; MAX_PLAINTEXT + 1])).err();
    assert_eq!(error, Some(Error::TooLarge { length: MAX_PLAINTEXT + 1 }));
}

#[test]
fn sealed_text_says_what_it_is_not() {
    let (seed, _) = generate().unwrap();
    let document = document(&seed);
    let sealed = seal(&document, &PLACE, &secret(b"x")).unwrap();
    assert!(SealedValue::parse(&document.to_string()).unwrap_err().to_string().contains("not a sealed value"));
    assert!(KeyDocument::parse(&sealed.to_string()).unwrap_err().to_string().contains("not a key document"));
    assert!(SealedValue::parse("AgEB…").unwrap_err().to_string().contains("base64url"));
}

#[test]
fn a_line_of_which_a_part_is_missing_says_what_to_do_wherever_it_ends() {
    let (seed, _) = generate().unwrap();
    let document = document(&seed);
    let (sealed, document) = (seal(&document, &PLACE, &secret(b"canary")).unwrap().to_string(), document.to_string());
    for end in 1..sealed.len() {
        let read = SealedValue::parse(&sealed[..end]);
        let said = read.and_then(|sealed| open(&seed, &sealed, &PLACE)).err().unwrap().to_string();
        // Of a part that is long enough nobody can tell that it is one: it was altered.
        let altered = said.contains("or was altered; seal it again for this place");
        let cut = said.starts_with("the sealed value cannot be read: ") && said.ends_with("copy the whole line again");
        assert!(cut || altered && sealed.len() - end < 10, "{end}: {said}");
    }
    for end in 1..document.len() {
        let said = KeyDocument::parse(&document[..end]).unwrap_err().to_string();
        assert!(said.starts_with("the key document cannot be read: ") && said.ends_with("copy the whole line again"), "{end}: {said}");
    }
}

/// How the committed vectors were made; those of version 1 never change.
fn vectors() -> Value {
    let seed = SecretBytes::new((0u8..32).collect());
    let document = document(&seed);
    let mut cases = Vec::new();
    for (name, plaintext) in
        [("empty", &b""[..]), ("text", b"hf_example"), ("binary", &[0, 255, 10, 39]), ("json", br#"{"user":"u","password":"p"}"#)]
    {
        let sealed = seal(&document, &PLACE, &secret(plaintext)).unwrap();
        cases.push(serde_json::json!({"name": name, "namespace": "vision", "binding": "trainer", "secret": "hf",
            "plaintextHex": super::format::hex(plaintext), "sealed": sealed.to_string()}));
    }
    let sealed = seal(&document, &PLACE, &secret(b"hf_example")).unwrap();
    let mut header = sealed.clone();
    header.header.version = 2;
    let mut ciphertext = sealed.clone();
    ciphertext.ciphertext[0] ^= 1;
    let mut encapsulated = sealed.clone();
    encapsulated.encapsulated[0] ^= 1;
    for (name, namespace, value) in [
        ("other namespace", "audio", sealed),
        ("header altered", "vision", header),
        ("ciphertext altered", "vision", ciphertext),
        ("encapsulated key altered", "vision", encapsulated),
    ] {
        cases.push(
            serde_json::json!({"name": name, "namespace": namespace, "binding": "trainer", "secret": "hf", "sealed": value.to_string()}),
        );
    }
    serde_json::json!({"format": 1, "seedHex": super::format::hex(&(0u8..32).collect::<Vec<_>>()), "document": document.to_string(), "cases": cases})
}

#[test]
fn the_generator_of_the_vectors_agrees_with_the_committed_document() {
    let committed: Value = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(vectors()["document"], committed["document"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn parse_and_display_are_each_other_s_inverse(plaintext in prop::collection::vec(any::<u8>(), 0..200), id in "[ -~]{0,40}", version: u32) {
        let (seed, _) = generate().unwrap();
        let mut document = document(&seed);
        document.header.provider_key_id = id;
        document.header.version = version;
        prop_assert_eq!(&KeyDocument::parse(&document.to_string()).unwrap(), &document);
        let sealed = seal(&document, &PLACE, &secret(&plaintext)).unwrap();
        let read = SealedValue::parse(&sealed.to_string()).unwrap();
        prop_assert_eq!(&read, &sealed);
        let opened = open(&seed, &read, &PLACE).unwrap();
        prop_assert_eq!(opened.expose(), &plaintext[..]);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[A-Za-z0-9_-]{0,400}") {
        let _ = (KeyDocument::parse(&text), SealedValue::parse(&text));
    }

    #[test]
    fn any_altered_byte_is_noticed(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let (seed, _) = generate().unwrap();
        let line = seal(&document(&seed), &PLACE, &secret(b"canary")).unwrap().to_string();
        let mut bytes = URL_SAFE_NO_PAD.decode(line).unwrap();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let altered = SealedValue::parse(&URL_SAFE_NO_PAD.encode(bytes));
        prop_assert!(altered.and_then(|sealed| open(&seed, &sealed, &PLACE)).is_err());
    }
}
