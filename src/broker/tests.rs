//! Tests of releases through the router.
