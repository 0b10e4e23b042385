//! Reads the pinned plan and checks again what the file system will be asked to do.

use std::collections::BTreeSet;

use kustody_core::wire::{self, Plan, PlannedBinding};

use crate::failure::Failure;

/// The format that this agent understands.
const VERSION: u8 = 1;

/// The plan, if it is one that an admission writes.
pub(crate) fn read(json: &str) -> Result<Plan, Failure> {
    // The parser's own words name a position, not the text at it.
    let plan: Plan = serde_json::from_str(json).map_err(|error| Failure::Variable {
        name: wire::env::PLAN,
        rule: format!("is not a plan (line {}, column {})", error.line(), error.column()),
    })?;
    if plan.version != VERSION {
        return Err(bad("version", "is not 1"));
    }
    let mut names = BTreeSet::new();
    for binding in &plan.bindings {
        if !is_name(&binding.name) || !names.insert(&binding.name) {
            return Err(bad(&format!("binding {:?}", binding.name), "is not a unique object name"));
        }
        check(binding)?;
    }
    Ok(plan)
}

fn check(binding: &PlannedBinding) -> Result<(), Failure> {
    for file in &binding.files {
        let item = || format!("binding {}, file {:?}", binding.name, file.path);
        if !stays_inside(&file.path) {
            return Err(bad(&item(), "is not a path inside the binding's directory"));
        }
        if file.mode > 0o777 {
            return Err(bad(&item(), "has a mode with more than permission bits"));
        }
    }
    for variable in &binding.env {
        let sound = !variable.name.is_empty() && variable.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !sound {
            return Err(bad(&format!("binding {}, variable {:?}", binding.name, variable.name), "is not a name of a variable"));
        }
    }
    Ok(())
}

fn bad(item: &str, rule: &'static str) -> Failure {
    Failure::Plan { item: item.to_owned(), rule }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

/// Relative, without empty, `.` or `..` segments; names that begin with `..` are the writer's own.
fn stays_inside(path: &str) -> bool {
    !path.starts_with("..") && !path.contains('\0') && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::{read, stays_inside};

    #[test]
    fn a_path_that_leaves_the_binding_s_directory_is_refused() {
        for path in ["a", "a/b", ".hidden", "a..b", "a/..b", "a b"] {
            assert!(stays_inside(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", ".", "..", "./a", "a/..", "../a", "a/../../b", "..data", "..data/a", "a\0"] {
            assert!(!stays_inside(path), "{path}");
        }
    }

    #[test]
    fn a_plan_that_no_admission_writes_is_refused_with_the_item() {
        let binding = |rest: &str| format!(r#"{{"version":1,"bindings":[{{"name":"b","uid":"u"{rest}}}]}}"#);
        assert!(read(&binding("")).is_ok());
        for (plan, named) in [
            ("{".to_owned(), "KUSTODY_PLAN"),
            (r#"{"version":2,"bindings":[]}"#.to_owned(), "version"),
            (r#"{"version":1,"bindings":[{"name":"../b","uid":"u"}]}"#.to_owned(), "../b"),
            (r#"{"version":1,"bindings":[{"name":"b","uid":"u"},{"name":"b","uid":"u"}]}"#.to_owned(), "unique"),
            (binding(r#","files":[{"path":"../x","secret":"s","mode":256}]"#), "../x"),
            (binding(r#","files":[{"path":"x","secret":"s","mode":2048}]"#), "mode"),
            (binding(r#","env":[{"name":"A=B","secret":"s"}]"#), "A=B"),
        ] {
            let failure = read(&plan).unwrap_err();
            assert!(!failure.heals());
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }
}
