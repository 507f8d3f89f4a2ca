//! Content of an answer, independent of vendors: its tokens and its stop reason.
//!
//! Pure and lazy: a million tokens cost nothing until they are consumed.

use super::program::{Content, Program, Resume};
use super::request::SimRequest;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Think(String),
    Text(String),
    Refusal(String),
    /// A fragment of a tool call's arguments. The first one of an index starts the call.
    Call {
        index: u64,
        name: String,
        fragment: String,
    },
}

/// Stop reason of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    End,
    Length,
    Calls,
    Refusal,
}

/// A complete answer, not yet consumed.
pub(super) struct Answer {
    pub(super) stop: Stop,
    /// Number of pieces, including reasoning.
    pub(super) total: u64,
    /// Number of reasoning pieces.
    pub(super) thinking: u64,
    pub(super) pieces: Box<dyn Iterator<Item = Piece> + Send>,
}

/// Text of a refusal.
pub(super) const REFUSAL: &str = "I am a simulated model and I refuse, as I was asked to. ";

/// Text of an answer by plain `sim`.
const PROSE: &str = "This answer is simulated. No model has read your question, and nothing here is \
     about it. You are connected to the simulated upstream of Streamgate, a small program that \
     speaks the same protocols as the real providers, over real connections, at about the pace at \
     which people read. If you can see these words appear one after another, then the whole path \
     works: your client, the gateway, and the stream between them. There is nothing to pay for it, \
     and you may break it as often as you like. To talk to a real model, give the gateway a \
     provider and a key, and ask for a model by its name. To see what happens when a provider \
     fails, ask for the model sim/n100-i10000-stall50 instead. This is the end of the \
     simulated text. ";

/// Name of the called tool if the request offers none.
const UNNAMED_TOOL: &str = "simulated_tool";

impl Answer {
    /// The answer of `program` to `ask`, within the token limit of the request. `prefill`: the unfinished turn of the
    /// model that ends the request.
    pub(super) fn new(program: &Program, ask: &SimRequest, prefill: Option<&str>) -> Self {
        let (count, stop, body) = match program.says {
            Content::Calls(calls) if !ask.answers_tools => {
                let (count, pieces) = calls_of(calls, &ask.tools);
                (count, Stop::Calls, pieces)
            }
            Content::Calls(_) | Content::Tokens => {
                let (count, pieces) = counted(program, prefill.unwrap_or_default());
                (count, Stop::End, pieces)
            }
            Content::Prose => {
                let (count, pieces) = words_of(PROSE, Piece::Text);
                (count, Stop::End, pieces)
            }
            Content::Refusal => {
                let (count, pieces) = words_of(REFUSAL, Piece::Refusal);
                (count, Stop::Refusal, pieces)
            }
        };
        let whole = program.think.saturating_add(count);
        let total = ask.max_tokens.map_or(whole, |most| most.min(whole));
        let thoughts = (0..program.think).map(|i| Piece::Think(format!("r{i} ")));
        let take = usize::try_from(total).unwrap_or(usize::MAX);
        Self {
            stop: if program.length || total < whole { Stop::Length } else { stop },
            total,
            thinking: program.think.min(total),
            pieces: Box::new(thoughts.chain(body).take(take)),
        }
    }
}

type Pieces = Box<dyn Iterator<Item = Piece> + Send>;

/// Numbered tokens: token `i` is `t{i} `, with its padding before the space. `prefill`: an unfinished turn, which may
/// be empty.
fn counted(program: &Program, prefill: &str) -> (u64, Pieces) {
    let count = program.tokens();
    let last = prefill.split_whitespace().last().and_then(|word| word.strip_prefix('t'));
    let last = last.map(|word| word.trim_end_matches('x')).and_then(|word| word.parse().ok());
    let next = last.map_or(0, |last: u64| last.saturating_add(1)).min(count);
    let from = if program.resume == Resume::Restart { 0 } else { next };
    let lead = match program.resume {
        Resume::Continue if from > 0 && !prefill.ends_with(' ') => " ".to_owned(),
        Resume::Echo if from > 0 => format!("{} ", prefill.trim_end()),
        _ => String::new(),
    };
    let padding = "x".repeat(program.padding);
    let token = move |i| {
        let lead = if i == from { lead.as_str() } else { "" };
        Piece::Text(format!("{lead}t{i}{padding} "))
    };
    (count - from, Box::new((from..count).map(token)))
}

fn words_of(text: &'static str, piece: fn(String) -> Piece) -> (u64, Pieces) {
    let words = || text.split_inclusive(' ');
    let count = words().fold(0, |count, _| count + 1);
    (count, Box::new(words().map(move |word| piece(word.to_owned()))))
}

/// Consecutive calls, each with the arguments `{"call":0,"note":"simulated"}` in five fragments.
fn calls_of(calls: u64, tools: &[String]) -> (u64, Pieces) {
    let names: Vec<String> =
        if tools.is_empty() { vec![UNNAMED_TOOL.to_owned()] } else { tools.to_vec() };
    let pieces: Vec<Piece> = (0..calls)
        .zip(names.iter().cycle())
        .flat_map(|(index, name)| {
            let number = index.to_string();
            [r#"{"call""#, ":", &number, r#","note":"simu"#, r#"lated"}"#].map(|fragment| {
                Piece::Call { index, name: name.clone(), fragment: fragment.to_owned() }
            })
        })
        .collect();
    let count = pieces.iter().fold(0, |count, _| count + 1);
    (count, Box::new(pieces.into_iter()))
}
