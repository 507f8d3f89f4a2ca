//! Turn writer: the turns of a conversation as input items.
//!
//! Reasoning that this vendor did not seal is left out: it would be rejected, and no other vendor can seal
//! it. Providers that require its text back get it.

use std::borrow::Cow;

use serde::Serialize;

use crate::chat::{
    ApiError, Document, Image, Message, Part, Request, Role, Scheme, Signature, Source,
};

/// An input item.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item<'a> {
    Message {
        role: &'static str,
        content: Vec<Piece<'a>>,
    },
    Reasoning {
        summary: Vec<Words<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Words<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<&'a str>,
    },
    FunctionCall {
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: Output<'a>,
    },
}

/// A part of a reasoning item.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Words<'a> {
    SummaryText { text: &'a str },
    ReasoningText { text: &'a str },
}

/// Output of a tool.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Output<'a> {
    Text(String),
    Parts(Vec<Piece<'a>>),
}

/// A part of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Piece<'a> {
    InputText {
        text: &'a str,
    },
    OutputText {
        text: &'a str,
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        image_url: String,
        detail: &'a str,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<&'a str>,
    },
}

/// The instructions that lead the conversation, and the items after them. `words`: the provider requires
/// the text of unsealed reasoning back.
pub(super) fn items(
    request: &Request,
    words: bool,
) -> Result<(Option<String>, Vec<Item<'_>>), ApiError> {
    let leading = request.messages.iter().take_while(|message| message.role == Role::System);
    // Where there is nothing else, they are the input: there must be some.
    let alone = request.messages.iter().all(|message| message.role == Role::System);
    let leading = leading.filter(|_| !alone);
    let (mut instructions, mut count) = (Vec::new(), 0);
    for (i, message) in leading.enumerate() {
        count += 1;
        for (n, part) in message.parts.iter().enumerate() {
            match part {
                Part::Text(text) => instructions.push(text.as_str()),
                Part::Cache(_) => {}
                _ => return Err(misplaced(&place(i, n), "system")),
            }
        }
    }
    let mut out = Vec::with_capacity(request.messages.len() + 4);
    for (i, message) in request.messages.iter().enumerate().skip(count) {
        match message.role {
            Role::System => system(i, message, &mut out)?,
            Role::User => user(i, message, &mut out)?,
            Role::Assistant => assistant(i, message, words, &mut out)?,
        }
    }
    let instructions = instructions.join("\n\n");
    Ok(((!instructions.is_empty()).then_some(instructions), out))
}

fn place(message: usize, part: usize) -> String {
    format!("messages[{message}].content[{part}]")
}

fn misplaced(path: &str, who: &str) -> ApiError {
    let message =
        format!("`{path}` is of a kind that a {who} message cannot hold for this upstream");
    ApiError::field(path, message)
}

fn system<'a>(i: usize, message: &'a Message, out: &mut Vec<Item<'a>>) -> Result<(), ApiError> {
    let mut content = Vec::new();
    for (n, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text(text) => content.push(Piece::InputText { text }),
            Part::Cache(_) => {}
            _ => return Err(misplaced(&place(i, n), "system")),
        }
    }
    out.push(Item::Message { role: "system", content });
    Ok(())
}

/// Results of tools come first, each an item of its own.
fn user<'a>(i: usize, message: &'a Message, out: &mut Vec<Item<'a>>) -> Result<(), ApiError> {
    let mut content = Vec::new();
    for (n, part) in message.parts.iter().enumerate() {
        let path = place(i, n);
        let (id, parts) = match part {
            Part::ToolResult { id, parts, .. } => (id, parts),
            Part::Cache(_) => continue,
            part => {
                content.push(piece(&path, part)?);
                continue;
            }
        };
        let text =
            |part: &'a Part| if let Part::Text(text) = part { Some(text.as_str()) } else { None };
        let texts: Option<Vec<&str>> = parts.iter().map(text).collect();
        let output = match texts {
            Some(texts) => Output::Text(texts.join("\n")),
            None => Output::Parts(
                parts
                    .iter()
                    .enumerate()
                    .map(|(n, part)| piece(&format!("{path}.content[{n}]"), part))
                    .collect::<Result<_, _>>()?,
            ),
        };
        out.push(Item::FunctionCallOutput { call_id: id, output });
    }
    if !content.is_empty() || message.parts.is_empty() {
        out.push(Item::Message { role: "user", content });
    }
    Ok(())
}

fn piece<'a>(path: &str, part: &'a Part) -> Result<Piece<'a>, ApiError> {
    match part {
        Part::Text(text) | Part::Document(Document { source: Source::Text(text), .. }) => {
            Ok(Piece::InputText { text })
        }
        Part::Image(Image { source: Source::Text(_), .. }) => Err(misplaced(path, "user")),
        Part::Image(Image { source, detail }) => Ok(Piece::InputImage {
            image_url: url(source),
            detail: detail.as_deref().unwrap_or("auto"),
        }),
        Part::Document(Document { source: Source::Url(url), .. }) => {
            Ok(Piece::InputFile { filename: None, file_data: None, file_url: Some(url) })
        }
        Part::Document(document) => Ok(Piece::InputFile {
            filename: Some(document.file_name()),
            file_data: Some(url(&document.source)),
            file_url: None,
        }),
        _ => Err(misplaced(path, "user")),
    }
}

/// The address of a medium, `data:` if it is inline.
fn url(source: &Source) -> String {
    match source {
        Source::Url(text) | Source::Text(text) => text.clone(),
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
    }
}

fn assistant<'a>(
    i: usize,
    message: &'a Message,
    words: bool,
    out: &mut Vec<Item<'a>>,
) -> Result<(), ApiError> {
    let first = out.len();
    for (n, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => says(Piece::OutputText { text }, first, out),
            Part::Refusal(refusal) => says(Piece::Refusal { refusal }, first, out),
            Part::Reasoning { text, signature } => {
                out.extend(reasoning(text, signature.as_ref(), words));
            }
            Part::RedactedReasoning { data, scheme: Scheme::OpenAi } => out.push(Item::Reasoning {
                summary: Vec::new(),
                content: Vec::new(),
                encrypted_content: Some(data),
            }),
            Part::RedactedReasoning { .. } | Part::Cache(_) => {}
            Part::ToolCall { id, name, arguments } => {
                out.push(Item::FunctionCall { call_id: id, name, arguments: arguments.get() });
            }
            Part::Image(_)
            | Part::Document(_)
            | Part::Unreadable { .. }
            | Part::Summary(_)
            | Part::ToolResult { .. } => {
                return Err(misplaced(&place(i, n), "assistant"));
            }
        }
    }
    Ok(())
}

/// Adds to the message that the turn, which begins at `first`, is saying; else begins one.
fn says<'a>(piece: Piece<'a>, first: usize, out: &mut Vec<Item<'a>>) {
    let began = out.len() > first;
    match out.last_mut().filter(|_| began) {
        Some(Item::Message { content, .. }) => content.push(piece),
        _ => out.push(Item::Message { role: "assistant", content: vec![piece] }),
    }
}

fn reasoning<'a>(text: &'a str, signature: Option<&'a Signature>, words: bool) -> Option<Item<'a>> {
    match signature {
        Some(Signature { value, scheme: Scheme::OpenAi }) => {
            let summary =
                if text.is_empty() { Vec::new() } else { vec![Words::SummaryText { text }] };
            Some(Item::Reasoning { summary, content: Vec::new(), encrypted_content: Some(value) })
        }
        _ if words && !text.is_empty() => Some(Item::Reasoning {
            summary: Vec::new(),
            content: vec![Words::ReasoningText { text }],
            encrypted_content: None,
        }),
        _ => None,
    }
}
