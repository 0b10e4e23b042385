//! Tests of resolution and of counting pods.
