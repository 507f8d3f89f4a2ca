//! A model name as a program: what the simulated upstream sends, how fast, and what goes wrong.
//!
//! Pure: it reads a name and nothing else. It must never guess: a word that it does not know is an
//! error that lists the words.

use std::time::Duration;

/// The tokens of a program that has no `n`.
const PLAIN_TOKENS: u64 = 20;
/// How far apart the words of the prose are.
const PROSE_INTERVAL: Duration = Duration::from_millis(30);

/// What a model name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) says: Content,
    /// How many numbered tokens, when the name gives it.
    pub(super) count: Option<u64>,
    /// Reasoning tokens before the answer.
    pub(super) think: u64,
    /// The answer ends because its token limit is reached.
    pub(super) length: bool,
    /// The time before the response head.
    pub(super) head: Duration,
    /// What comes in the place of an answer.
    pub(super) instead: Option<Replacement>,
    /// The time between head and first token.
    pub(super) first: Duration,
    pub(super) interval: Duration,
    /// Tokens per write, at least one.
    pub(super) batch: u64,
    /// Bytes added to each token.
    pub(super) padding: usize,
    pub(super) fault: Option<Fault>,
    pub(super) framing: Framing,
}

/// The substance of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Numbered tokens.
    Tokens,
    /// Readable text that says it is simulated.
    Prose,
    /// Parallel tool calls.
    Calls(u64),
    Refusal,
}

/// What comes in the place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacement {
    /// Never a response head.
    Hang,
    /// An error with this status.
    Status(u16),
}

/// What goes wrong once an answer is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// After so many tokens, something happens.
    After(u64, FaultAction),
    /// Everything comes but the terminator.
    NoDone,
}

/// What happens at a fault's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultAction {
    /// The connection is aborted.
    Reset,
    /// The body ends cleanly, without any terminal.
    Close,
    /// Silence on an open connection.
    Stall,
    /// The vendor's in-band error.
    Error,
    /// A data line that is no JSON; the answer goes on after it.
    Junk,
}

/// How events are laid out on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Framing {
    /// Lines end with CR LF.
    pub(super) crlf: bool,
    /// A comment leads each event.
    pub(super) comment: bool,
    /// Each byte is a write of its own.
    pub(super) split: bool,
}

/// The words, for the answer to someone who used another one.
pub(super) const WORDS: &str = "n<tokens, to 1000000>, i<microseconds between tokens>, \
     f<ms before the first token>, h<ms before the response head>, b<tokens per write, 1 to 100>, \
     z<padding bytes per token, to 4096>, think<reasoning tokens>, tools<parallel calls, 1 to 32>, \
     refuse, length, reset<after tokens>, close<after tokens>, stall<after tokens>, \
     err<after tokens>, junk<after tokens>, nodone, hang, e<status, 400 to 599>, crlf, comment, \
     split; joined with dashes, as in n100-i10000-stall50; or just sim";

/// A model name that is no program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProgramError;

impl Program {
    /// Reads a model name. A leading `sim` is skipped; a name that starts with `sim` and holds no
    /// word of a program is the prose.
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

    /// How many numbered tokens the answer has. Without `n` there are enough to reach the fault.
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
        }
    }

    fn prose() -> Self {
        Self { says: Content::Prose, interval: PROSE_INTERVAL, ..Self::plain() }
    }

    /// Takes one word; `None` when it is not a word of a program.
    fn word(&mut self, word: &str) -> Option<()> {
        match word {
            "refuse" => self.says = Content::Refusal,
            "length" => self.length = true,
            "nodone" => self.fault = Some(Fault::NoDone),
            "hang" => self.instead = Some(Replacement::Hang),
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
