//! Model names as programs: the content, pace and faults of a simulated answer.
//!
//! Pure: the only input is the name. It must never guess: an unknown word is an error that lists the known
//! words.

use std::time::Duration;

/// Number of tokens of a program without `n`.
const PLAIN_TOKENS: u64 = 20;
/// Interval between the words of the prose.
const PROSE_INTERVAL: Duration = Duration::from_millis(30);

/// A parsed model name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) says: Content,
    /// Number of numbered tokens, if the name sets it.
    pub(super) count: Option<u64>,
    /// Number of reasoning tokens before the answer.
    pub(super) think: u64,
    /// The answer ends with the stop reason of a token limit.
    pub(super) length: bool,
    /// Delay before the response head.
    pub(super) head: Duration,
    /// Behaviour in place of an answer.
    pub(super) instead: Option<Replacement>,
    /// Delay between the head and the first token.
    pub(super) first: Duration,
    pub(super) interval: Duration,
    /// Number of tokens per write, at least one.
    pub(super) batch: u64,
    /// Bytes of padding added to each token.
    pub(super) padding: usize,
    pub(super) fault: Option<Fault>,
    pub(super) framing: Framing,
    /// A rate limit in place of an answer, with this wait in seconds.
    pub(super) retry_after: Option<u64>,
    /// Requests that the limit has left, by the headers of an answer.
    pub(super) left: Option<u64>,
    /// The most answers in progress.
    pub(super) cap: Option<u64>,
    /// The number of first requests that fail.
    pub(super) flaky: Option<u64>,
    /// The most tokens of a prompt.
    pub(super) context: Option<u64>,
    /// The time from the first request in which none is answered.
    pub(super) thaw: Option<Duration>,
    /// The account has no credit.
    pub(super) spent: bool,
    /// A content filter rejects the request.
    pub(super) policy: bool,
    pub(super) resume: Resume,
}

/// Content of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Numbered tokens.
    Tokens,
    /// Readable text that identifies itself as simulated.
    Prose,
    /// Parallel tool calls; their number.
    Calls(u64),
    Refusal,
}

/// Behaviour in place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacement {
    /// No response head is ever sent.
    Hang,
    /// An error with this HTTP status.
    Status(u16),
}

/// Behaviour where the last turn of the request is an unfinished one of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Resume {
    /// The answer begins again.
    #[default]
    Restart,
    /// The count goes on, after the space that the turn lacks.
    Continue,
    /// The same without that space.
    Joined,
    /// The turn is repeated before the count goes on.
    Echo,
    /// The request is rejected.
    Reject,
}

/// Fault of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A fault after this number of tokens.
    After(u64, FaultAction),
    /// Everything is sent except the terminator.
    NoDone,
}

/// Action at the token of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultAction {
    /// The connection is aborted.
    Reset,
    /// The body ends regularly, without a terminator.
    Close,
    /// The connection stays open and nothing more is sent.
    Stall,
    /// The vendor's error event in the stream.
    Error,
    /// A data line that is not valid JSON. The answer goes on after it.
    Junk,
}

/// Variations of the events on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Framing {
    /// Lines end with CR LF.
    pub(super) crlf: bool,
    /// A comment precedes each event.
    pub(super) comment: bool,
    /// Each byte is a separate write.
    pub(super) split: bool,
}

/// The known words, for the error message about an unknown one.
pub(super) const WORDS: &str = "n<tokens, to 1000000>, i<microseconds between tokens>, \
     f<ms before the first token>, h<ms before the response head>, b<tokens per write, 1 to 100>, \
     z<padding bytes per token, to 4096>, think<reasoning tokens>, tools<parallel calls, 1 to 32>, \
     refuse, length, cont, joined, echo, restart, noprefill, reset<after tokens>, close<after tokens>, stall<after tokens>, \
     err<after tokens>, junk<after tokens>, nodone, hang, e<status, 400 to 599>, ra<seconds, to 86400>, left<requests>, \
     cap<answers>, flaky<requests>, spent, ctx<tokens>, policy, thaw<seconds>, crlf, comment, \
     split; joined with dashes, as in n100-i10000-stall50; or just sim";

/// Error of a model name that is not a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProgramError;

impl Program {
    /// Parses a model name. A leading `sim` is skipped. A name that starts with `sim` and contains no word of a
    /// program selects the prose.
    pub(super) fn parse(model: &str) -> Result<Self, ProgramError> {
        let named_sim = model.starts_with("sim");
        let mut program = Self::plain();
        let (mut known, mut unknown) = (0_usize, 0_usize);
        for (position, word) in model.split('-').enumerate() {
            if position == 0 && word == "sim" {
                continue;
            }
            match program.word(word) {
                Some(()) => known += 1,
                None => unknown += 1,
            }
        }
        match (known, unknown) {
            (0, _) if named_sim => Ok(Self::prose()),
            (1.., 0) => Ok(program),
            _ => Err(ProgramError),
        }
    }

    /// Number of numbered tokens of the answer. Without `n` it is at least the position of the fault.
    pub(super) fn tokens(&self) -> u64 {
        self.count.unwrap_or_else(|| match self.fault {
            Some(Fault::After(at, _)) => at.max(PLAIN_TOKENS),
            Some(Fault::NoDone) | None => PLAIN_TOKENS,
        })
    }

    fn plain() -> Self {
        Self {
            says: Content::Tokens,
            count: None,
            think: 0,
            length: false,
            head: Duration::ZERO,
            instead: None,
            first: Duration::ZERO,
            interval: Duration::ZERO,
            batch: 1,
            padding: 0,
            fault: None,
            framing: Framing::default(),
            retry_after: None,
            left: None,
            cap: None,
            flaky: None,
            context: None,
            thaw: None,
            spent: false,
            policy: false,
            resume: Resume::default(),
        }
    }

    fn prose() -> Self {
        Self { says: Content::Prose, interval: PROSE_INTERVAL, ..Self::plain() }
    }

    /// Applies one word. `None` if it is not a word of a program.
    fn word(&mut self, word: &str) -> Option<()> {
        match word {
            "refuse" => self.says = Content::Refusal,
            "length" => self.length = true,
            "nodone" => self.fault = Some(Fault::NoDone),
            "restart" => self.resume = Resume::Restart,
            "cont" => self.resume = Resume::Continue,
            "joined" => self.resume = Resume::Joined,
            "echo" => self.resume = Resume::Echo,
            "noprefill" => self.resume = Resume::Reject,
            "hang" => self.instead = Some(Replacement::Hang),
            "spent" => self.spent = true,
            "policy" => self.policy = true,
            "crlf" => self.framing.crlf = true,
            "comment" => self.framing.comment = true,
            "split" => self.framing.split = true,
            _ => return self.numbered(word),
        }
        Some(())
    }

    fn numbered(&mut self, word: &str) -> Option<()> {
        let (name, digits) = word.split_at_checked(word.find(|c: char| c.is_ascii_digit())?)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u32 = digits.parse().ok()?;
        let wide = u64::from(number);
        match (name, number) {
            ("n", 0..=1_000_000) => self.count = Some(wide),
            ("i", _) => self.interval = Duration::from_micros(wide),
            ("f", _) => self.first = Duration::from_millis(wide),
            ("h", _) => self.head = Duration::from_millis(wide),
            ("b", 1..=100) => self.batch = wide,
            ("z", 0..=4096) => self.padding = usize::try_from(number).ok()?,
            ("think", 0..=1_000_000) => self.think = wide,
            ("tools", 1..=32) => self.says = Content::Calls(wide),
            ("e", 400..=599) => {
                self.instead = Some(Replacement::Status(u16::try_from(number).ok()?));
            }
            ("ra", 0..=86_400) => self.retry_after = Some(wide),
            ("left", _) => self.left = Some(wide),
            ("cap", _) => self.cap = Some(wide),
            ("flaky", _) => self.flaky = Some(wide),
            ("ctx", _) => self.context = Some(wide),
            ("thaw", _) => self.thaw = Some(Duration::from_secs(wide)),
            ("reset", _) => self.fault = Some(Fault::After(wide, FaultAction::Reset)),
            ("close", _) => self.fault = Some(Fault::After(wide, FaultAction::Close)),
            ("stall", _) => self.fault = Some(Fault::After(wide, FaultAction::Stall)),
            ("err", _) => self.fault = Some(Fault::After(wide, FaultAction::Error)),
            ("junk", _) => self.fault = Some(Fault::After(wide, FaultAction::Junk)),
            _ => return None,
        }
        Some(())
    }
}
