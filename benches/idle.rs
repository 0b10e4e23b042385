//! All roles in one process of the binary, doing nothing.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::summary::{Row, Target, median};

/// Port of the process's admin endpoints.
const ADMIN: &str = "127.0.0.1:18080";

/// Ends its process.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One process while the cluster has this many pods that were injected: all are in its caches.
pub fn crowded(binary: &Path, agent_image: &str, token: &Path) -> Row {
    let value = settled(binary, agent_image, token);
    Row { name: "RSS with 10,000 pods in the caches, all roles", value, unit: "MiB", floor: None, target: Target::ValueAtMost(160.0) }
}

/// Median of five processes, one after the other.
pub fn row(binary: &Path, agent_image: &str, token: &Path) -> Row {
    let value = median((0..5).map(|_| settled(binary, agent_image, token)).collect());
    Row { name: "idle RSS, all roles in one process", value, unit: "MiB", floor: None, target: Target::ValueAtMost(60.0) }
}

/// Starts `kustody` with all roles, in the place of the installation's controller, whose token for the broker is in a file, against the cluster of the environment and reads its RSS (MiB) when it has settled.
fn settled(binary: &Path, agent_image: &str, token: &Path) -> f64 {
    let audit = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(binary);
    command.args(["run", "--role", "controller,webhook,broker", "--namespace", "kustody-system", "--agent-image", agent_image]);
    command.args(["--admin-address", ADMIN, "--webhook-address", "127.0.0.1:18443", "--broker-address", "127.0.0.1:18444"]);
    command.arg("--broker-token").arg(token).args(["--broker-url", "https://127.0.0.1:18444"]);
    command.arg("--audit-directory").arg(audit.path()).stdout(Stdio::null());
    let process = Ended(command.spawn().expect("kustody"));
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let ready = Command::new("curl").args(["-sf", &format!("http://{ADMIN}/readyz")]).stdout(Stdio::null()).status().expect("curl");
        if ready.success() {
            break;
        }
        assert!(Instant::now() < end, "the process was not ready within a minute");
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_secs(10));
    let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    kib / 1024.0
}
