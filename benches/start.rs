//! From start to exit of the agent's container, by containerd's own task events, beside an init container that does nothing.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::summary::{Row, Target, median};

/// How many pods of each kind, one after the other in turn.
const PODS: usize = 51;
/// Namespace that `scripts/bench.sh` has prepared: a service account and a ready binding, both named `trainer`.
const NAMESPACE: &str = "bench";

type Times = Arc<Mutex<HashMap<String, (Option<Timestamp>, Option<Timestamp>)>>>;

/// Follows containerd's events until it is dropped.
struct Events {
    child: Child,
    times: Times,
}

impl Events {
    /// `on_node` runs a program where containerd's socket is.
    fn follow(on_node: &str) -> Self {
        let mut command = Command::new(on_node);
        command.args(["ctr", "--namespace", "k8s.io", "events"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("ctr events");
        let output = child.stdout.take().expect("its output");
        let times = Times::default();
        let written = Arc::clone(&times);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((id, topic, at)) = parse(&line) {
                    let mut times = written.lock().unwrap_or_else(PoisonError::into_inner);
                    let entry = times.entry(id).or_default();
                    if topic == "/tasks/start" { entry.0 = Some(at) } else { entry.1 = Some(at) }
                }
            }
        });
        Self { child, times }
    }

    /// Milliseconds between start and exit of a container, once both are known.
    fn lasted(&self, id: &str) -> Option<f64> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, exit) = times.get(id)?;
        Some(exit.as_ref()?.duration_since((*start)?).as_secs_f64() * 1e3)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `2026-11-25 04:15:20.123456789 +0000 UTC k8s.io /tasks/start {…"container_id":"…"…}`
fn parse(line: &str) -> Option<(String, &str, Timestamp)> {
    let topic = ["/tasks/start", "/tasks/exit"].into_iter().find(|topic| line.contains(topic))?;
    let mut words = line.split(' ');
    let at = format!("{}T{}Z", words.next()?, words.next()?).parse().ok()?;
    let event: Value = serde_json::from_str(line.split_once(topic)?.1.trim()).ok()?;
    // The end of an exec'd process has another id than its container.
    if topic == "/tasks/exit" && event["id"] != event["container_id"] {
        return None;
    }
    Some((event["container_id"].as_str()?.to_owned(), topic, at))
}

fn pod(name: &str, asks: bool) -> Value {
    let security = json!({
        "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let container = |name: &str| json!({"name": name, "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent", "command": ["/bin/true"], "securityContext": security});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {}},
        "spec": {"serviceAccountName": "trainer", "restartPolicy": "Never", "containers": [container("main")]},
    });
    if asks {
        pod["metadata"]["labels"]["kustody.dev/inject"] = json!("trainer");
    } else {
        pod["spec"]["initContainers"] = json!([container("nothing")]);
    }
    pod
}

/// Runs one pod to its end; answers with how long its init container lived.
fn lifetime(events: &Events, name: &str, asks: bool) -> f64 {
    let kubectl = |arguments: &[&str], input: &str| {
        use std::io::Write as _;
        let mut child = Command::new("kubectl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("kubectl reads");
        let output = child.wait_with_output().expect("kubectl ends");
        assert!(output.status.success(), "kubectl {arguments:?}");
        output.stdout
    };
    kubectl(&["create", "-f", "-"], &pod(name, asks).to_string());
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let found: Value = serde_json::from_slice(&kubectl(&["-n", NAMESPACE, "get", "pod", name, "-o", "json"], "")).expect("a pod");
        let id = found["status"]["initContainerStatuses"][0]["containerID"].as_str().and_then(|id| id.strip_prefix("containerd://"));
        if found["status"]["phase"] == "Succeeded"
            && let Some(lasted) = id.and_then(|id| events.lasted(id))
        {
            kubectl(&["-n", NAMESPACE, "delete", "pod", name, "--wait=false"], "");
            return lasted;
        }
        assert!(Instant::now() < end, "pod {name}: {}", found["status"]);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The median of the agent's lifetimes less the median of those that do nothing.
pub fn row(on_node: &str) -> Row {
    let events = Events::follow(on_node);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for i in 0..PODS {
        without.push(lifetime(&events, &format!("nothing-{i}"), false));
        with.push(lifetime(&events, &format!("agent-{i}"), true));
    }
    let (with, without) = (median(with), median(without));
    Row {
        name: "agent's container, start to exit, less a no-op's",
        value: with - without,
        unit: "ms",
        floor: Some(without),
        target: Target::ValueAtMost(50.0),
    }
}
