//! Health check client (`streamgate health`), for container images without another program. It must never use a proxy,
//! and never send a key.

use std::time::Duration;

use crate::{CliError, print_line};

/// The timeout of the request. Container engines have timeouts of a few seconds, too.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Succeeds if the response has a status 2xx. The listener is reached on its loopback address, which no certificate
/// names, so certificates are not verified.
pub(crate) async fn ask(url: &str) -> Result<(), CliError> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| CliError::new(format!("cannot make a request: {error}")))?;
    let response = client.get(url).send().await.map_err(|error| {
        let mut text = format!("{url} does not respond");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        if error.is_builder() {
            text.push_str("; give --url an address such as http://127.0.0.1:8080/readyz");
        }
        CliError::new(text)
    })?;
    let status = response.status();
    if !status.is_success() {
        return Err(CliError::new(format!("{url} returned {status}")));
    }
    print_line(&mut std::io::stdout(), &format!("{url}: ok"));
    Ok(())
}
