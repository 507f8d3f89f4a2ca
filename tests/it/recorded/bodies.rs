//! Recorded error bodies and requests: whole JSON, nothing streamed.

use std::path::{Path, PathBuf};

use serde_json::Value;
use streamgate::wire::dialect::{self, DIALECTS, Dialect, Form, caller_dialects};

use super::extract::recorded_by;
use super::{files, name_of, recorded, status_of};
use crate::support::{reader, written};

/// Every recorded error body becomes a fault with the vendor's message, and is told in both dialects.
#[test]
fn every_recorded_error_is_reported() {
    let Some(root) = recorded() else { return };
    let mut count = 0;
    let mut failures = Vec::new();
    for (path, status) in error_files(&root) {
        let name = name_of(&path);
        let body = std::fs::read(&path).expect("readable");
        for upstream in DIALECTS {
            let folders = recorded_by(upstream.name()).folders;
            let own = path
                .parent()
                .is_some_and(|parent| folders.iter().any(|folder| parent.ends_with(folder.name)))
                || upstream.name() == "anthropic" && name.starts_with("anthropic")
                || upstream.name() == "bedrock" && name.starts_with("aws-bedrock__");
            let fault = upstream.decode_error(status, &body);
            count += 1;
            let message = extract_message(&body).filter(|_| own);
            if fault.message.is_empty()
                || message.is_some_and(|said| !fault.message.contains(&said))
            {
                failures.push(format!("{name} by {}: {fault:?}", upstream.name()));
            }
            for caller in caller_dialects() {
                let told = caller.error_body(&fault, "req_1", None);
                let value: Value = serde_json::from_str(&told).expect("an error body is JSON");
                // A dialect without a place for the field puts its name before the message.
                let message = (reader(caller.name()).error)(&value).expect("a message");
                assert!(message.contains(&fault.message), "{name}: {message}");
                assert!((400..=599).contains(&caller.status(fault.kind)), "{name}");
            }
        }
    }
    println!("{count} pairs of error body and dialect");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn extract_message(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let message = value.pointer("/error/message").or_else(|| value.get("message"))?;
    message.as_str().map(ToOwned::to_owned)
}

fn error_files(root: &Path) -> Vec<(PathBuf, u16)> {
    let mut out = Vec::new();
    let of = |dialect: &&'static dyn Dialect| recorded_by(dialect.name()).folders;
    let folders = DIALECTS.iter().flat_map(of).map(|folder| folder.name);
    for path in ["errors"].into_iter().chain(folders).flat_map(|folder| files(&root.join(folder))) {
        let name = name_of(&path);
        if !name.ends_with(".request.json") {
            out.extend(status_of(&name).map(|status| (path, status)));
        }
    }
    out
}

/// Recorded requests are read by their own dialect, and those without vendor extensions by all.
#[test]
fn recorded_requests_are_read() {
    let Some(root) = recorded() else { return };
    let (mut whole, mut read, mut translated) = (0, 0, 0);
    for upstream in DIALECTS {
        let Some(caller) = upstream.as_caller() else { continue };
        let folders = recorded_by(upstream.name()).folders.iter();
        for path in folders.flat_map(|folder| files(&root.join(folder.name))) {
            if !path.to_string_lossy().ends_with(".request.json") {
                continue;
            }
            let file: Value =
                serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
            let value = &file["body"];
            if !value.is_object() {
                continue;
            }
            let body = value.to_string();
            whole += 1;
            let quirks = dialect::Quirks::default();
            let target =
                dialect::Target { model: "other", stream: true, form: Form::Chat, quirks: &quirks };
            if value["model"].is_string() {
                let edited = upstream.edit_request(&body, &target).expect("an object is edited");
                let edited: Value = serde_json::from_str(&edited).expect("JSON");
                // One vendor writes the name as that of a resource.
                let prefixed = value["model"].as_str().is_some_and(|it| it.starts_with("models/"));
                let expected = if prefixed { "models/other" } else { "other" };
                assert_eq!(edited["model"], expected, "{}", path.display());
                assert_eq!(edited["messages"], value["messages"], "{}", path.display());
            }
            let Ok(request) = caller.decode_request(Form::Chat, &body) else { continue };
            read += 1;
            for other in DIALECTS {
                if let Ok(out) = written(&mut request.clone(), *other, &target) {
                    serde_json::from_str::<Value>(&out).expect("a request is JSON");
                    translated += 1;
                }
            }
        }
    }
    println!("{whole} recorded requests, {read} read whole, {translated} written to some dialect");
    assert!(read * 10 >= whole * 8, "only {read} of {whole} recorded requests could be read");
}
