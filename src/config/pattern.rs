//! Glob patterns of model names, in which each `*` stands for any characters: matching, precedence and overlap. Pure.

use std::cmp::Reverse;

/// Whether a name matches a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some((_, tail)) = rest.split_once(piece) else {
            return false;
        };
        rest = tail;
    }
    rest.ends_with(last)
}

/// Whether there is a name that two patterns match.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // Row by row: whether what is left of both patterns from here on can be the same text.
    let mut below = vec![false; other.len() + 1];
    for at in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for other_at in (0..=other.len()).rev() {
            let next = |ahead: bool, row: &[bool]| {
                let at = if ahead { other_at + 1 } else { other_at };
                row.get(at).copied().unwrap_or_default()
            };
            let meet = match (one.get(at), other.get(other_at)) {
                (None, None) => true,
                (Some(b'*'), None) => next(false, &below),
                (None, Some(b'*')) => next(true, &row),
                (Some(b'*'), _) | (_, Some(b'*')) => next(false, &below) || next(true, &row),
                (Some(a), Some(b)) => a == b && next(true, &below),
                _ => false,
            };
            if let Some(cell) = row.get_mut(other_at) {
                *cell = meet;
            }
        }
        below = row;
    }
    below.first().copied().unwrap_or_default()
}

/// The order of patterns, the most exact first: by the characters before the first `*`, then by all characters.
pub(super) fn precedence(pattern: &str) -> (Reverse<usize>, Reverse<usize>) {
    let literal = |text: &str| text.bytes().filter(|byte| *byte != b'*').count();
    let head = pattern.split('*').next().unwrap_or_default();
    (Reverse(head.len()), Reverse(literal(pattern)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("fast", "fast", true),
            ("fast", "faster", false),
            ("local/*", "local/n100", true),
            ("local/*", "other/n100", false),
            ("*/small", "local/small", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_overlap_where_a_name_matches_both() {
        for (one, other, expected) in [
            ("*", "claude-*", true),
            ("claude-*", "gpt-*", false),
            ("a*", "*b", true),
            ("a*c", "a*b", false),
            ("a*b*", "a*c*", true),
            ("*-mini", "gpt-*", true),
            ("fast", "fa*", true),
            ("fast", "fest", false),
            ("", "*", true),
            ("a", "", false),
            ("*a", "*b", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    /// Compared with all short names.
    #[test]
    fn overlaps_are_those_that_names_show() {
        let letters = ["a", "b", "*"];
        let patterns: Vec<String> = (0..81)
            .map(|n| [n / 27, n / 9 % 3, n / 3 % 3, n % 3].map(|at| letters[at]).concat())
            .collect();
        let names: Vec<String> = (0..8)
            .flat_map(|length| (0..1 << length).map(move |bits| (length, bits)))
            .map(|(length, bits): (u32, u32)| {
                (0..length).map(|at| if bits >> at & 1 == 0 { 'a' } else { 'b' }).collect()
            })
            .collect();
        for one in &patterns {
            for other in &patterns {
                let both = names.iter().any(|name| matches(one, name) && matches(other, name));
                assert_eq!(overlap(one, other), both, "{one} {other}");
            }
        }
    }

    #[test]
    fn the_more_exact_comes_first() {
        let mut patterns = ["*", "claude-*", "*-mini", "claude-opus-*", "claude-*-mini", "c*"];
        patterns.sort_by_key(|pattern| precedence(pattern));
        assert_eq!(patterns, ["claude-opus-*", "claude-*-mini", "claude-*", "c*", "*-mini", "*"]);
    }
}
