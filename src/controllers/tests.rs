//! For tests of the controllers: a context whose API server is a function, and caches that are filled.

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, Response};
use kube::client::Body;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::context::Context;
use crate::args::{Args, Command};
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
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, server) = (Arc::clone(&log), server.clone());
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            let body: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (code, answer) = server(&parts.method, &path, &body);
            if parts.method != Method::GET {
                log.lock().unwrap().push((path, body));
            }
            Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    let required = ["--role", "controller", "--namespace", "kustody-system", "--agent-image", "agent:1", "--audit-volume", "empty-dir"];
    let Command::Run(run) = <Args as clap::Parser>::parse_from(["kustody", "run"].into_iter().chain(required)).command else {
        panic!("not run")
    };
    let process = Process::new(Arc::new(SystemClock));
    (Arc::new(Context::new(Client::new(service, "default"), Arc::new(run.into_config()), &process)), writes)
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
