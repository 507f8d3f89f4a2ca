//! Changes of the tools in the midst of a conversation (`tool_addition`, `tool_removal`, beta): elsewhere tools
//! are those of the whole request. It never adds a tool that the vendor runs.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::function;
use super::request::parse;
use crate::chat::{ApiError, Tool};

const ADDITION: &str = "tool_addition";
const REMOVAL: &str = "tool_removal";

#[derive(Debug, Deserialize)]
struct Change<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    tool: Option<Changed<'a>>,
}

#[derive(Debug, Deserialize)]
struct Changed<'a> {
    name: Option<String>,
    #[serde(borrow)]
    definition: Option<&'a RawValue>,
}

/// Whether a block changes the tools.
pub(super) fn is_change(kind: &str) -> bool {
    kind == ADDITION || kind == REMOVAL
}

/// Applies the changes in the contents of turns, each with its place, so that the tools are those that there
/// are at the end.
pub(super) fn apply<'a>(
    contents: impl Iterator<Item = (String, &'a RawValue)>,
    tools: &mut Vec<Tool>,
) -> Result<(), ApiError> {
    let mut removed: HashSet<String> = HashSet::new();
    let mut added = Vec::new();
    for (at, content) in contents {
        let json = content.get();
        if !json.starts_with('[') || !json.contains(ADDITION) && !json.contains(REMOVAL) {
            continue;
        }
        let blocks: Vec<&RawValue> = parse(json, &at)?;
        for (i, raw) in blocks.iter().enumerate() {
            // Other blocks are read in `read_block.rs`.
            let Ok(Change { kind, tool: Some(tool) }) = serde_json::from_str(raw.get()) else {
                continue;
            };
            match (kind.as_str(), tool.definition, tool.name) {
                (ADDITION, Some(definition), _) => {
                    let tool = function(definition, &format!("{at}[{i}].tool.definition"))?;
                    removed.remove(&tool.name);
                    added.push(tool);
                }
                (ADDITION, None, Some(name)) => _ = removed.remove(&name),
                (REMOVAL, _, Some(name)) => _ = removed.insert(name),
                _ => {}
            }
        }
    }
    // A later definition replaces an earlier one.
    let redefined: HashSet<String> = added.iter().map(|tool| tool.name.clone()).collect();
    tools.retain(|tool| !redefined.contains(&tool.name));
    let mut known = HashSet::new();
    added.reverse();
    added.retain(|tool| known.insert(tool.name.clone()));
    added.reverse();
    tools.append(&mut added);
    tools.retain(|tool| !removed.contains(&tool.name));
    Ok(())
}
