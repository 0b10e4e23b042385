//! Explicit operations of RFC 6902 on the JSON as it was sent.

use serde::Serialize;
use serde_json::Value;

use crate::targets::At;
use crate::view::Spec;

/// A patch under construction.
#[derive(Debug, Default)]
pub struct Patch(Vec<Operation>);

/// One operation.
#[derive(Debug, Serialize)]
pub struct Operation {
    op: &'static str,
    path: String,
    value: Value,
}

impl Patch {
    /// Adds `value` at `path`.
    pub fn add(&mut self, path: &str, value: Value) {
        self.0.push(Operation { op: "add", path: path.to_owned(), value });
    }

    /// Whether the container at this place is still the one that was looked at: the guard of everything that addresses it by index.
    pub fn guard(&mut self, at: At, spec: &Spec<'_>) {
        self.0.push(Operation { op: "test", path: format!("{}/name", at.path()), value: Value::from(&*at.of(spec).name) });
    }

    /// Appends to the list at `path`, which is made when it is not `there`.
    pub fn append(&mut self, path: &str, there: bool, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        if there {
            let end = format!("{path}/-");
            for value in values {
                self.add(&end, value);
            }
        } else {
            self.add(path, Value::Array(values));
        }
    }

    /// Puts values at the beginning of the list at `path`, which is made when it is not `there`.
    pub fn prepend(&mut self, path: &str, there: bool, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        self.insert(path, there, 0, values);
    }

    /// Puts values into the list at `path`, the first of them at `place`; the list is made when it is not `there`.
    pub fn insert(&mut self, path: &str, there: bool, place: usize, values: Vec<Value>) {
        if there {
            for (i, value) in values.into_iter().enumerate() {
                self.add(&format!("{path}/{}", place + i), value);
            }
        } else {
            self.add(path, Value::Array(values));
        }
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The operations.
    pub fn operations(&self) -> &[Operation] {
        &self.0
    }
}

/// A name as a segment of a JSON pointer.
pub fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
