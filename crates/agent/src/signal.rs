//! Ends the process at SIGTERM: the only `unsafe` of the agent.
//!
//! The first process of a container has no default for signals: without a handler the kernel drops SIGTERM, and each pod with a
//! watch would take its whole grace period to end. The standard library has no handlers.
#![expect(unsafe_code, reason = "reviewed: two calls of the C library, and a handler that calls nothing but _exit (docs/adr/0016)")]

use std::ffi::c_int;

const SIGTERM: c_int = 15;

// SAFETY: as POSIX declares them; `signal` answers with a pointer-sized value that is not looked at.
unsafe extern "C" {
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn _exit(status: c_int) -> !;
}

/// From now on SIGTERM ends the process at once, with success.
///
/// Whatever was being written stays aside: the swap is one rename, and the next run sweeps the rest.
pub fn end_on_terminate() {
    // SAFETY: the handler is async-signal-safe and lives as long as the program.
    unsafe { signal(SIGTERM, end) };
}

extern "C" fn end(_: c_int) {
    // SAFETY: `_exit` is async-signal-safe; no destructor has anything to do that the kernel does not.
    unsafe { _exit(0) }
}
