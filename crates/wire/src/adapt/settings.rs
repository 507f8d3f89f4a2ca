//! Operator settings of a provider or a target that override the table of rules. Data only.

/// Where an upstream takes instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// In messages at any place.
    Anywhere,
    /// In one message, the first one.
    First,
    /// Beside the turns only.
    Apart,
    /// Beside the turns, and in messages after a turn of the user.
    AfterUser,
}

impl Instructions {
    /// Every one, by its name in the table and in the configuration.
    pub const ALL: [(&'static str, Self); 4] = [
        ("anywhere", Self::Anywhere),
        ("first", Self::First),
        ("apart", Self::Apart),
        ("after-user", Self::AfterUser),
    ];

    /// Finds one by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, place)| *place)
    }
}

/// What happens to tools that the caller's vendor would run itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostedTools {
    /// They become the equivalents of the upstream's vendor; without one they are left out where the
    /// request still means the same.
    #[default]
    Map,
    /// They are left out.
    Drop,
    /// Requests with them are rejected.
    Refuse,
}

impl HostedTools {
    /// Every one, by its name in the configuration.
    pub const ALL: [(&'static str, Self); 3] =
        [("map", Self::Map), ("drop", Self::Drop), ("refuse", Self::Refuse)];

    /// Finds one by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, setting)| *setting)
    }
}

/// Settings of a provider, or of a target, for the requests that are sent there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where instructions may stand; `None`: as the table has it.
    pub instructions: Option<Instructions>,
    /// The most tokens of output, which bound what the caller asks and stand for what it does not say.
    pub max_output: Option<u64>,
    /// Members of the body that are left out.
    pub drop: Vec<String>,
    /// Members of the body that are set, each with its JSON.
    pub set: Vec<(String, String)>,
    /// What happens to tools that the caller's vendor would run itself.
    pub hosted_tools: HostedTools,
    /// Prompts are marked for caching where the caller's vendor would cache by itself.
    pub prompt_cache: bool,
    /// A hint that would be left out is refused instead.
    pub strict: bool,
    /// Callers may say how long a server keeps a model loaded, or unload it.
    pub keep_alive: bool,
    /// The only beta features of a caller that are passed on; `None`: all.
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
