//! Preflight request: one short stream before the load, so that a target that cannot be used is
//! reported as what it is, once, and within a bounded time.

use std::time::Duration;

use url::Url;

use super::client::{Ask, Client};
use super::failure::{Kind, LoadError};
use super::plan::Plan;
use super::protocol::Protocol;
use super::tally::{End, Meter};

/// The longest silence of the target.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Streams one token in each protocol of the plan; the error has the cause and the remedy.
pub(super) async fn preflight(plan: &Plan) -> Result<(), String> {
    let patience = plan.stages.iter().map(|stage| stage.timeout.min(TIMEOUT)).max();
    let client = Client::new(&plan.url, patience.unwrap_or(TIMEOUT))?;
    let mut asked: Vec<&str> = Vec::new();
    for protocol in plan.stages.iter().flat_map(|stage| &stage.protocols) {
        if !asked.contains(&protocol.name) {
            asked.push(protocol.name);
            stream(&client, plan, protocol).await?;
        }
    }
    Ok(())
}

async fn stream(client: &Client, plan: &Plan, protocol: &'static Protocol) -> Result<(), String> {
    let ask = Ask {
        protocol,
        model: format!("{}/n1", plan.provider),
        key: &plan.key,
        tokens: 1,
        planned: Duration::ZERO,
        leave_after: None,
    };
    let outcome = client.ask(&ask, &Meter::default()).await;
    let failure = match outcome.end {
        End::Complete => return Ok(()),
        End::Refused => LoadError::new(Kind::Status(429), "the key is over its limits"),
        End::Failed(failure) => failure,
        End::Left | End::Reported(_) => LoadError::new(Kind::Junk, "an end that was not expected"),
    };
    Err(explain(&plan.url, plan, protocol, &failure))
}

/// The error message of a failed preflight: cause and remedy.
fn explain(url: &Url, plan: &Plan, protocol: &Protocol, failure: &LoadError) -> String {
    let LoadError { kind, detail } = failure;
    let model = format!("{}/n1", plan.provider);
    match kind {
        Kind::Connect => format!(
            "{url} cannot be reached: {detail}; start the gateway, or give --url its address"
        ),
        Kind::Status(401 | 403) => format!(
            "{url} refuses the key: {detail}; set STREAMGATE_KEY (or --key) to a key of this \
             gateway that may use {model}"
        ),
        Kind::Status(404) => format!(
            "{url} does not serve {model} on {}: {detail}; --provider names the gateway's \
             provider that is a simulated upstream (`streamgate sim`)",
            (protocol.path)(&model)
        ),
        Kind::Status(429) => format!(
            "{url} limits the key already: {detail}; wait a minute, or use a key with \
             `limits: none`"
        ),
        Kind::Status(status) => format!("{url} answers {status} to {model}: {detail}"),
        Kind::Stalled => format!("{url} accepts the connection, but sends nothing: {detail}"),
        Kind::Junk => {
            format!("{url} does not answer as a gateway in front of a simulated upstream: {detail}")
        }
        kind => format!("{url}: a first stream of {model} failed ({kind}): {detail}"),
    }
}
