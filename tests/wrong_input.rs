//! Documents that say which test holds a sentence name tests that are there.

#![allow(clippy::unwrap_used, reason = "a test panics when a sentence is not true")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Names of all tests of our sources that are run.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut open) = (BTreeSet::new(), ["src", "crates", "tests"].map(|folder| root.join(folder)).to_vec());
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(entry).unwrap();
                found.extend(tests_of(&text));
            }
        }
    }
    found
}

/// Functions with `#[test]` or `#[tokio::test…]` and without `#[ignore…]` in the lines above them.
fn tests_of(text: &str) -> Vec<String> {
    let (mut found, mut above) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.trim_start_matches("async ").strip_prefix("fn ") {
            let has = |attribute: &str| above.iter().any(|line: &&str| line.starts_with(attribute));
            if (has("#[test]") || has("#[tokio::test")) && !has("#[ignore") {
                found.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
        }
        if line.is_empty() || line.ends_with(['{', '}']) {
            above.clear();
        } else {
            above.push(line);
        }
    }
    found
}

#[test]
fn a_name_is_a_tests_only_when_its_function_is_run_as_one() {
    let text = "#[test]\nfn one() {\n}\nfn two() {\n}\n#[tokio::test(flavor = \"x\")]\n#[expect(a)]\nasync fn three() {\n}\n#[test]\n#[ignore]\nfn four() {\n}\n";
    assert_eq!(tests_of(text), ["one", "three"]);
}

/// What stands in backticks and is a sentence of words with underscores.
fn named(text: &str) -> Vec<&str> {
    let of_a_test =
        |word: &&str| word.matches('_').count() > 1 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    text.split('`').skip(1).step_by(2).filter(of_a_test).collect()
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let tests = tests();
    for document in ["docs/reference/wrong-input.md", "docs/threat-model.md"] {
        let text = read(document);
        let names = named(&text);
        assert!(names.len() > 50, "{document} names {} tests", names.len());
        let lost: Vec<_> = names.into_iter().filter(|name| !tests.contains(*name)).collect();
        assert!(lost.is_empty(), "{document} names tests that are not there or not run: {lost:?}; correct the names, or write the tests");
    }
}

#[test]
fn every_case_of_wrong_input_says_what_a_person_reads_and_which_test_holds_it() {
    let text = read("docs/reference/wrong-input.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| case "));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split(" | ").collect()).collect();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        assert!(row.len() == 3 && row[1].len() > 3 && !named(row[2]).is_empty(), "{row:?}");
    }
}
