//! Gateway client of the commands: the options `--url` and `--key`, requests, and errors with their remedies. It must
//! never print a key.

use std::time::Duration;

use bytes::BytesMut;
use clap::Args;
use http::StatusCode;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use url::{Host, Url};

use crate::CliError;

/// The timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence of a response: longer than the heartbeats of any gateway.
const SILENCE: Duration = Duration::from_mins(2);
/// The most bytes of a document.
const MAX_DOCUMENT: usize = 8 << 20;

/// The gateway, and the caller's key.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The gateway's address.
    #[arg(
        long,
        env = "STREAMGATE_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        value_parser = gateway_url
    )]
    pub(crate) url: Url,
    /// API key or token of the caller.
    #[arg(
        long,
        env = "STREAMGATE_KEY",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) key: String,
}

impl Server {
    /// A client of the gateway. The proxies of the environment are not for loopback addresses.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE);
        let builder = if self.is_loopback() { builder.no_proxy() } else { builder };
        builder
            .build()
            .map_err(|error| CliError::new(format!("cannot make a request: {}", causes(&error))))
    }

    fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The address of an endpoint, whose segments are encoded.
    pub(crate) fn at(&self, segments: &[&str]) -> Result<Url, CliError> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| {
                CliError::configuration("--url must be an address such as http://127.0.0.1:8080")
            })?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    /// A request with the caller's key, if there is one.
    pub(crate) fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        if self.key.is_empty() { request } else { request.bearer_auth(&self.key) }
    }

    /// Sends a request. Errors name the address, the cause, and the remedy.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = self.authorized(request).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let error = refusal(response).await;
        let remedy = match status {
            StatusCode::UNAUTHORIZED if self.key.is_empty() => {
                "; give a key with --key or STREAMGATE_KEY (`streamgate key new` makes one)"
            }
            StatusCode::UNAUTHORIZED => "; correct --key or STREAMGATE_KEY",
            _ => "",
        };
        Err(CliError::new(format!("{}{remedy}", error.message)))
    }

    /// The error of a request without a response.
    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if let Some(plain) = self.plain_address().filter(|_| is_no_tls(error)) {
            return CliError::new(format!("{} does not speak TLS; use --url {plain}", self.url));
        }
        let remedy = if error.is_connect() {
            "; start a gateway with `streamgate`, or name another with --url"
        } else {
            ""
        };
        let cause = causes(error);
        CliError::new(format!("{} does not respond: {cause}{remedy}", self.url))
    }

    /// The same address by plain HTTP.
    fn plain_address(&self) -> Option<String> {
        let rest = self.url.as_str().strip_prefix("https")?;
        Some(format!("http{}", rest.trim_end_matches('/')))
    }

    /// The names of the models that the caller may use.
    pub(crate) async fn models(&self, client: &Client) -> Result<Vec<String>, CliError> {
        let response = self.send(client.get(self.at(&["v1", "models"])?)).await?;
        let list = document(response).await;
        let models = list.pointer("/data").and_then(Value::as_array).ok_or_else(|| {
            CliError::new(format!("{} is no gateway: /v1/models is not a list of models", self.url))
        })?;
        let name = |model: &Value| model.get("id").and_then(Value::as_str).map(str::to_owned);
        Ok(models.iter().filter_map(name).collect())
    }
}

/// Reads the address of a gateway: without a scheme it is `http`, and the `/v1` of a client's base URL is cut.
fn gateway_url(text: &str) -> Result<Url, &'static str> {
    const EXPECTED: &str = "expected the gateway's address, such as `http://127.0.0.1:8080` or `https://llm.example.com`";
    let text = text.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&text).map_err(|_| EXPECTED)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(EXPECTED);
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Whether the other side has answered a TLS handshake with something else.
fn is_no_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    use tokio_rustls::rustls::Error as TlsError;
    if matches!(error.downcast_ref(), Some(TlsError::InvalidMessage(_))) {
        return true;
    }
    // An I/O error does not name the error that it was made of as its source.
    let made_of = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    made_of.is_some_and(|error| is_no_tls(error)) || error.source().is_some_and(is_no_tls)
}

/// A message with all causes, each of them once.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The body of a response as JSON; `null` if it is none, or larger than 8 MiB.
pub(crate) async fn document(mut response: Response) -> Value {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > MAX_DOCUMENT {
            return Value::Null;
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).unwrap_or_default()
}

/// The message of an error response.
pub(crate) async fn refusal(response: Response) -> CliError {
    let status = response.status();
    let body = document(response).await;
    let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or("no message");
    CliError::new(format!("the gateway returned {status}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_address_is_read_as_people_write_it() {
        let read = |text: &str| gateway_url(text).map(|url| url.to_string());
        for (text, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("localhost:8080/v1", "http://localhost:8080/"),
            ("https://llm.example.com/v1/", "https://llm.example.com/"),
            ("https://example.com/llm/v1", "https://example.com/llm"),
            (" [::1]:8080 ", "http://[::1]:8080/"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for wrong in ["", "ftp://host", "http://", "unix:///tmp/s"] {
            assert!(read(wrong).is_err_and(|error| error.contains("127.0.0.1:8080")), "{wrong}");
        }
    }
}
