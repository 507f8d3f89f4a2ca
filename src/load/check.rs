//! A check of a run and its result.

/// Something that must hold, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub name: String,
    /// Whether it does.
    pub ok: bool,
    /// What was found.
    pub found: String,
}

impl Check {
    /// A check with its result.
    pub fn new(name: impl Into<String>, ok: bool, found: impl Into<String>) -> Self {
        Self { name: name.into(), ok, found: found.into() }
    }

    /// Two counts that must be equal: ours, and the other side's.
    pub fn equal(name: impl Into<String>, ours: u64, theirs: u64) -> Self {
        Self::new(name, ours == theirs, format!("{ours} here, {theirs} there"))
    }
}
