//! Providers that `streamgate init` offers: presets with the variables of their vendors' SDKs, and model servers on this
//! machine. It must never connect to anything but loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use streamgate::config;

/// The timeout of each step of a look at a port.
const TIMEOUT: Duration = Duration::from_millis(500);
/// The most bytes of a response.
const MAX_RESPONSE: u64 = 1 << 20;

/// A provider to choose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Its name, which is that of its preset.
    pub(super) name: &'static str,
    /// The port on loopback, and the path of its list of models, if it is a server of one's own.
    local: Option<(u16, &'static str)>,
}

const fn vendor(name: &'static str) -> Choice {
    Choice { name, local: None }
}

const fn local(name: &'static str, port: u16, list: &'static str) -> Choice {
    Choice { name, local: Some((port, list)) }
}

/// All of them, the best known first.
pub(super) static CHOICES: [Choice; 20] = [
    vendor("openai"),
    vendor("anthropic"),
    vendor("gemini"),
    vendor("mistral"),
    vendor("groq"),
    vendor("openrouter"),
    vendor("deepseek"),
    vendor("xai"),
    vendor("together"),
    vendor("fireworks"),
    vendor("cerebras"),
    vendor("perplexity"),
    vendor("cohere"),
    vendor("huggingface"),
    vendor("vercel"),
    local("ollama", 11434, "/api/tags"),
    local("lm-studio", 1234, "/v1/models"),
    local("vllm", 8000, "/v1/models"),
    local("sglang", 30000, "/v1/models"),
    local("llama.cpp", 8080, "/v1/models"),
];

impl Choice {
    /// The environment variable of its key. `None`: it needs none.
    pub(super) fn variable(&self) -> Option<&'static str> {
        config::key_variable(self.name)
    }

    /// Whether its key is in the environment.
    pub(super) fn is_in_environment(&self) -> bool {
        self.variable().and_then(config::env).is_some_and(|key| !key.trim().is_empty())
    }
}

/// The choice of a name. The error names all.
pub(super) fn named(name: &str) -> Result<&'static Choice, String> {
    let name = name.trim();
    CHOICES.iter().find(|choice| choice.name == name).ok_or_else(|| {
        if config::is_preset(name) {
            return format!(
                "the preset `{name}` has settings besides a key, which docs/configuration.md lists: take another provider here, \
                 and add `{name}: {{ preset: {name}, ... }}` under `providers` in the file"
            );
        }
        let names: Vec<&str> = CHOICES.iter().map(|choice| choice.name).collect();
        format!(
            "`{name}` is no provider that can be set up here; expected some of {} (others: docs/configuration.md)",
            names.join(", ")
        )
    })
}

/// The model servers that listen on this machine, but for the gateway's own address.
pub(super) fn detect(own: SocketAddr) -> Vec<&'static Choice> {
    let listens = |choice: &&Choice| {
        choice.local.is_some_and(|(port, list)| {
            port != own.port() && serves_models((Ipv4Addr::LOCALHOST, port).into(), list)
        })
    };
    CHOICES.iter().filter(listens).collect()
}

/// Whether a list of models is served at an address.
fn serves_models(address: SocketAddr, path: &str) -> bool {
    let response = || {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the body ends with the connection.
        let request =
            format!("GET {path} HTTP/1.0\r\nhost: {address}\r\naccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
        std::io::Result::Ok(response)
    };
    let Ok(response) = response() else { return false };
    let text = String::from_utf8_lossy(&response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let accepted = head.split(' ').nth(1) == Some("200");
    let list = serde_json::from_str::<Value>(body).unwrap_or_default();
    accepted && ["data", "models"].iter().any(|name| list.get(name).is_some_and(Value::is_array))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_model_server_is_recognized_by_its_list() {
        for (body, found) in [
            ("{\"data\":[]}", true),
            ("{\"models\":[{\"name\":\"qwen3\"}]}", true),
            ("<html>", false),
            ("{\"error\":1}", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let read = stream.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /api/tags HTTP/1.0\r\n"));
                let response = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
                stream.write_all(response.as_bytes()).unwrap();
            });
            assert_eq!(serves_models(address, "/api/tags"), found, "{body}");
            serving.join().unwrap();
            assert!(!serves_models(address, "/api/tags"), "nothing listens any more");
        }
    }

    #[test]
    fn an_unknown_provider_is_answered_with_all_names() {
        assert_eq!(named(" groq").map(|choice| choice.name), Ok("groq"));
        let error = named("grok").unwrap_err();
        assert!(error.contains("`grok`") && error.contains("groq, openrouter"), "{error}");
        // A known one that needs more than a key.
        let error = named("azure").unwrap_err();
        assert!(error.contains("`azure`") && error.contains("docs/configuration.md"), "{error}");
    }

    #[test]
    fn every_vendor_has_a_variable_and_no_local_server_needs_one() {
        for choice in &CHOICES {
            assert!(config::is_preset(choice.name), "{}", choice.name);
            assert_eq!(choice.variable().is_some(), choice.local.is_none(), "{}", choice.name);
        }
    }
}
