//! Headers of callers that are forwarded to an upstream of the caller's own dialect: an allow-list, in one
//! table with the source of each row. It must never let a credential, an account or an address through.

use std::collections::HashSet;
use std::sync::LazyLock;

const TABLE: &str = include_str!("forwarded_headers.txt");

/// The lists by dialect. There are few dialects.
static LISTS: LazyLock<Vec<(&str, AllowList)>> = LazyLock::new(|| {
    let mut lists = Vec::<(&str, AllowList)>::new();
    for (dialect, name) in rows() {
        let known = lists.iter().position(|(of, _)| *of == dialect);
        let at = known.unwrap_or_else(|| {
            lists.push((dialect, AllowList::default()));
            lists.len() - 1
        });
        let Some((_, list)) = lists.get_mut(at) else { continue };
        match name.strip_suffix('*') {
            Some(start) => list.prefixes.push(start),
            None => drop(list.names.insert(name)),
        }
    }
    lists
});

/// The headers that are forwarded to upstreams of one dialect.
#[derive(Debug, Default)]
pub struct AllowList {
    names: HashSet<&'static str>,
    prefixes: Vec<&'static str>,
}

impl AllowList {
    /// The list of a dialect. `None` if no headers are forwarded to its upstreams.
    pub fn of(dialect: &str) -> Option<&'static Self> {
        LISTS.iter().find(|(of, _)| *of == dialect).map(|(_, list)| list)
    }

    /// Whether a header, in lower case, is forwarded.
    pub fn has(&self, header: &str) -> bool {
        let listed = self.names.contains(header)
            || self.prefixes.iter().any(|start| header.starts_with(start));
        listed && !CREDENTIALS.iter().any(|word| header.contains(word))
    }
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| {
        let mut words = row.split_whitespace();
        words.next().zip(words.next())
    })
}

/// Substrings of headers that hold a credential. They are never forwarded, regardless of the table.
const CREDENTIALS: [&str; 6] = ["auth", "token", "secret", "cookie", "api-key", "attestation"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::by_name;

    #[test]
    fn rows_are_of_dialects_and_have_sources() {
        assert!(rows().count() > 20);
        for (dialect, name) in rows() {
            assert!(by_name(dialect).is_some(), "{dialect}");
            assert_eq!(name, name.to_ascii_lowercase());
            assert!(name.trim_end_matches('*').len() > 4, "{name} lets too much through");
        }
        for row in TABLE.lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
            assert!(row.split_whitespace().count() > 2, "no source: {row}");
        }
    }

    #[test]
    fn nothing_of_an_account_or_a_connection_is_forwarded() {
        let never = [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "cookie",
            "host",
            "forwarded",
            "x-forwarded-for",
            "connection",
            "te",
            "trailer",
            "upgrade",
            "proxy-authorization",
            "content-length",
            "transfer-encoding",
            "openai-organization",
            "openai-project",
            "x-goog-user-project",
            "chatgpt-account-id",
            "x-claude-code-ide-authorization",
            "x-codex-access-token",
            "x-amz-security-token",
        ];
        for (dialect, _) in rows() {
            assert_eq!(
                never.iter().find(|name| AllowList::of(dialect).unwrap().has(name)),
                None,
                "{dialect}"
            );
        }
    }
}
