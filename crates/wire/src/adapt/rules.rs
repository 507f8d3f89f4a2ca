//! The table of upstream rules (`rules.txt`), and the lookup of the rules for one model.
//!
//! The table is parsed once per process. It holds no code: each vendor rule is a row with its source.

use std::sync::LazyLock;

use super::blanks::Blanks;
use super::settings::Instructions;
use crate::chat::Medium;
use crate::dialect::Hosting;

/// The table, one row per line: dialect, models, rule, value, source.
const TABLE: &str = include_str!("rules.txt");

/// Length limit of a text, and its characters besides letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charset {
    /// The most bytes.
    pub(super) longest: usize,
    /// The other ASCII characters that are accepted. `None` accepts any text.
    pub(super) others: Option<&'static str>,
    /// The first character is neither a digit nor one of `others` except `_`.
    pub(super) word_first: bool,
}

/// Whether an upstream accepts media inline and by address, and which types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) inline: bool,
    pub(super) address: bool,
    /// Media types separated by spaces. Empty accepts any type.
    pub(super) types: &'static str,
}

/// The values of `tool_choice` that an upstream accepts to force a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForcedCall {
    /// No forced calls.
    None,
    /// A call of any tool.
    Any,
    /// A call of one tool by name.
    Named,
}

/// The form in which an upstream accepts a budget for reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Budget {
    /// As an effort.
    Effort,
    /// In tokens.
    Tokens {
        least: u64,
        most: u64,
        /// The budget must be less than the limit on output.
        below_limit: bool,
    },
}

/// The form of JSON schemas that an upstream accepts.
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Schemas {
    /// Tools: the root is an object with `properties` and without a union.
    pub(super) object: bool,
    /// Structured output: every object is closed, and no keyword constrains a value.
    pub(super) closed: bool,
    /// No `$schema` and `$id`.
    pub(super) local: bool,
    /// Only schemas that are closed and require all properties are enforced.
    pub(super) whole: bool,
    /// Structured output: the root is an object and not a union.
    pub(super) root: bool,
}

/// Rules for cache marks of prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The most marks per request. 0 if the upstream has none.
    pub(super) most: usize,
    /// Tools may carry marks.
    pub(super) tools: bool,
    /// The model is known to accept marks, so that the gateway may set them on its own.
    pub(super) auto: bool,
}

/// Rules for one model of an upstream.
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    pub(super) tool_name: Option<Charset>,
    pub(super) call_id: Option<Charset>,
    pub(super) schema_name: Option<Charset>,
    /// The most bytes of the end user's id.
    pub(super) user: usize,
    /// The most bytes of a prompt cache key.
    pub(super) cache_key: usize,
    /// The most stop strings.
    pub(super) stop: usize,
    /// Blank stop strings are rejected.
    pub(super) visible_stop: bool,
    pub(super) top_logprobs: u64,
    pub(super) temperature: f64,
    pub(super) output_least: u64,
    pub(super) output_most: Option<u64>,
    /// Default limit on output where the upstream requires one, without and with reasoning.
    pub(super) output_usual: (Option<u64>, Option<u64>),
    /// Accepted efforts, weakest first. `None` accepts any.
    pub(super) efforts: Option<&'static str>,
    /// Accepted budgets for reasoning. `None` accepts any.
    pub(super) budget: Option<Budget>,
    /// Fields depend on the version of Claude.
    pub(super) claude: bool,
    /// Names of the hints that it has no field for, after [`Request`](crate::chat::Request)'s fields.
    pub(super) lacks: &'static str,
    pub(super) instructions: Instructions,
    pub(super) user_first: bool,
    pub(super) user_last: bool,
    /// Only an assistant turn may follow tool results.
    pub(super) answer_after_results: bool,
    /// Calls in the conversation require tools in the request.
    pub(super) tools_declared: bool,
    /// A request for any JSON object requires the word "JSON" in the conversation.
    pub(super) json_said: bool,
    pub(super) forced_call: ForcedCall,
    pub(super) documents: Media,
    pub(super) images: Media,
    /// Audio and video.
    pub(super) recordings: Media,
    /// Blank texts and turns that are rejected.
    pub(super) blanks: Blanks,
    pub(super) schemas: Schemas,
    pub(super) cache: Marks,
    /// The hosted tools that its vendor runs, and their supported settings.
    hosted: &'static str,
    /// Structured output cannot be combined with tools.
    pub(super) format_alone: bool,
    /// The most texts in one embeddings request.
    pub(super) embed_most: usize,
    /// Fields of an embeddings request that it does not support.
    pub(super) embed_lacks: &'static str,
}

impl Default for Rules {
    /// No restrictions.
    fn default() -> Self {
        let all = Media { inline: true, address: true, types: "" };
        Self {
            tool_name: None,
            call_id: None,
            schema_name: None,
            user: usize::MAX,
            cache_key: usize::MAX,
            stop: usize::MAX,
            visible_stop: false,
            top_logprobs: u64::MAX,
            temperature: f64::INFINITY,
            output_least: 0,
            output_most: None,
            output_usual: (None, None),
            efforts: None,
            budget: None,
            claude: false,
            lacks: "",
            instructions: Instructions::Anywhere,
            user_first: false,
            user_last: false,
            answer_after_results: false,
            tools_declared: false,
            json_said: false,
            forced_call: ForcedCall::Named,
            documents: all,
            images: all,
            recordings: all,
            blanks: Blanks::default(),
            schemas: Schemas::default(),
            cache: Marks::default(),
            hosted: "",
            format_alone: false,
            embed_most: usize::MAX,
            embed_lacks: "",
        }
    }
}

/// Hosted tools, and their supported settings. `functions`: they may be combined with functions. `named`:
/// functions may not use their names.
const HOSTED: [&str; 12] = [
    "web_search",
    "web_fetch",
    "code_execution",
    "allowed_domains",
    "blocked_domains",
    "cached_only",
    "user_location",
    "max_uses",
    "search_context_size",
    "forced",
    "functions",
    "named",
];

/// Types of hosted tools without an equivalent at other vendors.
const OWN: [&str; 1] = ["tool_search_tool"];

/// One row of the table.
#[derive(Debug, Clone)]
struct Row {
    dialect: &'static str,
    /// Prefixes of model names. Empty applies to all models.
    models: Vec<&'static str>,
    /// First letters of `models`, as a bit set.
    letters: u128,
    rule: &'static str,
    value: &'static str,
}

/// The rows of one dialect.
struct DialectRules {
    dialect: &'static str,
    /// Rules for all models, merged.
    general: Rules,
    /// Rows for some models or for one platform. None of them precedes a general row of the same rule.
    special: Vec<Row>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| TABLE.lines().filter_map(row).collect());

/// The table by dialect, so that a request checks only the rows that depend on its model.
static DIALECTS: LazyLock<Vec<DialectRules>> = LazyLock::new(|| {
    let mut dialects: Vec<DialectRules> = Vec::new();
    for row in ROWS.iter() {
        let known = dialects.iter().position(|rules| rules.dialect == row.dialect);
        let at = known.unwrap_or_else(|| {
            let (general, special) = (Rules::default(), Vec::new());
            dialects.push(DialectRules { dialect: row.dialect, general, special });
            dialects.len() - 1
        });
        let Some(rules) = dialects.get_mut(at) else { continue };
        if row.models.is_empty() && !row.dialect.contains('@') {
            // The tests parse every row.
            rules.general.apply(row.rule, row.value).unwrap_or_default();
        } else {
            rules.special.push(row.clone());
        }
    }
    dialects
});

/// Parses a line of the table. `None` for comments, blank lines and malformed lines.
fn row(line: &'static str) -> Option<Row> {
    let mut cells = line.split('|').map(str::trim);
    let dialect = cells.next().filter(|cell| !cell.is_empty() && !cell.starts_with('#'))?;
    let models: Vec<_> = cells.next()?.split(' ').filter(|name| *name != "*").collect();
    let row = Row {
        dialect,
        letters: letters(&models),
        models,
        rule: cells.next()?,
        value: cells.next()?,
    };
    cells.next().filter(|source| !source.is_empty()).map(|_| row)
}

impl Rules {
    /// The rules for a model of this dialect, on this platform.
    pub(super) fn of(dialect: &str, hosting: Option<Hosting>, model: &str) -> Self {
        let named = |name: &str| DIALECTS.iter().find(|rules| rules.dialect == name);
        let Some(known) = named(dialect) else { return Self::default() };
        let mut rules = known.general.clone();
        let words: Vec<&str> = words(model).collect();
        let letters = letters(&words);
        let platform = hosting.and_then(|host| named(&format!("{dialect}@{}", host.name())));
        let special = platform.into_iter().flat_map(|rules| &rules.special);
        for row in known.special.iter().chain(special).filter(|row| row.holds(&words, letters)) {
            rules.apply(row.rule, row.value).unwrap_or_default();
        }
        rules
    }

    /// Rules for a medium.
    pub(super) fn media(&self, medium: Medium) -> Media {
        match medium {
            Medium::Image => self.images,
            Medium::Document => self.documents,
            Medium::Audio | Medium::Video => self.recordings,
        }
    }

    /// Whether the upstream's vendor runs a hosted tool, or supports a setting of one.
    pub(super) fn runs(&self, word: &str) -> bool {
        self.hosted.split(' ').any(|known| known == word)
    }

    /// Whether the upstream runs a tool without an equivalent elsewhere for callers of the same dialect. `kind`
    /// is matched by its prefix.
    pub(super) fn runs_type(&self, kind: &str) -> bool {
        self.hosted.split(' ').any(|known| OWN.contains(&known) && kind.starts_with(known))
    }

    /// Sets one rule. Returns `None` for an unknown rule or an invalid value.
    fn apply(&mut self, rule: &str, value: &'static str) -> Option<()> {
        let has = |word: &str| value.split(' ').any(|said| said == word);
        match rule {
            "tool_name" => self.tool_name = Some(charset(value)?),
            "call_id" => self.call_id = Some(charset(value)?),
            "schema_name" => self.schema_name = Some(charset(value)?),
            "user" => self.user = value.parse().ok()?,
            "cache_key" => self.cache_key = value.parse().ok()?,
            "stop" => {
                self.stop = longest(value.split(' ').next()?)?;
                self.visible_stop = has("visible");
            }
            "top_logprobs" => self.top_logprobs = value.parse().ok()?,
            "temperature" => self.temperature = value.parse().ok()?,
            "output_least" => self.output_least = value.parse().ok()?,
            "output_most" => self.output_most = Some(value.parse().ok()?),
            "output_usual" => {
                let (plain, reasoning) = value.split_once(' ')?;
                self.output_usual = (plain.parse().ok(), Some(reasoning.parse().ok()?));
            }
            "efforts" => self.efforts = Some(value),
            "budget" => self.budget = Some(budget(value)?),
            "versions" => self.claude = has("claude").then_some(true)?,
            "lacks" => self.lacks = value,
            "embed_most" => self.embed_most = value.parse().ok()?,
            "embed_lacks" => self.embed_lacks = value,
            "instructions" => self.instructions = Instructions::by_name(value)?,
            "turns" => {
                (self.user_first, self.user_last) = (has("user-first"), has("user-last"));
                self.answer_after_results = has("answer-after-results");
            }
            "json_mode" => self.json_said = has("said").then_some(true)?,
            "format" => self.format_alone = has("alone").then_some(true)?,
            "tools" => self.tools_declared = has("declared").then_some(true)?,
            "forced_call" => {
                self.forced_call = match value {
                    "none" => ForcedCall::None,
                    "any" => ForcedCall::Any,
                    "named" => ForcedCall::Named,
                    _ => return None,
                }
            }
            "documents" => self.documents = media(value)?,
            "images" => self.images = media(value)?,
            "recordings" => self.recordings = media(value)?,
            "texts" => {
                let texts = has("visible").then_some(true)?;
                let (results, reasoning) = (has("results"), has("no-reasoning"));
                self.blanks = Blanks { texts, results, reasoning };
            }
            "schemas" => {
                let (object, closed) = (has("object"), has("closed"));
                let (local, whole, root) = (has("local"), has("whole"), has("object-root"));
                self.schemas = Schemas { object, closed, local, whole, root };
            }
            "cache" => {
                let most = value.split(' ').next()?.parse().ok()?;
                self.cache = Marks { most, tools: has("tools"), auto: has("auto") };
            }
            "hosted" => {
                let known = |word| value == "-" || HOSTED.contains(&word) || OWN.contains(&word);
                self.hosted = value.split(' ').all(known).then_some(value)?;
            }
            _ => return None,
        }
        Some(())
    }
}

impl Row {
    /// Whether the row applies to a model. `words` are the suffixes of its name, `letters` their first letters.
    fn holds(&self, words: &[&str], letters: u128) -> bool {
        let named = |name: &&str| words.iter().any(|rest| rest.starts_with(name));
        self.models.is_empty() || (self.letters & letters != 0 && self.models.iter().any(named))
    }
}

/// First letters of texts, one bit each. A text that does not start with ASCII sets every bit.
fn letters(texts: &[&str]) -> u128 {
    let first = |text: &&str| {
        text.bytes().next().map_or(0, |byte| 1_u128.checked_shl(byte.into()).unwrap_or(u128::MAX))
    };
    texts.iter().map(first).fold(0, |all, letter| all | letter)
}

/// Suffixes of a name, one from the start of each of its words: `a/b-1`, `b-1`, `1`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let mut before = None;
    name.char_indices().filter_map(move |(at, c)| {
        let begins = before.replace(c).is_none_or(|before: char| !before.is_ascii_alphanumeric());
        if begins { name.get(at..) } else { None }
    })
}

/// Parses `64 _- ^_`: the most bytes (`-`: unlimited), other characters (`*`: any), the rule for the first one.
fn charset(value: &'static str) -> Option<Charset> {
    let mut words = value.split(' ');
    let longest = longest(words.next()?)?;
    let others = Some(words.next()?).filter(|others| *others != "*");
    Some(Charset { longest, others, word_first: words.next().is_some() })
}

/// Parses `512..24576 below-limit`: minimum, maximum, whether it must be below the output limit; or `effort`.
fn budget(value: &str) -> Option<Budget> {
    if value == "effort" {
        return Some(Budget::Effort);
    }
    let (range, below_limit) = match value.split_once(' ') {
        Some((range, "below-limit")) => (range, true),
        Some(_) => return None,
        None => (value, false),
    };
    let (least, most) = range.split_once("..")?;
    let (least, most) = (least.parse().ok()?, most.parse().ok()?);
    (least <= most).then_some(Budget::Tokens { least, most, below_limit })
}

fn longest(word: &str) -> Option<usize> {
    if word == "-" { Some(usize::MAX) } else { word.parse().ok() }
}

/// Parses `inline address image/png image/gif`: the places, then the types, unless all are accepted. `-`: none.
fn media(value: &'static str) -> Option<Media> {
    let (mut media, mut types) = (Media { inline: false, address: false, types: "" }, value);
    if value == "-" {
        return Some(media);
    }
    while !types.is_empty() {
        let (word, rest) = types.split_once(' ').unwrap_or((types, ""));
        match word {
            "inline" => media.inline = true,
            "address" => media.address = true,
            word if word.contains('/') => break,
            _ => return None,
        }
        types = rest;
    }
    (media.inline || media.address).then_some(Media { types, ..media })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::by_name;

    #[test]
    fn every_row_is_a_rule_of_a_dialect_with_a_source() {
        let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
        for line in TABLE.lines().filter(said) {
            let row = row(line).unwrap_or_else(|| panic!("{line}"));
            let (dialect, host) = row.dialect.split_once('@').unzip();
            assert!(by_name(dialect.unwrap_or(row.dialect)).is_some(), "{line}");
            let known = |host| Hosting::ALL.iter().any(|hosting| hosting.name() == host);
            assert!(host.is_none_or(known), "{line}");
            assert!(Rules::default().apply(row.rule, row.value).is_some(), "{line}");
        }
        assert_eq!(ROWS.len(), TABLE.lines().filter(said).count());
    }

    /// Every row has an effect: none is always replaced by a later one, and general rows precede special ones.
    #[test]
    fn no_row_is_there_twice() {
        for (i, row) in ROWS.iter().enumerate() {
            let same = |later: &&Row| {
                (later.dialect, later.rule) == (row.dialect, row.rule)
                    && (later.models == row.models || later.models.is_empty())
            };
            // The rule for a family may be repeated after those of its members.
            let again = ROWS.iter().skip(i + 1).find(same);
            assert!(again.is_none_or(|_| row.models.contains(&"gpt-5-chat")), "{row:?} {again:?}");
        }
    }

    #[test]
    fn models_are_known_by_how_a_word_of_their_names_begins() {
        let most = |dialect, model| Rules::of(dialect, None, model).output_most;
        for (dialect, model, expected) in [
            ("openai-chat", "gpt-4o", Some(16_384)),
            ("openai-chat", "openai/gpt-4o-mini", Some(16_384)),
            ("openai-chat", "gpt-5.6-sol", Some(128_000)),
            ("openai-chat", "foo1", None),
            ("openai-chat", "o1-mini", Some(100_000)),
            ("anthropic", "claude-opus-4-1-20250805", Some(32_000)),
            ("anthropic", "claude-opus-4-20250514", Some(32_000)),
            ("anthropic", "claude-sonnet-4-5@20250929", Some(64_000)),
            ("anthropic", "claude-opus-4-8", Some(128_000)),
            ("bedrock", "us.anthropic.claude-3-5-sonnet-20241022-v2:0", Some(8192)),
            ("gemini", "models/gemini-2.5-pro", Some(65_536)),
        ] {
            assert_eq!(most(dialect, model), expected, "{model}");
        }
        assert_eq!(Rules::of("openai-chat", None, "gpt-5-chat-latest").efforts, Some("-"));
        assert_eq!(
            Rules::of("openai-chat", None, "gpt-5-mini").efforts,
            Some("minimal low medium high")
        );
    }
}
