//! Patterns of channel names: texts with gaps, which stand for any characters (`*`) or for a segment of a URL. A text
//! that is filled into a pattern, such as a caller's name, must never act as a gap. Pure.

use std::fmt;
use std::str::FromStr;

use super::name::{MAX_NAME, NameError, check};

/// A pattern of channel names: literal texts with gaps between them. One text alone matches itself only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelPattern {
    first: Box<str>,
    /// Each gap, and the text after it.
    rest: Vec<(Gap, Box<str>)>,
}

/// A place in a pattern that stands for other texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gap {
    /// Any characters, or none: `*`.
    Any,
    /// One character or more, none of which ends a segment of a URL: `/`, `?` and `#`.
    Segment,
}

impl Gap {
    /// The character that stands for it where patterns are compared. No name has one.
    fn placeholder(self) -> char {
        match self {
            Self::Any => ANYTHING,
            Self::Segment => '\u{1}',
        }
    }
}

/// The placeholder of [`Gap::Any`]. It may be a text with a `/`, and so is no part of a segment.
const ANYTHING: char = '\0';

/// Whether a character ends a segment.
fn ends_segment(c: char) -> bool {
    matches!(c, '/' | '?' | '#' | ANYTHING)
}

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
        Self { first: name.into(), rest: Vec::new() }
    }

    /// A pattern of a text, and of gaps with a text after each.
    pub fn new(first: String, rest: Vec<(Gap, String)>) -> Result<Self, NameError> {
        let length = first.len() + rest.iter().map(|(_, text)| 1 + text.len()).sum::<usize>();
        if length == 0 {
            return Err(NameError::Empty);
        }
        if length > MAX_NAME {
            return Err(NameError::Long);
        }
        let controls = |text: &str| text.contains(char::is_control);
        if controls(&first) || rest.iter().any(|(_, text)| controls(text)) {
            return Err(NameError::Control);
        }
        let rest = rest.into_iter().map(|(gap, text)| (gap, text.into())).collect();
        Ok(Self { first: first.into(), rest })
    }

    /// A pattern with the placeholders `{name}` and `{sub}` filled in.
    pub fn filled(template: &str, with: Placeholders<'_>) -> Result<Self, NameError> {
        check(template)?;
        Ok(Self::starred(template.split('*').map(|piece| fill(piece, with).into())))
    }

    /// A pattern of texts with any characters between them.
    fn starred(mut texts: impl Iterator<Item = Box<str>>) -> Self {
        let first = texts.next().unwrap_or_default();
        Self { first, rest: texts.map(|text| (Gap::Any, text)).collect() }
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let Some(mut tail) = name.strip_prefix(&*self.first) else {
            return false;
        };
        let Some(((_, last), middle)) = self.rest.split_last() else {
            return tail.is_empty();
        };
        if self.rest.iter().any(|(gap, _)| *gap == Gap::Segment) {
            return self.matches_segments(tail);
        }
        for (_, text) in middle {
            let Some((_, after)) = tail.split_once(&**text) else {
                return false;
            };
            tail = after;
        }
        tail.ends_with(&**last)
    }

    /// Whether a text matches all that follows the first one: which of its places each text of the pattern can end at.
    fn matches_segments(&self, tail: &str) -> bool {
        let mut ends = vec![0];
        for (gap, text) in &self.rest {
            let (before, mut earlier) = (ends, 0);
            ends = Vec::new();
            for (at, _) in tail.char_indices().chain([(tail.len(), ' ')]) {
                // The last end before this place has the shortest gap, which is the least to match.
                while before.get(earlier + 1).is_some_and(|end| *end < at) {
                    earlier += 1;
                }
                let Some(end) = before.get(earlier).copied() else { continue };
                let between = tail.get(end..at);
                let fits = match gap {
                    Gap::Any => between.is_some(),
                    Gap::Segment => {
                        between.is_some_and(|text| !text.is_empty() && !text.contains(ends_segment))
                    }
                };
                if fits && tail.get(at..).is_some_and(|rest| rest.starts_with(&**text)) {
                    ends.push(at + text.len());
                }
            }
        }
        ends.last() == Some(&tail.len())
    }

    /// Whether every name that `other` matches is one that this pattern matches.
    pub fn covers(&self, other: &Self) -> bool {
        // A character that no name has stands for each gap of the other: only a gap of this pattern can match it.
        let is_plain = |pattern: &Self| {
            let mut texts = pattern.rest.iter().map(|(_, text)| text).chain([&pattern.first]);
            texts.all(|text| !text.contains(['\0', '\u{1}']))
        };
        is_plain(self) && is_plain(other) && self.matches(&other.written(Gap::placeholder))
    }

    /// Its text, with a character for each gap.
    fn written(&self, gap: impl Fn(Gap) -> char) -> String {
        let mut text = String::from(&*self.first);
        for (kind, piece) in &self.rest {
            text.push(gap(*kind));
            text.push_str(piece);
        }
        text
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
        Ok(Self::starred(text.split('*').map(Into::into)))
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        for (gap, text) in &self.rest {
            let sign = match gap {
                Gap::Any => "*",
                Gap::Segment => "{}",
            };
            write!(f, "{sign}{text}")?;
        }
        Ok(())
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

    /// A pattern in which `{}` is a segment.
    fn template(text: &str) -> ChannelPattern {
        let mut parts = text.split("{}").map(str::parse::<ChannelPattern>);
        let first = parts.next().unwrap().unwrap_or_else(|_| ChannelPattern::literal(""));
        parts.fold(first, |mut whole, part| {
            let part = part.unwrap_or_else(|_| ChannelPattern::literal(""));
            whole.rest.push((Gap::Segment, part.first));
            whole.rest.extend(part.rest);
            whole
        })
    }

    #[test]
    fn a_segment_is_one_part_of_a_path() {
        for (text, name, expected) in [
            ("/a/{}", "/a/b", true),
            ("/a/{}", "/a/", false),
            ("/a/{}", "/a/b/c", false),
            ("/a/{}", "/a/b?c", false),
            ("/a/{}", "/a/b#c", false),
            ("/a/{}/c", "/a/b/c", true),
            ("/{}/{}", "/a/é", true),
            ("/{}/{}", "/a", false),
            ("{}.{}", "a.b.c", true),
            ("{}{}", "a", false),
            ("{}{}", "ab", true),
            ("*/{}", "a/b/c", true),
            ("*/{}", "a/b/", false),
            ("{}/*", "a/b/c", true),
            ("{}a{}/*b", "xaay/ccb", true),
            ("{}a{}/*b", "xa/ccb", false),
        ] {
            assert_eq!(template(text).matches(name), expected, "{text} {name}");
        }
        for (right, asked, expected) in [
            ("/a/*", "/a/{}", true),
            ("/a/{}", "/a/*", false),
            ("/a/{}", "/a/{}", true),
            ("/{}/{}", "/a/{}", true),
            ("/a/{}", "/a/{}/c", false),
            ("/a/{}", "/a/b{}", true),
            ("/a/{}", "/a/b", true),
            ("{}", "{}{}", true),
            ("{}{}", "{}", false),
        ] {
            assert_eq!(template(right).covers(&template(asked)), expected, "{right} {asked}");
        }
        assert_eq!(template("/{}/*.a").to_string(), "/{}/*.a");
        let of = |first: &str, rest| ChannelPattern::new(first.to_owned(), rest);
        assert_eq!(of("a", vec![(Gap::Segment, String::new())]), Ok(template("a{}")));
        assert_eq!(of("", Vec::new()), Err(NameError::Empty));
        assert_eq!(of("a", vec![(Gap::Any, "\n".to_owned())]), Err(NameError::Control));
        assert_eq!(of("a", vec![(Gap::Any, "x".repeat(511))]), Err(NameError::Long));
    }

    /// The definition of a match, without any of its speed.
    fn matches_slowly(rest: &[(Gap, Box<str>)], tail: &str) -> bool {
        let Some(((gap, text), rest)) = rest.split_first() else { return tail.is_empty() };
        let splits =
            (0..=tail.len()).map(|at| tail.split_at(at)).filter(|(between, _)| match gap {
                Gap::Any => true,
                Gap::Segment => !between.is_empty() && !between.contains(ends_segment),
            });
        let mut tails = splits.filter_map(|(_, after)| after.strip_prefix(&**text));
        tails.any(|tail| matches_slowly(rest, tail))
    }

    proptest! {
        #[test]
        fn a_name_matches_as_the_definition_says(
            text in "([ab/*]|\\{\\}){1,6}", name in "[ab/]{0,7}",
        ) {
            let pattern = template(&text);
            let slowly = name.strip_prefix(&*pattern.first)
                .is_some_and(|tail| matches_slowly(&pattern.rest, tail));
            prop_assert_eq!(pattern.matches(&name), slowly);
        }

        #[test]
        fn a_covered_template_is_covered(
            right in "([ab/*]|\\{\\}){1,5}", asked in "([ab/*]|\\{\\}){1,5}", name in "[ab/]{1,7}",
        ) {
            let (right, asked) = (template(&right), template(&asked));
            if right.covers(&asked) && asked.matches(&name) {
                prop_assert!(right.matches(&name));
            }
        }

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
