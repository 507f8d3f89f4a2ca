//! Names and ids in the form that an upstream accepts. Each replacement is a pure function of the original, so
//! that consecutive requests agree and different originals stay different.

use std::borrow::Cow;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::rules::Charset;

/// The most characters of a name before its digest.
const KEPT: usize = 55;

/// Number of hexadecimal digits in a name's digest.
const DIGEST: usize = 8;

impl Charset {
    fn takes(&self, c: char) -> bool {
        let Some(others) = self.others else { return true };
        c.is_ascii_alphanumeric() || others.contains(c)
    }

    fn begins(&self, text: &str) -> bool {
        !self.word_first || text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }

    /// Whether a text is accepted unchanged.
    pub(super) fn fits(&self, text: &str) -> bool {
        !text.is_empty()
            && text.len() <= self.longest
            && self.begins(text)
            && text.chars().all(|c| self.takes(c))
    }

    /// The first `kept` characters of a text, with `_` for each character that is not accepted.
    fn cut(&self, text: &str, kept: usize) -> String {
        let mut out = String::with_capacity(kept + 20);
        if !self.begins(text) {
            out.push('_');
        }
        let fitting = text.chars().map(|c| if self.takes(c) && c.is_ascii() { c } else { '_' });
        out.extend(fitting.take(kept - out.len()));
        out
    }

    /// An accepted name: the original, or a prefix of it and a digest.
    pub(super) fn name<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.fits(text) {
            return Cow::Borrowed(text);
        }
        let digest = hex(text);
        let digest = digest.get(..DIGEST).unwrap_or_default();
        Cow::Owned(format!("{}_{digest}", self.cut(text, KEPT)))
    }

    /// An accepted id: the original, or a prefix of it and a digest.
    pub(super) fn id<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.fits(text) {
            return Cow::Borrowed(text);
        }
        let kept = self.longest.min(text.chars().count() + 17).saturating_sub(17);
        let mut out = if kept == 0 { String::new() } else { self.cut(text, kept) };
        // FNV-1a is stable, unlike the hashers of the standard library.
        let digest = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // Writing to a string cannot fail.
        write!(out, "_{digest:016x}").unwrap_or_default();
        Cow::Owned(out)
    }
}

/// Replaces a text of more than `longest` bytes by its SHA-256 in hexadecimal, cut to `longest`. `None` if it
/// is short enough.
pub(super) fn digested(text: &str, longest: usize) -> Option<String> {
    (text.len() > longest).then(|| hex(text).get(..longest.min(64)).unwrap_or_default().to_owned())
}

fn hex(text: &str) -> String {
    let mut out = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string cannot fail.
        write!(out, "{byte:02x}").unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Charset = Charset { longest: 64, others: Some("_-"), word_first: false };

    #[test]
    fn a_name_that_fits_stays_and_others_are_cut_alike() {
        assert_eq!(NAME.name("read_file"), "read_file");
        let long = "mcp__plugin_deploy_on_cloud__get_pre_deploy_validation_instructions_for_stack";
        let short = NAME.name(long);
        assert_eq!(short.len(), 64);
        assert!(NAME.fits(&short) && long.starts_with(short.get(..55).unwrap()));
        assert_eq!(short, NAME.name(long));
        assert_ne!(short, NAME.name(&format!("{long}2")));
        assert_ne!(NAME.name("a.b"), NAME.name("a:b"));
        assert!(NAME.name("a.b").starts_with("a_b_"));
        assert!(NAME.fits(&NAME.name("Umläuße")) && NAME.fits(&NAME.name("")));
        let words = Charset { longest: 64, others: Some("_"), word_first: true };
        assert!(words.fits(&words.name("1-two")), "{}", words.name("1-two"));
        assert_eq!(words.name(&"9".repeat(80)).len(), 64);
    }

    #[test]
    fn an_id_that_fits_stays_and_others_are_replaced_alike() {
        let any = Charset { longest: 40, others: None, word_first: false };
        assert_eq!(any.id("functions.bash:0"), "functions.bash:0");
        let long = "fc_0f0e50a1476a6c35006912c58dc9f8819192c25864eb16f07f";
        assert_eq!(any.id(long).len(), 40);
        assert_eq!(any.id(long), any.id(long));
        let free = Charset { longest: usize::MAX, others: Some("_-"), word_first: false };
        assert!(free.id("f.0").starts_with("f_0_") && free.fits(&free.id("f.0")));
        assert_ne!(free.id("f.0"), free.id("f:0"));
        assert!(free.fits(&free.id("")) && any.fits(&any.id("")));
    }

    #[test]
    fn an_identifier_that_is_too_long_becomes_its_digest() {
        assert_eq!(digested("u", 64), None);
        let digest = digested(&"u".repeat(65), 64).unwrap();
        assert_eq!(digest.len(), 64);
        assert_eq!(Some(digest), digested(&"u".repeat(65), 64));
    }
}
