//! What this process must never write: byte strings that it was told, and whatever has the shape of a token.
//!
//! Of what it was told it keeps fingerprints alone, under a key that nobody knows and that ends with the process.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// What stands in its place.
pub const MARK: &str = "[redacted]";
/// Shorter ones are found in what is harmless.
const SHORTEST: usize = 8;
/// Of a longer one so much is looked for, and then everything goes that follows in the same string.
const HEAD: usize = 1024;
/// How many are known at the same time; the oldest one goes.
const MOST: usize = 4096;

/// What must not be written; clones share it.
#[derive(Clone, Default)]
pub struct Unsaid(Arc<Inner>);

#[derive(Default)]
struct Inner {
    key: RandomState,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// By the fingerprint of the first bytes of each.
    forms: HashMap<u64, Vec<Form>>,
    values: HashSet<u64>,
    /// Each value and the first bytes of its forms.
    order: VecDeque<(u64, Vec<u64>)>,
}

/// One way to write a value.
struct Form {
    value: u64,
    length: usize,
    hash: u64,
    goes_on: bool,
}

impl Unsaid {
    /// From now on `value` is not written, in any form that [`forms`] knows.
    pub fn add(&self, value: &[u8]) {
        if value.len() < SHORTEST {
            return;
        }
        let head = &value[..value.len().min(HEAD)];
        let id = self.0.key.hash_one((value.len(), head));
        if self.0.known.read().unwrap_or_else(PoisonError::into_inner).values.contains(&id) {
            return;
        }
        let goes_on = head.len() < value.len();
        let forms = forms(head).into_iter().filter(|form| form.len() >= SHORTEST);
        let forms: Vec<_> = forms
            .map(|form| (self.hash(&form[..SHORTEST]), Form { value: id, length: form.len(), hash: self.hash(&form), goes_on }))
            .collect();
        let known = &mut *self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if !known.values.insert(id) {
            return;
        }
        known.order.push_back((id, forms.iter().map(|(first, _)| *first).collect()));
        for (first, form) in forms {
            known.forms.entry(first).or_default().push(form);
        }
        if known.order.len() > MOST {
            known.forget_oldest();
        }
    }

    /// `line` as it may be written.
    pub fn hide<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut hidden: Vec<Range<usize>> = Vec::new();
        for at in 0..line.len() {
            let Some(length) = token(&line[at..]).max(self.found(&known, &line[at..])) else { continue };
            match hidden.last_mut().filter(|last| at <= last.end) {
                Some(last) => last.end = last.end.max(at + length),
                None => hidden.push(at..at + length),
            }
        }
        if hidden.is_empty() {
            return Cow::Borrowed(line);
        }
        let (mut written, mut from) = (Vec::with_capacity(line.len()), 0);
        for range in hidden {
            written.extend_from_slice(&line[from..range.start]);
            written.extend_from_slice(MARK.as_bytes());
            from = range.end;
        }
        written.extend_from_slice(&line[from..]);
        Cow::Owned(written)
    }

    /// How many bytes at the beginning of `rest` must not be written.
    fn found(&self, known: &Known, rest: &[u8]) -> Option<usize> {
        if known.forms.is_empty() {
            return None;
        }
        let forms = known.forms.get(&self.hash(rest.get(..SHORTEST)?))?;
        let found = forms.iter().filter(|form| rest.get(..form.length).is_some_and(|text| self.hash(text) == form.hash));
        found.map(|form| form.length + if form.goes_on { string(&rest[form.length..]) } else { 0 }).max()
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        self.0.key.hash_one(bytes)
    }
}

impl Known {
    fn forget_oldest(&mut self) {
        let Some((id, firsts)) = self.order.pop_front() else { return };
        self.values.remove(&id);
        for first in firsts {
            let Some(forms) = self.forms.get_mut(&first) else { continue };
            forms.retain(|form| form.value != id);
            if forms.is_empty() {
                self.forms.remove(&first);
            }
        }
    }
}

/// How a value may stand in a line of JSON: as text, as text that was printed for debugging, in base64 of either alphabet and at
/// any place in it, in hexadecimal digits, as a list of numbers.
fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(String::from_utf8_lossy(value).into_owned());
    // Half a character at the end is where it was cut.
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let mut debug = Zeroizing::new(String::with_capacity(10 * value.len() + 2));
    let mut numbers = Zeroizing::new(String::with_capacity(5 * value.len()));
    let mut hex = Zeroizing::new(String::with_capacity(2 * value.len()));
    // Writing to a string does not fail.
    let _ = write!(debug, "{text:?}");
    for (index, byte) in value.iter().enumerate() {
        let _ = write!(numbers, "{}{byte}", if index == 0 { "" } else { ", " });
        let _ = write!(hex, "{byte:02x}");
    }
    let inner = debug.get(1..debug.len() - 1).unwrap_or_default();
    let mut forms = vec![json(text), json(inner), bytes(&numbers), bytes(&hex)];
    for (before, unsure) in [(0, 0), (1, 2), (2, 3)] {
        let shifted = Zeroizing::new([&[0; 2][..before], value].concat());
        // What the last digit says of bytes that follow is not known.
        let sure = shifted.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&shifted));
            let form = bytes(encoded.get(unsure..sure).unwrap_or_default());
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms
}

fn bytes(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

/// The text as it stands between the quotes of a JSON string.
fn json(text: &str) -> Zeroizing<Vec<u8>> {
    // Reserved at once: a vector that grows leaves copies of what it held behind.
    let mut quoted = Zeroizing::new(Vec::with_capacity(6 * text.len() + 2));
    match serde_json::to_writer(&mut *quoted, text) {
        Ok(()) => Zeroizing::new(quoted.get(1..quoted.len() - 1).unwrap_or_default().to_vec()),
        Err(_) => bytes(text),
    }
}

/// How many bytes are left of the JSON string that `rest` begins within.
fn string(rest: &[u8]) -> usize {
    let mut escaped = false;
    let end = rest.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(rest.len())
}

/// How long the JSON web token is that `rest` begins with, if it does.
fn token(rest: &[u8]) -> Option<usize> {
    rest.strip_prefix(b"eyJ")?;
    let part = |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).count();
    let mut end = part(0);
    for _ in 0..2 {
        if rest.get(end) != Some(&b'.') {
            return None;
        }
        end += 1 + part(end + 1);
    }
    Some(end)
}
