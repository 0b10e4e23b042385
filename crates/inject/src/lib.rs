//! Pure injection: pod and facts to plan to JSON Patch.
