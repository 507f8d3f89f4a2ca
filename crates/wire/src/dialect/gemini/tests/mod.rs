//! Tests of this dialect alone.
