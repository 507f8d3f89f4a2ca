//! Rights to channels: the `channels` of a key, an issuer or `anonymous`, as templates of patterns. It must never
//! decide about a request.

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use crate::channels::{ChannelPattern, ChannelRights, NameError, Placeholders};

const TEMPLATE: Format<String> = Format::new(
    "pattern of channel names",
    "the name of a channel, or a pattern with `*`, of at most 512 bytes without control characters",
    Notation::Text,
    |text| text.parse::<ChannelPattern>().ok().map(|_| text.to_owned()),
);
const SUBSCRIBE: Field<String> = TEMPLATE
    .list(
        "subscribe",
        "Channels that the caller may subscribe to: names, or patterns with `*`. `{name}` is the caller's name, `{sub}` the subject of its token.",
    )
    .otherwise("its own, `user:{name}`, alone, to which it may subscribe whatever this is")
    .example("[\"news.*\", \"team:{sub}\"]");
const PUBLISH: Field<String> = TEMPLATE
    .list("publish", "Channels that the caller may publish to, as in `subscribe`.")
    .otherwise("none")
    .example("[\"news.*\"]");

/// The `channels` of a key, an issuer or `anonymous`.
pub(super) const CHANNEL_RIGHTS: Section = Section::table(
    "channels",
    "Channels that the caller may subscribe and publish to (docs/channels.md).",
    &[SUBSCRIBE.key, PUBLISH.key],
);

/// Channels that callers may subscribe and publish to: patterns, in which `{name}` and `{sub}` are each caller's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelRightTemplates {
    /// Channels that the caller may subscribe to.
    pub subscribe: Vec<String>,
    /// Channels that the caller may publish to.
    pub publish: Vec<String>,
}

impl ChannelRightTemplates {
    /// The rights of a caller.
    pub fn filled(&self, with: Placeholders<'_>) -> Result<ChannelRights, NameError> {
        let fill = |templates: &[String]| {
            templates.iter().map(|template| ChannelPattern::filled(template, with)).collect()
        };
        let subscribe: Result<_, NameError> = fill(&self.subscribe);
        Ok(ChannelRights { subscribe: subscribe?, publish: fill(&self.publish)? })
    }
}

/// Reads the section below `holder`: a key, an issuer or `anonymous`.
pub(super) fn channel_rights(reader: &mut Reader<'_>, holder: &Table<'_>) -> ChannelRightTemplates {
    let table = reader.section(holder, &CHANNEL_RIGHTS);
    ChannelRightTemplates {
        subscribe: reader.values(&table, &SUBSCRIBE).unwrap_or_default(),
        publish: reader.values(&table, &PUBLISH).unwrap_or_default(),
    }
}
