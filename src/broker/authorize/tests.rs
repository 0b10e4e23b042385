//! Tests of what of a plan is given, as tables.
