//! Hosted tools: tools that the vendor of a model runs itself, and the searches that it made with them.
//!
//! It holds what at least two vendors run. A tool that only one vendor runs is known by its type alone.

/// A hosted tool of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostedTool {
    /// Its place in the caller's own request: `tools[1]`.
    pub at: String,
    /// Its type in the caller's own dialect, one of those that the dialect's reader lists:
    /// `web_search_20250305`.
    pub name: String,
    /// Its equivalent at other vendors.
    pub kind: HostedKind,
    /// The model must call it.
    pub forced: bool,
    /// It only tunes or names what the model's vendor does anyway, so that a request without it still
    /// means the same.
    pub optional: bool,
}

/// The equivalents that vendors have for each other's hosted tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostedKind {
    /// Search of the web.
    WebSearch(WebAccess),
    /// Pages and documents by their address.
    WebFetch(WebAccess),
    /// Code that the model writes, run without files of the caller's.
    CodeExecution,
    /// No other vendor runs it.
    #[default]
    Other,
}

/// What bounds or tunes a tool that reads the web.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebAccess {
    /// The only domains that it may use; empty: any.
    pub allowed_domains: Vec<String>,
    /// Domains that it may not use.
    pub blocked_domains: Vec<String>,
    /// The user's approximate location.
    pub location: Option<Location>,
    /// The most calls in one request.
    pub max_uses: Option<u64>,
    /// How much of the results the model reads: `low`, `medium` or `high`.
    pub context_size: Option<String>,
    /// It may use the vendor's cache only, and no live page.
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
    /// Of the IANA database.
    pub timezone: Option<String>,
}

impl Location {
    /// The members that are known, in the names that vendors share.
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
    /// Whether both are the same tool, whatever tunes them.
    pub fn is_same_tool(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && *self != Self::Other
    }

    /// Whether it may read some pages only.
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

    /// The name that vendors share for it.
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
    /// Its place and its type, as a list of omissions names it. Visible ASCII and spaces only.
    pub fn label(&self) -> String {
        if self.at.ends_with(&self.name) {
            return self.at.clone();
        }
        format!("{} {}", self.at, self.name)
    }
}

/// A web search that the vendor has made for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchRun {
    /// What it searched for, if it says so.
    pub queries: Vec<String>,
    /// What it found, if it says so.
    pub results: Vec<SearchResult>,
}

/// A page that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// Its address.
    pub url: String,
    /// Its title; empty: not known.
    pub title: String,
}

impl SearchResult {
    /// What to call it: its title, else its address.
    pub fn name(&self) -> &str {
        if self.title.is_empty() { &self.url } else { &self.title }
    }
}
