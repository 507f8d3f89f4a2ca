//! Operator settings of a provider or a target that override the table of rules. Data only.

/// Place where an upstream accepts instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// In messages at any place.
    Anywhere,
    /// In one message, which must be the first.
    First,
    /// Outside of the turns only.
    Apart,
    /// Outside of the turns, and in messages after a user turn.
    AfterUser,
}

impl Instructions {
    /// All values, each with its name in the table and in the configuration.
    pub const ALL: [(&'static str, Self); 4] = [
        ("anywhere", Self::Anywhere),
        ("first", Self::First),
        ("apart", Self::Apart),
        ("after-user", Self::AfterUser),
    ];

    /// Finds a value by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, place)| *place)
    }
}

/// Policy for tools that the caller's vendor would run itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostedTools {
    /// Map them to the equivalents of the upstream's vendor. Without an equivalent they are removed if the
    /// request keeps its meaning.
    #[default]
    Map,
    /// Remove them.
    Drop,
    /// Reject requests with them.
    Refuse,
}

impl HostedTools {
    /// All values, each with its name in the configuration.
    pub const ALL: [(&'static str, Self); 3] =
        [("map", Self::Map), ("drop", Self::Drop), ("refuse", Self::Refuse)];

    /// Finds a value by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, setting)| *setting)
    }
}

/// Settings of a provider or a target, for the requests that are sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Place of instructions. `None` follows the table.
    pub instructions: Option<Instructions>,
    /// The most output tokens: an upper bound for the caller's limit, and the default without one.
    pub max_output: Option<u64>,
    /// Members that are removed from the body.
    pub drop: Vec<String>,
    /// Members that are set in the body, each with its JSON value.
    pub set: Vec<(String, String)>,
    /// Policy for tools that the caller's vendor would run itself.
    pub hosted_tools: HostedTools,
    /// Adds cache marks to prompts where the caller's vendor would cache automatically.
    pub prompt_cache: bool,
    /// Rejects a request instead of removing a hint.
    pub strict: bool,
    /// Lets callers set for how long a server keeps a model loaded, or unload it.
    pub keep_alive: bool,
    /// The only beta features of a caller that are forwarded. `None` forwards all.
    pub betas: Option<Vec<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            instructions: None,
            max_output: None,
            drop: Vec::new(),
            set: Vec::new(),
            hosted_tools: HostedTools::Map,
            prompt_cache: true,
            strict: false,
            keep_alive: false,
            betas: None,
        }
    }
}
