//! Members of Cohere's requests that no other dialect has.

use serde_json::json;

use super::{others, sent};

#[test]
fn documents_are_text_before_what_the_user_says_last() {
    let call =
        json!({ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let body = json!({
        "documents": ["Penguins are birds.", { "id": "d2", "data": { "title": "Whales", "snippet": "They are mammals." } }],
        "citation_options": { "mode": "ACCURATE" }, "safety_mode": "STRICT", "logprobs": true, "raw_prompting": true,
        "messages": [
            { "role": "user", "content": "earlier" },
            { "role": "assistant", "content": "yes" },
            { "role": "user", "content": "What are penguins?" },
            { "role": "assistant", "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": "r" },
        ],
    });
    for upstream in others("cohere") {
        let (body, dropped) = sent("cohere", &body, upstream, "m");
        let text = body.to_string();
        // Bedrock has them as documents, in base64.
        let [first, second] = match upstream {
            "bedrock" => ["UGVuZ3VpbnMgYXJlIGJpcmRzLg==", "V2hhbGVz"],
            _ => ["Penguins are birds.", "They are mammals."],
        };
        let place = |words: &str| text.find(words);
        let asked = place("What are penguins?").unwrap();
        assert!(place("yes").unwrap() < place(first).unwrap_or(0), "{upstream}: {text}");
        assert!(place(first).unwrap() < asked, "{upstream}: {text}");
        if upstream != "bedrock" {
            assert!(place(second).unwrap() < asked, "{upstream}: {text}");
        }
        assert_eq!(dropped, ["citation_options", "safety_mode", "raw_prompting", "logprobs"]);
    }
}
