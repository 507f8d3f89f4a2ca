//! Topics of the Mercure protocol, and matchers of them, as channels and patterns. The channel of a topic has its text as
//! its name. A matcher that no pattern stands for must be an error, never a wider pattern. Pure.

use std::fmt;
use std::ops::RangeInclusive;

use super::name::{ChannelName, NameError, Selector};
use super::pattern::{ChannelPattern, Gap};

/// The characters of Unicode's category `Cf`, which are invisible.
const FORMAT: [RangeInclusive<char>; 21] = [
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{2064}',
    '\u{2066}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

/// A text that is no topic or no matcher that can be served. The message goes on after its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicError {
    /// It cannot be the name of a channel.
    Name(NameError),
    /// It has an invisible character.
    Format,
    /// It is an URI template with this expression, which is not supported.
    Expression(String),
    /// It is a URL pattern with this character, which is not supported.
    Syntax(char),
}

impl From<NameError> for TopicError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Format => {
                f.write_str("has an invisible character (a Unicode format character); leave it out")
            }
            Self::Expression(expression) => write!(
                f,
                "is an URI template with `{{{expression}}}`; supported are expressions of one variable, such as `{{id}}`, \
                 `{{+path}}` and `{{?query}}`"
            ),
            Self::Syntax(c) => write!(
                f,
                "is a URL pattern with `{c}`; supported are names such as `:id` and `*`, without groups or modifiers"
            ),
        }
    }
}

impl std::error::Error for TopicError {}

/// Whether a text has a character that no topic and no field of an update may have.
pub fn is_hidden(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || FORMAT.iter().any(|range| range.contains(&c)))
}

fn check(text: &str) -> Result<(), TopicError> {
    let hidden = text.chars().any(|c| FORMAT.iter().any(|range| range.contains(&c)));
    if hidden { Err(TopicError::Format) } else { Ok(()) }
}

/// The channel of a topic.
pub fn channel(topic: &str) -> Result<ChannelName, TopicError> {
    check(topic)?;
    Ok(topic.parse()?)
}

/// The wildcard, which is a matcher of every type.
fn is_wildcard(matcher: &str) -> bool {
    matcher == "*"
}

/// The channels of a matcher of the type `exact`.
pub fn exact(matcher: &str) -> Result<Selector, TopicError> {
    check(matcher)?;
    Ok(if is_wildcard(matcher) { matcher.parse()? } else { Selector::Name(matcher.parse()?) })
}

/// The channels of a topic selector of the drafts before 08: a text, `*`, or an URI template (RFC 6570).
pub fn template(selector: &str) -> Result<Selector, TopicError> {
    let (text, mut rest) = match selector.split_once('{') {
        None => return exact(selector),
        Some((text, rest)) => (text, rest),
    };
    check(selector)?;
    let (mut parts, mut text) = (Parts::default(), text);
    loop {
        let Some((expression, after)) = rest.split_once('}') else {
            return Err(TopicError::Expression(shown(rest)));
        };
        let unsupported = || TopicError::Expression(shown(expression));
        let operator = expression.chars().next().filter(|c| !is_variable(*c));
        let name = expression.strip_prefix(|c| Some(c) == operator).unwrap_or(expression);
        if name.is_empty() || !name.chars().all(is_variable) {
            return Err(unsupported());
        }
        parts.text(text);
        match operator {
            None => parts.gap(Gap::Segment),
            Some('+') => parts.gap(Gap::Any),
            Some(sign @ ('/' | '.')) => {
                parts.text(&sign.to_string());
                parts.gap(Gap::Segment);
            }
            Some('#') => {
                parts.text("#");
                parts.gap(Gap::Any);
            }
            Some(sign @ ('?' | '&')) => {
                parts.text(&format!("{sign}{name}="));
                parts.gap(Gap::Segment);
            }
            Some(_) => return Err(unsupported()),
        }
        let Some((next, following)) = after.split_once('{') else {
            parts.text(after);
            return parts.selector();
        };
        (text, rest) = (next, following);
    }
}

/// Whether a character may be in the name of a variable.
fn is_variable(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn shown(expression: &str) -> String {
    expression.chars().take(40).collect()
}

/// The channels of a matcher of the type `urlpattern`: a URL with `:name` for a segment and `*` for any characters.
pub fn url_pattern(matcher: &str) -> Result<Selector, TopicError> {
    check(matcher)?;
    let mut parts = Parts::default();
    let mut rest = matcher.chars().peekable();
    while let Some(c) = rest.next() {
        let begins_name = |c: &char| c.is_ascii_alphabetic() || matches!(c, '_' | '$');
        match c {
            '*' => parts.gap(Gap::Any),
            ':' if rest.peek().is_some_and(begins_name) => {
                while rest
                    .next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
                    .is_some()
                {}
                parts.gap(Gap::Segment);
            }
            '\\' => {
                let escaped = rest.next().filter(|c| *c != '*').ok_or(TopicError::Syntax(c))?;
                parts.text(escaped.encode_utf8(&mut [0; 4]));
                continue;
            }
            '(' | ')' | '{' | '}' => return Err(TopicError::Syntax(c)),
            c => {
                parts.text(c.encode_utf8(&mut [0; 4]));
                continue;
            }
        }
        // A group follows, or a modifier.
        if let Some(c) = rest.peek().filter(|c| matches!(c, '(' | '?' | '+' | '*')) {
            return Err(TopicError::Syntax(*c));
        }
    }
    parts.selector()
}

/// The texts and gaps of a matcher.
#[derive(Default)]
struct Parts {
    first: String,
    rest: Vec<(Gap, String)>,
}

impl Parts {
    fn text(&mut self, text: &str) {
        self.rest.last_mut().map_or(&mut self.first, |(_, last)| last).push_str(text);
    }

    fn gap(&mut self, gap: Gap) {
        self.rest.push((gap, String::new()));
    }

    fn selector(self) -> Result<Selector, TopicError> {
        if self.rest.is_empty() {
            return Ok(Selector::Name(self.first.parse()?));
        }
        Ok(Selector::Pattern(ChannelPattern::new(self.first, self.rest)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &Selector, topic: &str) -> bool {
        selector.pattern().matches(topic)
    }

    #[test]
    fn the_channel_of_a_topic_has_its_text() {
        for topic in ["https://example.com/books/1?a=b#c", "urn:uuid:1", "bar", "{id}", "/é"] {
            assert_eq!(channel(topic).unwrap().as_str(), topic);
            assert_eq!(exact(topic).unwrap(), Selector::Name(channel(topic).unwrap()));
        }
        for (topic, expected) in [
            ("*", TopicError::Name(NameError::Pattern)),
            ("a*b", TopicError::Name(NameError::Pattern)),
            ("", TopicError::Name(NameError::Empty)),
            ("a\u{7f}", TopicError::Name(NameError::Control)),
            ("a\u{202e}b", TopicError::Format),
            ("\u{feff}a", TopicError::Format),
        ] {
            assert_eq!(channel(topic), Err(expected), "{topic:?}");
        }
        assert!(is_hidden("a\u{9f}") && is_hidden("\u{200b}") && !is_hidden("zoë"));
    }

    #[test]
    fn a_template_stands_for_segments() {
        for (selector, topic, expected) in [
            ("*", "anything", true),
            ("a", "a", true),
            ("a", "b", false),
            ("https://e.com/books/{id}", "https://e.com/books/1", true),
            ("https://e.com/books/{id}", "https://e.com/books/1/reviews", false),
            ("https://e.com/books/{id}", "https://e.com/books/", false),
            ("https://e.com/{a}/x/{b}", "https://e.com/1/x/2", true),
            ("https://e.com/{+path}", "https://e.com/a/b?c#d", true),
            ("https://e.com/u/{?topic}", "https://e.com/u/?topic=https%3A%2F%2Fe.com", true),
            ("https://e.com/u/{?topic}", "https://e.com/u/?other=1", false),
            ("https://e.com/u?a=1{&b}", "https://e.com/u?a=1&b=2", true),
            ("https://e.com{/a}{.b}", "https://e.com/x.json", true),
            ("https://e.com/{#part}", "https://e.com/#a/b", true),
        ] {
            assert_eq!(
                matches(&template(selector).unwrap(), topic),
                expected,
                "{selector} {topic}"
            );
        }
        for selector in ["a{", "a{id", "{}", "{a,b}", "{a*}", "{a:3}", "{;a}", "{=a}", "{é}", "{+}"]
        {
            let error = template(selector).unwrap_err();
            assert!(matches!(error, TopicError::Expression(_)), "{selector}: {error}");
        }
        assert!(template("{a}*").is_ok(), "a star within a template is a star");
    }

    #[test]
    fn a_url_pattern_has_names_and_stars() {
        for (pattern, topic, expected) in [
            ("*", "anything", true),
            ("https://e.com/books/:id", "https://e.com/books/1", true),
            ("https://e.com/books/:id", "https://e.com/books/1/2", false),
            ("https://e.com:8080/:a/:b_c", "https://e.com:8080/1/2", true),
            ("https://e.com/users/42/*", "https://e.com/users/42/a/b", true),
            ("https://e.com/users/42/*", "https://e.com/users/43/a", false),
            ("/a/:b.json", "/a/x.json", true),
            ("https://e.com/a\\:b", "https://e.com/a:b", true),
            ("https://e.com/a?b=:c", "https://e.com/a?b=d", true),
        ] {
            assert_eq!(
                matches(&url_pattern(pattern).unwrap(), topic),
                expected,
                "{pattern} {topic}"
            );
        }
        for (pattern, c) in [
            ("/:a(b)", '('),
            ("/(b)", '('),
            ("/{b}", '{'),
            ("/b}", '}'),
            ("/:a?", '?'),
            ("/:a+", '+'),
            ("/:a*", '*'),
            ("/**", '*'),
            ("/\\*", '\\'),
            ("/\\", '\\'),
        ] {
            assert_eq!(url_pattern(pattern), Err(TopicError::Syntax(c)), "{pattern}");
        }
        assert_eq!(url_pattern(""), Err(TopicError::Name(NameError::Empty)));
    }
}
