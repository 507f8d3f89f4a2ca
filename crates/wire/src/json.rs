//! Lossless JSON: lenient reading of strings, and edits of single members of an object that leave every other
//! byte unchanged.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Up to this number, edits are searched linearly, which is faster than a map.
const FEW_EDITS: usize = 8;

/// The members of an object in order, with unparsed values.
#[derive(Debug, Default)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Splits an object into its members.
    pub fn parse(object: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(object)
    }

    /// The value of a member. The last one of a name counts, as in most parsers.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// Edits members of an object: `(name, Some(JSON))` replaces the value or appends the member, `(name,
    /// None)` removes it. Every other byte is kept in place. `object` must be the text that was parsed.
    pub fn edit(&self, object: &str, edits: &[(&str, Option<&str>)]) -> String {
        let part = |from: usize, to: usize| object.get(from..to).unwrap_or_default();
        // The first of several edits of a member counts.
        let many: Option<HashMap<&str, Option<&str>>> =
            (edits.len() > FEW_EDITS).then(|| edits.iter().rev().copied().collect());
        let mut out = String::with_capacity(object.len() + 64);
        // The end of the member before; initially the opening brace.
        let mut at = object.find('{').map_or(0, |brace| brace + 1);
        out.push_str(part(0, at));
        let mut first = true;
        for (name, value) in &self.0 {
            let start = value.get().as_ptr().addr() - object.as_ptr().addr();
            let end = start + value.get().len();
            // `, "name" :` with the surrounding spaces.
            let lead = part(at, start);
            at = end;
            let edit = match &many {
                Some(many) => many.get(name.as_ref()),
                None => edits.iter().find(|(edited, _)| edited == name).map(|(_, new)| new),
            };
            let new = match edit {
                None => value.get(),
                Some(Some(new)) => new,
                Some(None) => continue,
            };
            let removed_before = first && lead.trim_start().starts_with(',');
            out.push_str(if removed_before {
                lead.trim_start().trim_start_matches(',')
            } else {
                lead
            });
            out.push_str(new);
            first = false;
        }
        for (name, value) in edits {
            if let Some(new) = value
                && self.get(name).is_none()
            {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                out.push_str(&quoted(name));
                out.push(':');
                out.push_str(new);
            }
        }
        out.push_str(part(at, object.len()));
        out
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The name of a member, borrowed unless it holds escapes. (A plain `Cow<str>` never borrows.)
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// [`Members::edit`] of an unparsed object.
pub fn edit(object: &str, edits: &[(&str, Option<&str>)]) -> Result<String, serde_json::Error> {
    Ok(Members::parse(object)?.edit(object, edits))
}

/// Inserts JSON items at the start of an array, whose own bytes are unchanged. `None` if it is not an array.
pub fn prepend(array: &str, items: &[String]) -> Option<String> {
    let own = array.trim().strip_prefix('[')?.strip_suffix(']')?;
    let between = if own.trim().is_empty() || items.is_empty() { "" } else { "," };
    Some(format!("[{}{between}{own}]", items.join(",")))
}

/// Returns an array with each element replaced by the result of `map`, or removed where that is `None`. `None`
/// if the value is not an array.
pub fn map_elements<'a>(
    array: &'a str,
    mut map: impl FnMut(&'a str) -> Option<Cow<'a, str>>,
) -> Option<String> {
    let elements: Vec<&'a RawValue> = serde_json::from_str(array).ok()?;
    let kept: Vec<Cow<'a, str>> = elements.into_iter().filter_map(|raw| map(raw.get())).collect();
    Some(format!("[{}]", kept.join(",")))
}

/// A string as a JSON string literal.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Appends a string as a JSON string literal.
pub fn write_str(text: &str, out: &mut BytesMut) {
    // Writing to memory cannot fail.
    serde_json::to_writer(out.writer(), text).unwrap_or_default();
}

/// Whether a member is missing or null.
pub fn is_unsaid(members: &Members<'_>, name: &str) -> bool {
    members.get(name).is_none_or(is_null)
}

/// Whether a value is `null`, which counts as missing.
pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Reads a count as lenient servers do: a number, also with a fraction or an exponent, or a text that holds
/// one. A fraction is rounded up, and a number out of range becomes the maximum. `None` for anything else and
/// for negative numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked, and saturates"
)]
pub fn count(value: &RawValue) -> Option<u64> {
    let text = text(value).unwrap_or_else(|| Cow::Borrowed(value.get()));
    let digits = text.trim();
    if let Ok(count) = digits.parse() {
        return Some(count);
    }
    // Underscores group digits in Python.
    let number: f64 = digits.replace('_', "").parse().ok()?;
    (number >= 0.0).then(|| number.ceil() as u64)
}

/// Reads a JSON string literal, borrowing it if it holds no escapes. `None` if it is not a string. Half a
/// surrogate pair becomes U+FFFD, because an error would help no caller.
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    if let Ok(text) = serde_json::from_str::<String>(value.get()) {
        return Some(Cow::Owned(text));
    }
    Some(Cow::Owned(unescape_lossy(inner)))
}

/// The text of a member of an object. `None` if the object is not valid JSON, or has no such member, or it is
/// not a string.
pub fn text_member<'a>(object: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let members = Members::parse(std::str::from_utf8(object).ok()?).ok()?;
    text(members.get(name)?)
}

/// Replaces lone halves of surrogate pairs in JSON by U+FFFD, as [`text`] does for single strings.
pub fn replace_lone_surrogates(json: &str) -> Cow<'_, str> {
    let first = memchr::memchr(b'\\', json.as_bytes()).and_then(|at| json.as_bytes().get(at..));
    let escaped =
        |word: &[u8]| first.is_some_and(|rest| memchr::memmem::find(rest, word).is_some());
    if !escaped(br"\ud") && !escaped(br"\uD") {
        return Cow::Borrowed(json);
    }
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut out, mut kept, mut at) = (String::with_capacity(json.len()), 0, 0);
    while let Some(slash) = memchr::memchr(b'\\', json.as_bytes().get(at..).unwrap_or_default()) {
        at += slash;
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (Some(0xD800..0xE000), _) => {
                out.push_str(json.get(kept..at).unwrap_or_default());
                out.push_str("\\ufffd");
                kept = at + 6;
                6
            }
            // A backslash escapes only the next byte.
            _ => 2,
        };
        at += length;
    }
    out.push_str(json.get(kept..).unwrap_or_default());
    Cow::Owned(out)
}

/// Decodes the inside of a valid JSON string literal and replaces lone surrogates.
fn unescape_lossy(inner: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let unit = match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => u16::from(b'\n'),
            ('\\', Some('r')) => u16::from(b'\r'),
            ('\\', Some('t')) => u16::from(b'\t'),
            ('\\', Some('b')) => 8,
            ('\\', Some('f')) => 12,
            ('\\', Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).unwrap_or(0xFFFD)
            }
            ('\\', Some(literal)) => {
                units.extend(literal.encode_utf16(&mut [0; 2]).iter());
                continue;
            }
            _ => {
                units.extend(c.encode_utf16(&mut [0; 2]).iter());
                continue;
            }
        };
        units.push(unit);
    }
    String::from_utf16_lossy(&units)
}

/// The half of a surrogate pair at the end of a text fragment, if any: `\ud83d` at the end of one delta, with
/// the other half at the start of the next.
pub fn trailing_high_surrogate(value: &RawValue) -> Option<&str> {
    let inner = value.get().strip_suffix('"')?;
    let escape = inner.get(inner.len().checked_sub(6)?..)?;
    let unit = u16::from_str_radix(escape.strip_prefix("\\u")?, 16).ok()?;
    // After an odd number of backslashes the escape would be literal text.
    let before = inner.len() - 6;
    let slashes = inner.as_bytes().iter().take(before).rev().take_while(|b| **b == b'\\').count();
    ((0xD800..0xDC00).contains(&unit) && slashes % 2 == 0).then_some(escape)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
