//! Where log lines go out: whole, and without what must not be said.

use std::io::{self, Write};
use std::panic::PanicHookInfo;

use super::unsaid::Unsaid;

/// Writes lines to `out` as [`Unsaid::hide`] leaves them.
pub struct Lines<W> {
    out: W,
    unsaid: Unsaid,
}

/// What makes the writers of a formatting layer, which hands each line over in one piece.
pub fn to<W: Write, F: Fn() -> W>(out: F, unsaid: &Unsaid) -> impl Fn() -> Lines<W> + use<W, F> {
    let unsaid = unsaid.clone();
    move || Lines { out: out(), unsaid: unsaid.clone() }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.out.write_all(&self.unsaid.hide(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Tells a panic as every other line is told; the hook of the standard library writes past us.
pub fn panicked(panic: &PanicHookInfo<'_>) {
    tracing::error!(%panic, "panicked");
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::runtime::unsaid::MARK;

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        /// What was logged since it was asked last.
        pub(crate) fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::Error::other("poisoned"))?.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `doing` with a layer as the program has it.
    fn written(unsaid: &Unsaid, doing: impl FnOnce()) -> String {
        let kept = Kept::default();
        let out = kept.clone();
        let layer = tracing_subscriber::fmt::layer().json().with_writer(to(move || out.clone(), unsaid));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), doing);
        let text = kept.take();
        for line in text.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
        text
    }

    #[derive(Debug, thiserror::Error)]
    #[error("could not use {0}")]
    struct Careless(String);

    const VALUE: &str = "pässword \"of\" two\nlines?>~\u{7f}";

    #[test]
    fn a_secret_that_is_logged_by_accident_is_not_written_whatever_way_it_takes() {
        let unsaid = Unsaid::default();
        unsaid.add(VALUE.as_bytes());
        let ways: [(&str, &dyn Fn()); 11] = [
            ("message", &|| tracing::info!("got {VALUE}")),
            ("message for debugging", &|| tracing::info!("got {VALUE:?}")),
            ("field", &|| tracing::info!(value = VALUE, "got")),
            ("field for debugging", &|| tracing::info!(value = ?VALUE, "got")),
            ("error", &|| tracing::warn!(error = %Careless(VALUE.to_owned()), "failed")),
            ("error for debugging", &|| tracing::warn!(error = ?Careless(VALUE.to_owned()), "failed")),
            ("span", &|| tracing::info_span!("using", value = VALUE).in_scope(|| tracing::info!("got"))),
            ("bytes", &|| tracing::info!(bytes = ?VALUE.as_bytes(), "got")),
            ("base64", &|| tracing::info!(value = STANDARD.encode(VALUE), "got")),
            ("base64 of a part", &|| tracing::info!(value = URL_SAFE.encode(format!("u:{VALUE}:more")), "got")),
            ("hexadecimal", &|| tracing::info!(value = VALUE.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}")), "got")),
        ];
        for (way, log) in ways {
            let text = written(&unsaid, log);
            assert!(text.contains(MARK), "{way}: {text}");
            for part in ["two", "lines", "116, 119, 111", "74776f", "dHdv", "R3dv", "b2Yi"] {
                assert!(!text.contains(part), "{way}: {text}");
            }
            assert!(written(&Unsaid::default(), log).len() > 100, "{way} is a way");
        }
    }

    #[test]
    fn a_bearer_token_is_not_written_though_nobody_told_of_it() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl_-";
        let text = written(&Unsaid::default(), || tracing::info!(header = format!("Bearer {token}"), "refused"));
        assert!(text.contains(&format!("Bearer {MARK}\"")), "{text}");
    }

    #[test]
    fn a_panic_is_a_line_of_the_log_without_the_secret() {
        let unsaid = Unsaid::default();
        unsaid.add(VALUE.as_bytes());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(panicked));
        let text = written(&unsaid, || drop(std::panic::catch_unwind(|| panic!("no use for {VALUE}"))));
        std::panic::set_hook(before);
        assert!(text.contains("panicked") && text.contains(MARK) && !text.contains("two"), "{text}");
    }

    #[test]
    fn the_head_of_a_large_secret_takes_everything_with_it_and_nothing_after_its_string() {
        let unsaid = Unsaid::default();
        let large: String = vec!["of many lines"; 2000].join("\n");
        unsaid.add(large.as_bytes());
        let text = written(&unsaid, || tracing::info!(value = format!("a {large} end"), after = "here", "got"));
        assert!(text.contains(&format!("\"a {MARK}\"")) && text.contains("\"after\":\"here\""), "{text}");
        assert!(!text.contains("lines") && !text.contains(" end"));
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_of_each_other_and_what_is_short_or_unknown_is_written() {
        let unsaid = Unsaid::default();
        for value in ["abcdefgh", "efghijkl", "abcdefghij", "short"] {
            unsaid.add(value.as_bytes());
        }
        let text = written(&unsaid, || tracing::info!("<abcdefghijkl> short abcdefg"));
        assert!(text.contains(&format!("<{MARK}> short abcdefg")), "{text}");
    }

    #[test]
    fn what_was_told_first_is_forgotten_first_and_no_more_is_known_than_the_bound() {
        let unsaid = Unsaid::default();
        let value = |number: u32| format!("secret-number-{number:06}");
        (0..5000).for_each(|number| unsaid.add(value(number).as_bytes()));
        let written = |number| String::from_utf8(unsaid.hide(value(number).as_bytes()).into_owned()).unwrap();
        assert_eq!([0, 903, 904, 4999].map(|number| written(number) == MARK), [false, false, true, true]);
    }
}
