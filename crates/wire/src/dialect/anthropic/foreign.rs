//! Removal of other vendors' state from a conversation before it goes to an upstream of this dialect: state
//! that is marked as another vendor's, searches that another vendor made, and sources without the vendor's
//! own index. It must never touch anything else.

use std::borrow::Cow;

use super::search::FOREIGN;
use crate::json::{self, Members, map_elements};
use crate::seal::MARK;

/// Marks a source that the gateway wrote: the index is empty, which the vendor's own never is.
const NO_INDEX: &str = r#""encrypted_index":"""#;

/// The body without other vendors' state. Most bodies hold none and are returned unchanged.
pub(super) fn removed(body: &str) -> Cow<'_, str> {
    let has = |needle: &str| memchr::memmem::find(body.as_bytes(), needle.as_bytes()).is_some();
    if !has(MARK) && !has(FOREIGN) && !has(NO_INDEX) && !has(r#""encrypted_index": """#) {
        return Cow::Borrowed(body);
    }
    edited(body).map_or(Cow::Borrowed(body), Cow::Owned)
}

fn edited(body: &str) -> Option<String> {
    let members = Members::parse(body).ok()?;
    let messages = map_elements(members.get("messages")?.get(), message)?;
    Some(members.edit(body, &[("messages", Some(&messages))]))
}

/// A turn of which nothing is left is left out: the vendor takes none that is empty.
fn message(message: &str) -> Option<Cow<'_, str>> {
    let unchanged = Some(Cow::Borrowed(message));
    let Ok(members) = Members::parse(message) else { return unchanged };
    let Some(content) = members.get("content") else { return unchanged };
    let Some(kept) = map_elements(content.get(), block) else { return unchanged };
    if kept == "[]" && [MARK, FOREIGN].iter().any(|mark| content.get().contains(mark)) {
        return None;
    }
    Some(Cow::Owned(members.edit(message, &[("content", Some(&kept))])))
}

fn block(block: &str) -> Option<Cow<'_, str>> {
    let members = Members::parse(block).unwrap_or_default();
    let text = |name| members.get(name).and_then(json::text).unwrap_or_default();
    match text("type").as_ref() {
        "thinking" if text("signature").starts_with(MARK) => None,
        "server_tool_use" if text("id").starts_with(FOREIGN) => None,
        "web_search_tool_result" if text("tool_use_id").starts_with(FOREIGN) => None,
        "redacted_thinking" if text("data").starts_with(MARK) => None,
        "text" => Some(match members.get("citations").and_then(|list| sources(list.get())) {
            Some(kept) if kept == "[]" => members.edit(block, &[("citations", None)]).into(),
            Some(kept) => members.edit(block, &[("citations", Some(&kept))]).into(),
            None => block.into(),
        }),
        _ => Some(Cow::Borrowed(block)),
    }
}

/// `None`: there is nothing to take out.
fn sources(list: &str) -> Option<String> {
    let mut foreign = false;
    let kept = map_elements(list, |source| {
        let members = Members::parse(source).unwrap_or_default();
        let index = members.get("encrypted_index").and_then(json::text);
        let without = index.is_some_and(|index| index.is_empty());
        foreign |= without;
        (!without).then_some(Cow::Borrowed(source))
    });
    kept.filter(|_| foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_foreign_goes() {
        let own = r#"{"type":"thinking","thinking":"a","signature":"EqQB"}"#;
        let foreign =
            r#"{"type":"thinking","thinking":"a","signature":"streamgate:openai:signature:x"}"#;
        let sealed = r#"{"type":"redacted_thinking","data":"streamgate:gemini:data:x"}"#;
        let words = r#"{"type":"text","text":"streamgate:"}"#;
        let cited = |list: &str| format!(r#"{{"type":"text","text":"a","citations":[{list}]}}"#);
        let known = r#"{"url":"u","encrypted_index":"E"}"#;
        let made = r#"{"url":"u","encrypted_index":""}"#;
        let turn =
            |blocks: &[&str]| format!(r#"{{"role":"assistant","content":[{}]}}"#, blocks.join(","));
        let body = |turns: &[String]| format!(r#"{{"messages":[{}],"x": 1}}"#, turns.join(","));
        for (given, expected) in [
            (body(&[turn(&[own, words])]), body(&[turn(&[own, words])])),
            (body(&[turn(&[foreign, own, sealed, words])]), body(&[turn(&[own, words])])),
            (body(&[turn(&[foreign]), turn(&[words])]), body(&[turn(&[words])])),
            (body(&[turn(&[&cited(&format!("{known},{made}"))])]), body(&[turn(&[&cited(known)])])),
            (body(&[turn(&[&cited(made)])]), body(&[turn(&[r#"{"type":"text","text":"a"}"#])])),
        ] {
            assert_eq!(removed(&given), expected, "{given}");
        }
        let text = r#"{"messages":[{"role":"user","content":"streamgate:"}]}"#;
        assert_eq!(removed(text), text);
    }
}
