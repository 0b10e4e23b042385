//! No type that holds a secret can be printed, compared or serialised, and no error of this crate holds a value.

#![allow(clippy::unwrap_used, reason = "test code")]

use kustody_core::sealing::{self, Header, KeyDocument, Place};
use kustody_core::secret::SecretBytes;
use kustody_core::wire::{Release, ReleasedValue};
use kustody_core::{envfile, property};
use proptest::prelude::*;

/// Whether a type has a trait, asked without needing it: the inherent constant is found first, if its bound holds.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "not found when the bound holds")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "only found when the bound holds")]
        impl<T: ?Sized + $($bound)+> Asked<T> {
            const HAS: bool = true;
        }
        <Asked<$type>>::HAS
    }};
}

macro_rules! assert_cannot_leave {
    ($($type:ty),+) => {$(
        assert!(!has!($type: std::fmt::Debug), concat!(stringify!($type), " has Debug"));
        assert!(!has!($type: std::fmt::Display), concat!(stringify!($type), " has Display"));
        assert!(!has!($type: serde::Serialize), concat!(stringify!($type), " has Serialize"));
        assert!(!has!($type: Clone), concat!(stringify!($type), " has Clone"));
        assert!(!has!($type: PartialEq), concat!(stringify!($type), " has PartialEq"));
    )+};
}

#[test]
fn types_that_hold_secrets_cannot_be_printed_copied_compared_or_serialised() {
    assert!(has!(String: std::fmt::Debug) && has!(String: serde::Serialize), "the question itself works");
    assert_cannot_leave!(SecretBytes, ReleasedValue, Release);
}

/// A value with enough entropy that finding it is no accident.
fn secret() -> impl Strategy<Value = String> {
    "[A-Za-z0-9]{24}"
}

proptest! {
    #[test]
    fn no_error_holds_the_value_that_it_is_about(value in secret(), odd in prop::sample::select(vec!["'", "\r", "\0", "", "\"", "{"])) {
        let text = format!("{value}{odd}{value}");
        let bytes = || SecretBytes::new(text.clone().into_bytes());
        let mut said = Vec::new();
        if let Err(error) = envfile::render(&[("TOKEN", &bytes())]) {
            said.push(format!("{error} {error:?}"));
        }
        for wanted in ["missing", "a"] {
            if let Err(error) = property::extract(&bytes(), Some(wanted)) {
                said.push(format!("{error} {error:?}"));
            }
        }
        if let Err(error) = Release::decode(text.as_bytes()) {
            said.push(format!("{error} {error:?}"));
        }
        for said in said {
            prop_assert!(!said.contains(&value), "{}", said);
        }
    }

}

proptest! {
    // Each case makes a key and seals.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_sealed_cannot_be_seen_in_the_sealed_value_nor_in_why_it_does_not_open(value in secret()) {
        let (seed, public_key) = sealing::generate().unwrap();
        let header = Header { provider_key_id: "k".to_owned(), version: 1, public_key_sha256: public_key.sha256(), wrapped_seed: vec![0; 60] };
        let document = KeyDocument { header, namespace: "n".to_owned(), key: "k".to_owned(), public_key };
        let place = Place { namespace: "n", binding: "b", secret: "s" };
        let sealed = sealing::seal(&document, &place, &SecretBytes::new(value.clone().into_bytes())).unwrap();
        let Err(error) = sealing::open(&seed, &sealed, &Place { binding: "other", ..place }) else { panic!("it opened elsewhere") };
        let said = format!("{sealed:?} {sealed} {error} {error:?}");
        prop_assert!(!said.contains(&value));
    }
}
