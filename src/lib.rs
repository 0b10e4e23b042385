//! The operator: controllers, admission webhook and broker in one binary; `app` composes them.

#![allow(unreachable_pub, reason = "modules are public to the binary, tests and xtask alike")]

pub mod app;
pub mod args;
pub mod audit;
pub mod broker;
pub mod check;
pub mod config;
pub mod controllers;
pub mod k8s;
pub mod rbac;
pub mod root_key;
pub mod runtime;
pub mod webhook;
