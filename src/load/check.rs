//! A check of a run and its result.

/// A condition and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The condition.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// The observation.
    pub found: String,
}

impl Check {
    /// A check with its result.
    pub fn new(name: impl Into<String>, ok: bool, found: impl Into<String>) -> Self {
        Self { name: name.into(), ok, found: found.into() }
    }

    /// A check that two counts are equal: the load test's and the other side's.
    pub fn equal(name: impl Into<String>, ours: u64, theirs: u64) -> Self {
        Self::new(name, ours == theirs, format!("{ours} here, {theirs} there"))
    }
}
