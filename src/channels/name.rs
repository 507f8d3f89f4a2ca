//! Channel names, the channels that a subscriber asks for, and rights to channels. A right must never cover a channel
//! that none of its patterns matches. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::pattern::ChannelPattern;

/// The most bytes of a name or a pattern.
pub(super) const MAX_NAME: usize = 512;

/// The name of a channel: 1 to 512 bytes, without control characters and `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// A text that cannot be a channel's name or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It has more than `MAX_NAME` bytes.
    Long,
    /// It has a control character, such as a line end.
    Control,
    /// It has a `*` where one channel is meant.
    Pattern,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty; expected 1 to 512 bytes",
            Self::Long => "is too long; expected at most 512 bytes",
            Self::Control => {
                "has a line end or another control character; expected visible characters"
            }
            Self::Pattern => "has a `*`; expected the name of one channel, not a pattern",
        })
    }
}

impl std::error::Error for NameError {}

/// Checks the text of a name or a pattern.
pub(super) fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::Long);
    }
    if text.chars().any(char::is_control) { Err(NameError::Control) } else { Ok(()) }
}

impl ChannelName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for ChannelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check(text)?;
        if text.contains('*') { Err(NameError::Pattern) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Channels that a subscriber asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// One channel.
    Name(ChannelName),
    /// All channels of a pattern, also those that come later.
    Pattern(ChannelPattern),
}

impl Selector {
    /// The pattern of the same channels.
    pub fn pattern(&self) -> ChannelPattern {
        match self {
            Self::Name(name) => ChannelPattern::literal(name.as_str()),
            Self::Pattern(pattern) => pattern.clone(),
        }
    }
}

impl FromStr for Selector {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(if text.contains('*') {
            Self::Pattern(text.parse()?)
        } else {
            Self::Name(text.parse()?)
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// The channels that a caller may subscribe and publish to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelRights {
    /// Patterns of channels that it may subscribe to.
    pub subscribe: Vec<ChannelPattern>,
    /// Patterns of channels that it may publish to.
    pub publish: Vec<ChannelPattern>,
}

impl ChannelRights {
    /// Whether it may subscribe to all of these.
    pub fn may_subscribe(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Name(name) => self.may_read(name.as_str()),
            Selector::Pattern(pattern) => self.subscribe.iter().any(|right| right.covers(pattern)),
        }
    }

    /// Whether it may subscribe to the channel of a name.
    pub fn may_read(&self, name: &str) -> bool {
        self.subscribe.iter().any(|right| right.matches(name))
    }

    /// Whether it may publish to a channel.
    pub fn may_publish(&self, name: &ChannelName) -> bool {
        self.publish.iter().any(|right| right.matches(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_visible_texts_without_a_wildcard() {
        for name in ["news", "a", "user:https://idp.example.com/#zoë m", "x/y?z=1&2", "{name}"] {
            assert_eq!(name.parse::<ChannelName>().unwrap().as_str(), name);
        }
        for (name, expected) in [
            ("", NameError::Empty),
            ("a\nb", NameError::Control),
            ("a\r", NameError::Control),
            ("\0", NameError::Control),
            ("\u{85}", NameError::Control),
            ("news.*", NameError::Pattern),
            (&"x".repeat(513), NameError::Long),
            (&"é".repeat(257), NameError::Long),
        ] {
            assert_eq!(name.parse::<ChannelName>(), Err(expected), "{name:?}");
        }
        assert!("x".repeat(512).parse::<ChannelName>().is_ok());
    }

    #[test]
    fn rights_are_for_names_and_patterns() {
        let rights = ChannelRights {
            subscribe: vec![pattern("news.*"), pattern("prices")],
            publish: vec![pattern("news.a")],
        };
        for (asked, expected) in [
            ("news.a", true),
            ("news.*", true),
            ("prices", true),
            ("prices*", false),
            ("*", false),
            ("other", false),
        ] {
            assert_eq!(rights.may_subscribe(&asked.parse().unwrap()), expected, "{asked}");
        }
        assert!(rights.may_publish(&"news.a".parse().unwrap()));
        assert!(!rights.may_publish(&"news.b".parse().unwrap()));
        assert!(!ChannelRights::default().may_subscribe(&"a".parse().unwrap()));
    }
}
