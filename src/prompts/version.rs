//! Versions of prompts, and their order. Pure.

use std::cmp::Ordering;

/// A version. Versions are in natural order: `9` before `10`, `1.9` before `1.10`, words before numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// Takes a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = |text: &str| text.split(['.', '-', '_']).map(Part::new).collect::<Vec<_>>();
        // `1` and `01` are equal numbers, and different versions.
        parts(&self.0).cmp(&parts(&other.0)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Between two separators.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Word(String),
    /// Digits without leading zeros: the longer number is the larger one.
    Number(usize, String),
}

impl Part {
    fn new(text: &str) -> Self {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::Word(text.to_owned());
        }
        let digits = text.trim_start_matches('0');
        Self::Number(digits.len(), digits.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_ordered_as_people_count() {
        let order = ["draft", "01", "1", "1.9", "1.10", "2", "10", "2026-01-31", "2026-11-02"]
            .map(Version::new);
        let mut sorted = order.to_vec();
        sorted.reverse();
        sorted.sort();
        assert_eq!(sorted, order);
    }
}
