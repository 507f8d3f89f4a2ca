//! Channel names, and patterns of them in which each `*` stands for any characters. A text that is filled into a
//! pattern, such as a caller's name, must never act as a `*`. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The most bytes of a name or a pattern.
const MAX_NAME: usize = 512;

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

fn check(text: &str) -> Result<(), NameError> {
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

/// A pattern of channel names: literal texts with any characters between them. One text alone matches itself only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelPattern(Vec<Box<str>>);

/// The texts that replace `{name}` and `{sub}` in a pattern.
#[derive(Debug, Clone, Copy)]
pub struct Placeholders<'a> {
    /// The caller's name.
    pub name: &'a str,
    /// The subject of its token; its name, if it has none.
    pub sub: &'a str,
}

impl ChannelPattern {
    /// A pattern that matches one name and nothing else, even if the name has a `*`.
    pub fn literal(name: &str) -> Self {
        Self(vec![name.into()])
    }

    /// A pattern with the placeholders `{name}` and `{sub}` filled in.
    pub fn filled(template: &str, with: Placeholders<'_>) -> Result<Self, NameError> {
        check(template)?;
        Ok(Self(template.split('*').map(|piece| fill(piece, with).into()).collect()))
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.iter();
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(&**first)) else {
            return false;
        };
        let Some(last) = pieces.next_back() else {
            return rest.is_empty();
        };
        for piece in pieces {
            let Some((_, tail)) = rest.split_once(&**piece) else {
                return false;
            };
            rest = tail;
        }
        rest.ends_with(&**last)
    }

    /// Whether every name that `other` matches is one that this pattern matches.
    pub fn covers(&self, other: &Self) -> bool {
        // A character that no name has stands for the other's `*`: only a `*` of this pattern can match it.
        let is_plain = |piece: &str| !piece.contains('\0');
        self.0.iter().all(|piece| is_plain(piece))
            && other.0.iter().all(|piece| is_plain(piece))
            && self.matches(&other.0.join("\0"))
    }
}

/// A text in which the placeholders are replaced, once: what replaces them is not searched for others.
fn fill(text: &str, with: Placeholders<'_>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let found = [("name}", with.name), ("sub}", with.sub)]
            .into_iter()
            .find_map(|(key, value)| Some((after.strip_prefix(key)?, value)));
        rest = if let Some((after, value)) = found {
            filled.push_str(value);
            after
        } else {
            filled.push('{');
            after
        };
    }
    filled.push_str(rest);
    filled
}

impl FromStr for ChannelPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check(text)?;
        Ok(Self(text.split('*').map(Into::into).collect()))
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("*"))
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
        self.subscribe.iter().any(|right| match selector {
            Selector::Name(name) => right.matches(name.as_str()),
            Selector::Pattern(pattern) => right.covers(pattern),
        })
    }

    /// Whether it may publish to a channel.
    pub fn may_publish(&self, name: &ChannelName) -> bool {
        self.publish.iter().any(|right| right.matches(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn patterns_match_any_characters_at_a_star() {
        for (text, name, expected) in [
            ("*", "anything", true),
            ("news", "news", true),
            ("news", "newss", false),
            ("news.*", "news.a.b", true),
            ("news.*", "news", false),
            ("*.a", "news.a", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(pattern(text).matches(name), expected, "{text} {name}");
        }
    }

    #[test]
    fn a_right_covers_narrower_patterns_only() {
        for (right, asked, expected) in [
            ("*", "*", true),
            ("*", "a*b", true),
            ("news.*", "news.a*", true),
            ("news.*", "news.*.x", true),
            ("news.*", "news*", false),
            ("news.*", "*", false),
            ("a*b", "a*", false),
            ("a*b", "a*b", true),
            ("a*b", "a**b", true),
            ("a*b*c", "a*c", false),
            ("news", "news*", false),
            ("news.a", "news.a", true),
        ] {
            assert_eq!(pattern(right).covers(&pattern(asked)), expected, "{right} {asked}");
        }
    }

    #[test]
    fn what_fills_a_placeholder_is_taken_literally() {
        let filled = |template, name, sub| {
            ChannelPattern::filled(template, Placeholders { name, sub }).unwrap()
        };
        let own = filled("user:{name}.*", "alice", "a");
        assert!(own.matches("user:alice.x") && !own.matches("user:bob.x"));
        assert!(filled("user:{sub}", "idp#alice", "alice").matches("user:alice"));
        // A caller called `*` gets no right to everybody's channel.
        let star = filled("user:{name}", "*", "*");
        assert!(!star.matches("user:bob") && !star.covers(&pattern("user:*")));
        assert!(star.matches("user:*"));
        assert!(filled("user:{name}", "{sub}", "bob").matches("user:{sub}"));
        assert!(filled("{x}{name", "alice", "a").matches("{x}{name"));
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

    proptest! {
        /// Sound for all short patterns and names.
        #[test]
        fn what_a_covered_pattern_matches_the_right_matches_too(
            right in "[ab*]{1,5}", asked in "[ab*]{1,5}", name in "[ab]{1,6}",
        ) {
            let (right, asked) = (pattern(&right), pattern(&asked));
            if right.covers(&asked) && asked.matches(&name) {
                prop_assert!(right.matches(&name));
            }
        }
    }
}
