//! Who may import what, how large a file may be, and what stands in no file: ARCHITECTURE.md as a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics when a sentence is not true")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file of Rust.
const MAX_LINES: usize = 600;
/// Longest `mod.rs`: it holds the wiring of its folder and no more.
const MAX_MOD_LINES: usize = 260;
/// Modules of the operator, and the siblings that each may use.
const MODULES: &[(&str, &[&str])] = &[
    ("runtime", &[]),
    ("audit", &["runtime"]),
    ("k8s", &["runtime"]),
    ("controllers", &["k8s", "runtime", "config"]),
    ("webhook", &["k8s", "runtime", "config"]),
    ("broker", &["audit", "k8s", "runtime", "config"]),
];
/// Crates of ours that a module must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("runtime", &["kustody_api", "kustody_core", "kustody_inject", "kustody_providers"]),
    ("audit", &["kustody_api", "kustody_inject", "kustody_providers", "kube"]),
    // Caches and its certificate are all that it may have of `k8s`: admission cannot open a value.
    ("webhook", &["kustody_providers", "k8s::providers", "k8s::key_store", "k8s::status"]),
    ("k8s", &["kustody_inject", "axum"]),
    ("controllers", &["kustody_inject"]),
    ("broker", &["kustody_inject"]),
];
/// Packages, and what each must be unable to import.
const PACKAGES: &[(&str, &[&str])] = &[
    ("core", &["kube", "k8s-openapi", "tokio", "kustody-api", "kustody-inject", "kustody-providers"]),
    ("api", &["tokio", "kustody-inject", "kustody-providers"]),
    ("inject", &["tokio", "hyper", "kustody-providers"]),
    ("providers", &["kube", "axum", "kustody-api", "kustody-inject"]),
    ("agent", &["kube", "tokio", "k8s-openapi", "kustody-api", "kustody-inject", "kustody-providers", "clap"]),
];
/// All that the plugin may use of the providers: it exports and imports records, and opens nothing with them.
const OF_PROVIDERS: &[&str] = &[
    "kustody_providers::Error",
    "kustody_providers::key_store::",
    "kustody_providers::local::recovery::",
    "kustody_providers::local::secret",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(below: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![below.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() && name != "target" && name != ".git" {
                open.push(entry);
            } else if name.ends_with(extension) && entry.is_file() {
                found.push(entry);
            }
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code of a module without its tests, which may use what they like.
fn code(module: &str) -> Vec<(PathBuf, String)> {
    let folder = root().join("src").join(module);
    let is_test = |path: &Path| path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")));
    let files = files(&folder, ".rs").into_iter().filter(|path| !is_test(path.strip_prefix(&folder).unwrap()));
    files.map(|path| (path.clone(), read(&path).split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned())).collect()
}

#[test]
fn each_module_uses_only_the_siblings_that_the_table_names() {
    let names: Vec<&str> = MODULES.iter().map(|(name, _)| *name).chain(["app", "args", "check", "rbac", "root_key"]).collect();
    for (module, allowed) in MODULES {
        for (path, text) in code(module) {
            for other in names.iter().filter(|other| *other != module && !allowed.contains(other)) {
                assert!(!text.contains(&format!("crate::{other}")), "{} uses {other}", path.display());
            }
        }
    }
}

#[test]
fn each_module_names_no_crate_that_it_must_not_reach() {
    for (module, forbidden) in FORBIDDEN {
        for (path, text) in code(module) {
            for other in *forbidden {
                assert!(!text.contains(&format!("{other}::")), "{} uses {other}", path.display());
            }
        }
    }
}

#[test]
fn each_package_is_unable_to_import_what_it_must_not_reach() {
    for (package, forbidden) in PACKAGES {
        let manifest = read(&root().join("crates").join(package).join("Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        for other in *forbidden {
            // The derive of kube, without its client, is how kinds are written.
            let named = dependencies.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(other));
            assert!(!named, "crates/{package}/Cargo.toml names {other}");
        }
    }
    for package in ["api", "inject"] {
        let manifest = read(&root().join("crates").join(package).join("Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        assert!(!dependencies.contains("\"client\"") && !dependencies.contains("\"runtime\""), "crates/{package} has a Kubernetes client");
    }
}

/// Where the plugin may speak to the cluster.
const DOORS: &[&str] = &["src/cluster.rs", "src/recovery/store.rs"];

#[test]
fn one_file_of_the_cli_speaks_to_the_cluster_and_one_to_the_store_of_keys() {
    let is_door = |path: &Path| DOORS.iter().any(|door| path.to_string_lossy().contains(door));
    for path in files(&root().join("crates/cli/src"), ".rs").into_iter().filter(|path| !is_door(path)) {
        let text = read(&path);
        for door in ["kube::Client", "kube::Api", "kube::api", "kube::config", "Client::try_from"] {
            assert!(!text.contains(door), "{} uses {door}: what a person's rights reach is read through cluster.rs", path.display());
        }
    }
}

#[test]
fn the_plugin_uses_of_the_providers_only_their_recovery() {
    for path in files(&root().join("crates/cli/src"), ".rs") {
        let text = read(&path);
        for (at, _) in text.match_indices("kustody_providers::") {
            assert!(OF_PROVIDERS.iter().any(|allowed| text[at..].starts_with(allowed)), "{}: {:.60}", path.display(), &text[at..]);
        }
    }
}

#[test]
fn no_file_is_longer_than_its_budget() {
    for path in files(root(), ".rs") {
        let lines = read(&path).lines().count();
        let most = if path.ends_with("mod.rs") && !path.to_string_lossy().contains("tests") { MAX_MOD_LINES } else { MAX_LINES };
        assert!(lines <= most, "{} has {lines} lines, at most {most}", path.display());
    }
}

#[test]
fn every_file_of_rust_says_first_what_it_is_for() {
    for path in files(root(), ".rs") {
        assert!(read(&path).starts_with("//!"), "{} begins without a //! sentence", path.display());
    }
}

#[test]
fn the_namespaces_that_never_ask_are_the_same_in_chart_and_code() {
    let listed: Vec<String> = kustody_api::names::EXCLUDED_NAMESPACES.iter().map(|name| format!("\"{name}\"")).collect();
    for template in ["mutatingwebhookconfiguration", "validatingadmissionpolicy"] {
        let text = read(&root().join(format!("charts/kustody/templates/{template}.yaml")));
        assert!(text.contains(&format!("list {} .Release.Namespace", listed.join(" "))), "{text}");
    }
}

#[test]
fn the_version_of_chart_and_code_is_one() {
    let chart = read(&root().join("charts/kustody/Chart.yaml"));
    let version = env!("CARGO_PKG_VERSION");
    assert!(chart.contains(&format!("\nversion: {version}\n")) && chart.contains(&format!("\nappVersion: {version}\n")), "{chart}");
}
