//! Searches what a test run left behind for the values that it sealed: nothing may hold one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use kustody_core::hex::hex;

/// Letters and digits that are no accident: 100 bits.
const RUN: usize = 20;
/// Read at once.
const CHUNK: usize = 4 << 20;

/// Settings of `leak-scan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// File of the values to search for, one a line.
    #[arg(long)]
    canaries: PathBuf,
    /// Values that must be found, one a line: they prove that the scan sees.
    #[arg(long)]
    planted: PathBuf,
    /// Where the report goes.
    #[arg(long)]
    report: PathBuf,
    /// Paths, in part, that may hold values: the container runtime's own record of environment variables.
    #[arg(long)]
    runtime_metadata: Vec<String>,
    /// Directories and files to search, each as NAME=PATH; the planted values must be found in each.
    #[arg(required = true)]
    places: Vec<String>,
}

/// How a value may be written.
struct Needle {
    bytes: Vec<u8>,
    canary: usize,
    form: &'static str,
}

struct Hit {
    path: PathBuf,
    canary: usize,
    form: &'static str,
}

/// What was searched and found in one place.
struct Place {
    name: String,
    bytes: u64,
    hits: Vec<Hit>,
    allowed: Vec<Hit>,
    planted: usize,
}

/// Searches every place; says whether it was clean and saw what was planted.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let canaries = lines(&options.canaries)?;
    let planted = lines(&options.planted)?;
    let all: Vec<String> = canaries.iter().chain(&planted).cloned().collect();
    let needles: Vec<Needle> = all.iter().enumerate().flat_map(|(i, canary)| forms(i, canary)).collect();
    let automaton = AhoCorasick::new(needles.iter().map(|needle| &needle.bytes)).map_err(io::Error::other)?;
    let search = Search { automaton, needles, canaries: canaries.len(), options };
    let mut places = Vec::new();
    for place in &options.places {
        let (name, path) = place.split_once('=').ok_or_else(|| io::Error::other(format!("{place}: not NAME=PATH")))?;
        let mut found = Place { name: name.to_owned(), bytes: 0, hits: Vec::new(), allowed: Vec::new(), planted: 0 };
        search.walk(Path::new(path), &mut found)?;
        places.push(found);
    }
    let report = report(&places, canaries.len(), planted.len());
    fs::write(&options.report, &report)?;
    io::stdout().write_all(report.as_bytes())?;
    Ok(!canaries.is_empty() && !planted.is_empty() && places.iter().all(|place| place.hits.is_empty() && place.planted > 0))
}

fn lines(path: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Every form that is searched for: raw, JSON- and URL-escaped, hex, base64 at each of its three alignments, and each run of
/// letters and digits alone, which no way of escaping changes.
fn forms(canary: usize, value: &str) -> Vec<Needle> {
    let needle = |form, bytes: Vec<u8>| Needle { bytes, canary, form };
    let mut forms = vec![needle("raw", value.as_bytes().to_vec())];
    let runs = value.split(|c: char| !c.is_ascii_alphanumeric()).filter(|run| run.len() >= RUN && run.len() < value.len());
    forms.extend(runs.map(|run| needle("in part", run.as_bytes().to_vec())));
    if let Ok(json) = serde_json::to_string(value) {
        forms.push(needle("JSON", json.as_bytes()[1..json.len() - 1].to_vec()));
    }
    let escaped = |upper: bool| {
        value.bytes().map(move |byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        })
    };
    forms.push(needle("URL", escaped(true).collect::<String>().into_bytes()));
    forms.push(needle("URL", escaped(false).collect::<String>().into_bytes()));
    forms.push(needle("hex", hex(value.as_bytes()).into_bytes()));
    forms.push(needle("hex", hex(value.as_bytes()).to_uppercase().into_bytes()));
    for alphabet in [alphabet::STANDARD, alphabet::URL_SAFE] {
        let engine = GeneralPurpose::new(&alphabet, NO_PAD);
        for skip in 0..3 {
            // Three bytes are four characters: what is left of a value after `skip` bytes begins a group of its own.
            let rest = &value.as_bytes()[skip..];
            let whole = rest.len() / 3 * 3;
            forms.push(needle("base64", engine.encode(&rest[..whole]).into_bytes()));
        }
    }
    forms
}

struct Search<'a> {
    automaton: AhoCorasick,
    needles: Vec<Needle>,
    /// How many of the values are canaries; the others were planted.
    canaries: usize,
    options: &'a Options,
}

impl Search<'_> {
    fn walk(&self, path: &Path, place: &mut Place) -> io::Result<()> {
        let kind = match fs::symlink_metadata(path) {
            Ok(found) => found.file_type(),
            // Pods and containers come and go while this runs.
            Err(error) if error.kind() == io::ErrorKind::NotFound && place.bytes > 0 => return Ok(()),
            Err(error) => return Err(io::Error::other(format!("{}: {error}", path.display()))),
        };
        if kind.is_dir() {
            for entry in fs::read_dir(path)? {
                self.walk(&entry?.path(), place)?;
            }
        } else if kind.is_file() {
            self.file(path, place)?;
        }
        Ok(())
    }

    fn file(&self, path: &Path, place: &mut Place) -> io::Result<()> {
        let mut file = File::open(path)?;
        let longest = self.needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(1);
        let mut buffer = vec![0; CHUNK];
        let mut kept = 0;
        loop {
            let read = file.read(&mut buffer[kept..])?;
            if read == 0 {
                return Ok(());
            }
            place.bytes += read as u64;
            let end = kept + read;
            for found in self.automaton.find_overlapping_iter(&buffer[..end]) {
                // What lies wholly in the part that was kept was seen before.
                if found.end() > kept {
                    self.hit(path, &self.needles[found.pattern().as_usize()], place);
                }
            }
            let keep = end.min(longest - 1);
            buffer.copy_within(end - keep..end, 0);
            kept = keep;
        }
    }

    fn hit(&self, path: &Path, needle: &Needle, place: &mut Place) {
        let hit = Hit { path: path.to_owned(), canary: needle.canary, form: needle.form };
        if needle.canary >= self.canaries {
            place.planted += 1;
        } else if self.options.runtime_metadata.iter().any(|part| path.to_string_lossy().contains(part)) {
            place.allowed.push(hit);
        } else {
            place.hits.push(hit);
        }
    }
}

/// Names places and counts; never a value.
fn report(places: &[Place], canaries: usize, planted: usize) -> String {
    use std::fmt::Write as _;
    let mut text = format!("leak scan: {canaries} values searched for, {planted} planted\n");
    for place in places {
        let _ = writeln!(
            text,
            "  {}: {} MB, {} hits, {} in the runtime's metadata, planted value {}",
            place.name,
            place.bytes / 1_000_000,
            place.hits.len(),
            place.allowed.len(),
            if place.planted > 0 { "found" } else { "NOT FOUND" }
        );
        let mut named: Vec<(String, &str)> = Vec::new();
        for (hit, kind) in place.hits.iter().map(|hit| (hit, "LEAK")).chain(place.allowed.iter().map(|hit| (hit, "runtime metadata"))) {
            let line = (format!("{} ({})", hit.path.display(), hit.form), kind);
            if !named.contains(&line) {
                let _ = writeln!(text, "    {kind}: {} value #{}", line.0, hit.canary + 1);
                named.push(line);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use kustody_core::hex::hex;

    use super::forms;

    #[test]
    fn every_form_of_a_value_is_searched_for() {
        let value = "ABCDEFGHJKLMNPQRSTUV\"&+/%WXYZ23456789ABCDEFGH";
        let needles = forms(0, value);
        let found = |text: &str| needles.iter().any(|needle| text.as_bytes().windows(needle.bytes.len()).any(|part| part == needle.bytes));
        for before in ["", "x", "xy", "xyz"] {
            let text = format!("{before}{value}after");
            for written in [
                text.clone(),
                serde_json::to_string(&text).unwrap(),
                STANDARD.encode(&text),
                URL_SAFE_NO_PAD.encode(&text),
                hex(text.as_bytes()),
            ] {
                assert!(found(&written), "{written}");
            }
        }
        assert!(found("ABCDEFGHJKLMNPQRSTUV%22%26%2B%2F%25WXYZ23456789ABCDEFGH"));
        // As Go writes JSON.
        assert!(found("ABCDEFGHJKLMNPQRSTUV\\\"\\u0026+/%WXYZ23456789ABCDEFGH"));
        assert!(!found("ABCDEFGHJKLMNPQRSTU"));
    }
}
