//! For tests of the controllers: a context whose API server is a function, and caches that are filled.

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use axum::http::Method;
use kube::Resource;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::context::Context;
use crate::args::{Args, Command};
use crate::k8s::testing;
use crate::runtime::clock::SystemClock;
use crate::runtime::process::Process;

/// Every request that was no read: its path and body.
pub type Writes = Arc<Mutex<Vec<(String, Value)>>>;

/// What an API server says of an object that is not there.
pub fn absent() -> (u16, Value) {
    (404, json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"}))
}

/// A context that asks `server` for a status code and an answer to method, path and body.
pub fn context(server: impl Fn(&Method, &str, &Value) -> (u16, Value) + Clone + Send + 'static) -> (Arc<Context>, Writes) {
    let writes = Writes::default();
    let log = Arc::clone(&writes);
    let client = testing::client(move |method, uri, body| {
        let path = uri.split('?').next().unwrap_or_default();
        let answer = server(method, path, &body);
        if method != Method::GET {
            log.lock().unwrap().push((path.to_owned(), body));
        }
        answer
    });
    let required = ["--role", "controller", "--namespace", "kustody-system", "--agent-image", "agent:1", "--audit-volume", "empty-dir"];
    let Command::Run(run) = <Args as clap::Parser>::parse_from(["kustody", "run"].into_iter().chain(required)).command else {
        panic!("not run")
    };
    let process = Process::new(Arc::new(SystemClock));
    (Arc::new(Context::new(client, Arc::new(run.into_config()), &process)), writes)
}

/// A cache that was filled once, with these.
pub fn filled<K>(objects: Vec<K>) -> Store<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let (reader, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    // A cache whose writer is gone is one of a process that ends.
    std::mem::forget(writer);
    reader
}
