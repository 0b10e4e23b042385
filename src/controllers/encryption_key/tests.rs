//! Tests of the decisions and of every crash between two steps.
