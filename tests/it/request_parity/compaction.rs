//! Summaries that a vendor has put in the place of earlier turns.

use serde_json::json;

use super::{others, sent};

#[test]
fn a_readable_summary_begins_the_conversation() {
    let body = json!({
        "max_tokens": 9, "system": "be kind",
        "context_management": { "edits": [{ "type": "compact_20260112" }] },
        "messages": [
            { "role": "user", "content": "OLD question" },
            { "role": "assistant", "content": [
                { "type": "text", "text": "OLD answer" },
                { "type": "compaction", "content": "They agreed on 42." },
                { "type": "text", "text": "NEW answer" },
            ] },
            { "role": "user", "content": "and now?" },
        ],
    });
    for upstream in others("anthropic") {
        let (body, dropped) = sent("anthropic", &body, upstream, "m");
        let text = body.to_string();
        assert!(!text.contains("OLD"), "{upstream}: {text}");
        let order = [
            "be kind",
            "[summary of the conversation so far]",
            "They agreed on 42.",
            "NEW answer",
            "and now?",
        ];
        let places =
            order.map(|words| text.find(words).unwrap_or_else(|| panic!("{words}: {text}")));
        // Some dialects have the instructions behind the turns.
        assert!(places[1..].is_sorted(), "{upstream}: {text}");
        assert!(dropped.is_empty(), "{upstream}: {dropped:?}");
    }
}

#[test]
fn a_summary_that_failed_changes_nothing() {
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": "first" },
        { "role": "assistant", "content": [{ "type": "compaction", "content": null }, { "type": "text", "text": "a" }] },
        { "role": "user", "content": "last" },
    ] });
    for upstream in others("anthropic") {
        let (body, dropped) = sent("anthropic", &body, upstream, "m");
        assert!(body.to_string().contains("first"), "{upstream}: {body}");
        assert_eq!(dropped, ["compaction"]);
    }
}

#[test]
fn a_sealed_summary_is_left_out() {
    for kind in ["compaction", "compaction_summary", "context_compaction"] {
        let body = json!({ "input": [
            { "role": "user", "content": "kept" },
            { "type": kind, "id": "cmp_1", "encrypted_content": "gAAAAS3CRET" },
            { "role": "user", "content": "and now?" },
        ] });
        for upstream in others("openai-responses") {
            let (body, dropped) = sent("openai-responses", &body, upstream, "m");
            let text = body.to_string();
            assert!(text.contains("[summary left out") && text.contains("kept"), "{text}");
            assert!(!text.contains("S3CRET"), "{text}");
            assert_eq!(dropped, ["compaction"]);
        }
    }
}
