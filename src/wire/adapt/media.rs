//! Media that an upstream does not take. What belongs to the past of a conversation is left out with a
//! word in its place, since it would be sent again with every turn; what is asked about just now stays,
//! and is refused by who writes the request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::rules::{Media, Rules};
use crate::wire::chat::{Image, Message, Part, Role, Source};

/// What stands for them.
const NO_DOCUMENT: &str = "[document left out: this model takes no such documents]";
const NO_IMAGE: &str = "[image left out: this model takes no such images]";

impl Media {
    fn takes(self, source: &Source) -> bool {
        match source {
            Source::Url(url) if url.starts_with("s3://") => self.inline,
            Source::Url(_) => self.address,
            Source::Base64 { .. } => self.inline,
            // It is sent as text where there are no documents.
            Source::Text(_) => true,
        }
    }
}

/// Gives media the names that vendors know them by, and text that came as bytes is text.
pub(super) fn name(messages: &mut [Message]) {
    messages.iter_mut().flat_map(|message| &mut message.parts).for_each(name_part);
}

fn name_part(part: &mut Part) {
    match part {
        Part::Image(Image { source: Source::Base64 { media_type, .. }, .. })
            if media_type == "image/jpg" =>
        {
            "image/jpeg".clone_into(media_type);
        }
        Part::Document(document) => {
            let text = match &document.source {
                Source::Base64 { media_type, data } if media_type.starts_with("text/") => {
                    STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok())
                }
                _ => None,
            };
            if let Some(text) = text {
                document.source = Source::Text(text);
            }
        }
        Part::ToolResult { parts, .. } => parts.iter_mut().for_each(name_part),
        _ => {}
    }
}

/// Leaves them out. Returns whether there were documents, and images.
pub(super) fn leave_out(messages: &mut [Message], rules: &Rules) -> (bool, bool) {
    let everything = Media { inline: true, address: true };
    if rules.documents == everything && rules.images == everything {
        return (false, false);
    }
    let answered = messages.iter().rposition(|message| message.role == Role::Assistant);
    let mut found = (false, false);
    for (i, message) in messages.iter_mut().enumerate() {
        // A turn with results is the work of an agent, which sends it again.
        let results = message.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }));
        if results || answered.is_some_and(|answered| i < answered) {
            for part in &mut message.parts {
                replace(part, rules, &mut found);
            }
        }
    }
    found
}

fn replace(part: &mut Part, rules: &Rules, found: &mut (bool, bool)) {
    match part {
        Part::Document(document) if !rules.documents.takes(&document.source) => {
            found.0 = true;
            *part = Part::Text(NO_DOCUMENT.to_owned());
        }
        Part::Image(image) if !rules.images.takes(&image.source) => {
            found.1 = true;
            *part = Part::Text(NO_IMAGE.to_owned());
        }
        Part::ToolResult { parts, .. } => {
            for part in parts {
                replace(part, rules, found);
            }
        }
        _ => {}
    }
}
