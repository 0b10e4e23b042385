//! What a proof found: a line for each round, the sum at the end, and `target/prove/NAME.json`.

use std::time::Instant;

use serde_json::{Value, json};

/// Of one proof.
pub struct Report {
    name: &'static str,
    facts: Value,
    started: Instant,
    passed: u32,
    failures: Vec<String>,
}

impl Report {
    /// Begins; `facts` say how to run it again.
    pub fn new(name: &'static str, facts: Value) -> Self {
        println!("proof {name}: {facts}");
        Self { name, facts, started: Instant::now(), passed: 0, failures: Vec::new() }
    }

    /// Takes over what a run that was interrupted found, from what it kept last: how many rounds it had played.
    pub fn resume(&mut self, file: &str) -> u64 {
        let Ok(kept) = std::fs::read_to_string(file) else { return 0 };
        let (done, passed, failures): (u64, u32, Vec<String>) = serde_json::from_str(&kept).expect("what was kept");
        println!("goes on after {done} rounds, {} of which failed", failures.len());
        (self.passed, self.failures) = (passed, failures);
        done
    }

    /// Keeps what was found until now, for a run that goes on.
    pub fn keep(&self, file: &str, done: u64) {
        std::fs::create_dir_all("target/prove").expect("target/prove");
        let kept = serde_json::to_string(&(done, self.passed, &self.failures)).expect("JSON");
        std::fs::write(format!("{file}.new"), kept).and_then(|()| std::fs::rename(format!("{file}.new"), file)).expect("what was found");
    }

    /// Runs one check; a panic is its failure.
    pub fn check(&mut self, name: &str, check: impl FnOnce() + std::panic::UnwindSafe) {
        let from = Instant::now();
        match std::panic::catch_unwind(check) {
            Ok(()) => {
                self.passed += 1;
                println!("ok    {name} ({:.1} s)", from.elapsed().as_secs_f64());
            }
            Err(why) => {
                let text = why.downcast_ref::<String>().cloned().or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let text = text.unwrap_or_else(|| "it panicked".to_owned());
                println!("FAIL  {name}: {text}");
                self.failures.push(format!("{name}: {text}"));
            }
        }
    }

    /// Says how it ended.
    pub fn finish(self) -> std::process::ExitCode {
        let failed = self.failures.len();
        let seconds = self.started.elapsed().as_secs();
        let summary = json!({
            "name": self.name, "facts": self.facts, "passed": self.passed, "failed": failed, "seconds": seconds, "failures": self.failures,
        });
        std::fs::create_dir_all("target/prove").expect("target/prove");
        let file = format!("target/prove/{}.json", self.name);
        std::fs::write(&file, serde_json::to_string_pretty(&summary).expect("JSON")).expect("the summary");
        println!("{} passed, {failed} failed", self.passed);
        std::process::ExitCode::from(u8::from(failed > 0))
    }
}
