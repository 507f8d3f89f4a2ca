//! Files by id, recordings, and media of types that targets do not take.

use serde_json::{Value, json};

use super::{asked, others, sent};

/// A conversation of each caller in which a medium stands in an earlier turn.
fn earlier(caller: &str, part: Value) -> Value {
    let user = |content: Value| json!({ "role": "user", "content": content });
    match caller {
        "gemini" => json!({ "contents": [
            { "role": "user", "parts": [part, { "text": "look" }] },
            { "role": "model", "parts": [{ "text": "seen" }] },
            { "role": "user", "parts": [{ "text": "and?" }] },
        ] }),
        "openai-responses" => {
            json!({ "input": [user(json!([part])), { "role": "assistant", "content": "seen" }, user(json!("and?"))] })
        }
        _ => {
            json!({ "max_tokens": 9, "messages": [user(json!([part])), { "role": "assistant", "content": "seen" }, user(json!("and?"))] })
        }
    }
}

/// The same medium as what the user asks about.
fn asked_about(caller: &str, part: Value) -> Value {
    match caller {
        "gemini" => json!({ "contents": [{ "role": "user", "parts": [part] }] }),
        "openai-responses" => json!({ "input": [{ "role": "user", "content": [part] }] }),
        _ => json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": [part] }] }),
    }
}

#[test]
fn what_only_the_callers_vendor_can_read_is_left_out_of_earlier_turns() {
    let file = json!({ "type": "file", "file_id": "file-S3CRET" });
    let stored = "https://generativelanguage.googleapis.com/v1beta/files/S3CRET";
    for (caller, part, name) in [
        (
            "openai-chat",
            json!({ "type": "file", "file": { "file_id": "file-S3CRET" } }),
            "document",
        ),
        ("openai-responses", json!({ "type": "input_file", "file_id": "file-S3CRET" }), "document"),
        ("openai-responses", json!({ "type": "input_image", "file_id": "file-S3CRET" }), "image"),
        ("anthropic", json!({ "type": "document", "source": file }), "document"),
        ("anthropic", json!({ "type": "image", "source": file }), "image"),
        ("anthropic", json!({ "type": "container_upload", "file_id": "file-S3CRET" }), "document"),
        ("gemini", json!({ "fileData": { "mimeType": "image/png", "fileUri": stored } }), "image"),
        (
            "gemini",
            json!({ "fileData": { "mimeType": "application/pdf", "fileUri": stored } }),
            "document",
        ),
        ("gemini", json!({ "fileData": { "mimeType": "audio/mp3", "fileUri": stored } }), "audio"),
        (
            "gemini",
            json!({ "fileData": { "fileUri": "gs://bucket/S3CRET.mp4", "mimeType": "video/mp4" } }),
            "video",
        ),
        (
            "gemini",
            json!({ "fileData": { "fileUri": "https://www.youtube.com/watch?v=S3CRET" } }),
            "video",
        ),
    ] {
        for upstream in others(caller) {
            let (body, dropped) = sent(caller, &earlier(caller, part.clone()), upstream, "m");
            let text = body.to_string();
            assert!(text.contains(&format!("[{name} left out")), "{caller} to {upstream}: {text}");
            assert!(!text.contains("S3CRET"), "{caller} to {upstream}: {text}");
            assert_eq!(dropped.len(), 1, "{caller} to {upstream}: {dropped:?}");
            let fault =
                asked(caller, &asked_about(caller, part.clone()), upstream, "m").unwrap_err();
            assert!(fault.message.contains("only its own vendor can read"), "{}", fault.message);
        }
    }
}

#[test]
fn recordings_go_where_they_are_heard() {
    let inline =
        json!({ "type": "input_audio", "input_audio": { "data": "UklGRg==", "format": "wav" } });
    for upstream in others("openai-chat") {
        let (body, dropped) =
            sent("openai-chat", &earlier("openai-chat", inline.clone()), upstream, "m");
        if upstream == "gemini" {
            let heard = json!({ "mimeType": "audio/wav", "data": "UklGRg==" });
            assert_eq!(body["contents"][0]["parts"][0]["inlineData"], heard);
            assert!(dropped.is_empty());
            assert!(
                asked("openai-chat", &asked_about("openai-chat", inline.clone()), upstream, "m")
                    .is_ok()
            );
            continue;
        }
        assert!(
            body.to_string().contains("[audio left out: this model takes no such audio]"),
            "{body}"
        );
        assert_eq!(dropped, ["audio"]);
        let refused =
            asked("openai-chat", &asked_about("openai-chat", inline.clone()), upstream, "m");
        assert!(refused.unwrap_err().message.contains("audio of type `audio/wav`"), "{upstream}");
    }
    let video = json!({ "inlineData": { "mimeType": "video/mp4", "data": "AAAA" } });
    for upstream in others("gemini") {
        let (body, dropped) = sent("gemini", &earlier("gemini", video.clone()), upstream, "m");
        assert!(body.to_string().contains("[video left out"), "{body}");
        assert_eq!(dropped, ["video"]);
    }
}

/// Pictures that a model of the caller's vendor has drawn, and media among the instructions.
#[test]
fn media_that_have_no_place_elsewhere_are_left_out() {
    let picture = json!({ "inlineData": { "mimeType": "image/png", "data": "iVBORw0KGgo=" } });
    let body = json!({
        "systemInstruction": { "parts": [{ "text": "be kind" }, picture] },
        "contents": [
            { "role": "user", "parts": [{ "text": "draw" }] },
            { "role": "model", "parts": [picture] },
            { "role": "user", "parts": [{ "text": "and?" }] },
        ],
    });
    for upstream in others("gemini") {
        let (body, dropped) = sent("gemini", &body, upstream, "m");
        assert_eq!(body.to_string().matches("[image left out").count(), 2, "{upstream}: {body}");
        assert_eq!(dropped, ["images"]);
    }
}

#[test]
fn images_are_of_the_types_that_the_target_takes() {
    let usual = ["png", "jpeg", "gif", "webp"];
    let gemini = ["png", "jpeg", "webp", "heic", "heif"];
    for kind in ["png", "jpeg", "gif", "webp", "bmp", "heic", "heif", "svg+xml", "tiff"] {
        let url = format!("data:image/{kind};base64,iVBORw0KGgo=");
        let part = json!({ "type": "image_url", "image_url": { "url": url } });
        for upstream in others("openai-chat") {
            let taken =
                if upstream == "gemini" { gemini.contains(&kind) } else { usual.contains(&kind) };
            let (body, dropped) =
                sent("openai-chat", &earlier("openai-chat", part.clone()), upstream, "m");
            assert_eq!(dropped.is_empty(), taken, "{kind} to {upstream}: {body}");
            assert_eq!(
                body.to_string().contains("[image left out"),
                !taken,
                "{kind} to {upstream}"
            );
            let asked =
                asked("openai-chat", &asked_about("openai-chat", part.clone()), upstream, "m");
            assert_eq!(asked.is_ok(), taken, "{kind} to {upstream}");
        }
    }
    let part =
        json!({ "type": "image_url", "image_url": { "url": "https://example.org/a.SVG?x=1" } });
    let (body, _) = sent("openai-chat", &earlier("openai-chat", part), "anthropic", "m");
    assert!(!body.to_string().contains("example.org"), "{body}");
}

#[test]
fn documents_are_of_the_types_that_the_target_takes() {
    let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    for (kind, taken) in [
        (docx, ["openai-responses", "bedrock"].as_slice()),
        (
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            &["openai-responses"],
        ),
        ("application/zip", &[]),
        ("application/pdf", &["openai-responses", "anthropic", "gemini", "bedrock"]),
        ("application/octet-stream", &["openai-responses", "anthropic", "gemini", "bedrock"]),
    ] {
        // The bytes of the last are those of a PDF.
        let data = if kind.ends_with("stream") { "JVBERi0xLjc=" } else { "UEsDBA==" };
        let file = json!({ "filename": "a.x", "file_data": format!("data:{kind};base64,{data}") });
        let part = json!({ "type": "file", "file": file });
        for upstream in others("openai-chat") {
            let (body, dropped) =
                sent("openai-chat", &earlier("openai-chat", part.clone()), upstream, "m");
            let taken = taken.contains(&upstream);
            assert_eq!(dropped.is_empty(), taken, "{kind} to {upstream}: {body}");
            assert_eq!(
                body.to_string().contains("[document left out"),
                !taken,
                "{kind} to {upstream}"
            );
        }
    }
}

#[test]
fn text_in_any_form_is_text() {
    // {"a":1}
    let data = "eyJhIjoxfQ==";
    for kind in [
        "application/json",
        "text/csv",
        "text/html",
        "TEXT/Markdown; charset=utf-8",
        "application/ld+json",
    ] {
        let part = json!({ "inlineData": { "mimeType": kind, "data": data } });
        for upstream in others("gemini") {
            let (body, dropped) =
                sent("gemini", &asked_about("gemini", part.clone()), upstream, "m");
            let text = body.to_string();
            // Bedrock has documents of plain text, in base64.
            let there =
                text.contains(r#"{\"a\":1}"#) || upstream == "bedrock" && text.contains(data);
            assert!(there && dropped.is_empty(), "{kind} to {upstream}: {text}");
        }
    }
}

#[test]
fn images_in_the_content_of_a_document_stand_behind_it() {
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" } });
    let content = json!([{ "type": "text", "text": "page one" }, image]);
    let document =
        json!({ "type": "document", "source": { "type": "content", "content": content } });
    for upstream in others("anthropic") {
        let (body, _) =
            sent("anthropic", &asked_about("anthropic", document.clone()), upstream, "m");
        assert!(body.to_string().contains("iVBORw0KGgo="), "{upstream}: {body}");
    }
}
