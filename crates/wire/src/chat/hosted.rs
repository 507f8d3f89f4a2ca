//! Hosted tools: tools that a model's vendor runs itself, and the searches that it made with them.
//!
//! The module covers tools that at least two vendors run. Other tools are represented by their type only.

/// A hosted tool of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostedTool {
    /// Place in the caller's own request: `tools[1]`.
    pub at: String,
    /// Type in the caller's own dialect, one of those that the dialect's reader lists: `web_search_20250305`.
    pub name: String,
    /// Equivalent at other vendors.
    pub kind: HostedKind,
    /// The model must call it.
    pub forced: bool,
    /// The entry only tunes or names default behaviour of the model's vendor, so that a request without it
    /// keeps its meaning.
    pub optional: bool,
}

/// Kinds of hosted tools by their equivalents at other vendors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostedKind {
    /// Web search.
    WebSearch(WebAccess),
    /// Retrieval of pages and documents by address.
    WebFetch(WebAccess),
    /// Execution of the model's code, without files of the caller.
    CodeExecution,
    /// No other vendor has an equivalent.
    #[default]
    Other,
}

/// Bounds and settings of a tool that reads the web.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebAccess {
    /// The only domains that it may use. Empty allows any.
    pub allowed_domains: Vec<String>,
    /// Domains that it may not use.
    pub blocked_domains: Vec<String>,
    /// The user's approximate location.
    pub location: Option<Location>,
    /// The most calls in one request.
    pub max_uses: Option<u64>,
    /// Share of the results that the model reads: `low`, `medium` or `high`.
    pub context_size: Option<String>,
    /// It may only use the vendor's cache, and no live pages.
    pub cached_only: bool,
}

/// An approximate location.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Location {
    /// Free text.
    pub city: Option<String>,
    /// Free text.
    pub region: Option<String>,
    /// ISO 3166-1, two letters.
    pub country: Option<String>,
    /// A name of the IANA time zone database.
    pub timezone: Option<String>,
}

impl Location {
    /// The members that are set, under the names that vendors share.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let members = [
            ("city", &self.city),
            ("region", &self.region),
            ("country", &self.country),
            ("timezone", &self.timezone),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

impl HostedKind {
    /// Whether both are the same tool, regardless of their settings.
    pub fn is_same_tool(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && *self != Self::Other
    }

    /// Whether the domains are restricted, or live pages are excluded.
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::WebSearch(access) | Self::WebFetch(access) => {
                access.cached_only
                    || !access.allowed_domains.is_empty()
                    || !access.blocked_domains.is_empty()
            }
            Self::CodeExecution | Self::Other => false,
        }
    }

    /// The name that vendors share for this kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WebSearch(_) => "web_search",
            Self::WebFetch(_) => "web_fetch",
            Self::CodeExecution => "code_execution",
            Self::Other => "",
        }
    }
}

impl HostedTool {
    /// Place and type, for the list of removed fields. Visible ASCII and spaces only.
    pub fn label(&self) -> String {
        if self.at.ends_with(&self.name) {
            return self.at.clone();
        }
        format!("{} {}", self.at, self.name)
    }
}

/// A web search that the vendor made for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchRun {
    /// The search queries, if reported.
    pub queries: Vec<String>,
    /// The pages found, if reported.
    pub results: Vec<SearchResult>,
}

/// A page that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// Its address.
    pub url: String,
    /// Its title. Empty if unknown.
    pub title: String,
}

impl SearchResult {
    /// Display name: its title, else its address.
    pub fn name(&self) -> &str {
        if self.title.is_empty() { &self.url } else { &self.title }
    }
}
