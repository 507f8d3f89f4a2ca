//! Channel commands (`streamgate subscribe`, `streamgate publish`): a client that prints events and resumes, and one that
//! publishes. It must never print a key.

use std::io::BufRead;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::gateway_client::{Server, causes, document, refusal};
use crate::{CliError, print_line};

/// The time before a reconnect where the server has named none.
const RETRY: Duration = Duration::from_secs(3);
/// The most lines of standard input that one request publishes.
const MAX_BATCH: usize = 500;

const AFTER_SUBSCRIBE: &str = "\
Examples:
  streamgate subscribe --key sg-... news prices
  streamgate subscribe --rewind 10 --json 'order.*'
  streamgate subscribe --count 1 room        exit after the first event

After a lost connection it goes on where it was. Exit status 1 if the server refuses, 2 for invalid options.";

const AFTER_PUBLISH: &str = "\
Examples:
  streamgate publish --key sg-... news 'hello'
  streamgate publish --event tick prices '{\"EUR\": 1.08}'
  tail -f log | streamgate publish log -      an event for each line";

/// The options of `streamgate subscribe`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_SUBSCRIBE)]
pub(crate) struct SubscribeArguments {
    /// Channels: names, or patterns with `*`.
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    #[command(flatten)]
    server: Server,
    /// Types of events, separated by commas; all by default.
    #[arg(long, value_name = "TYPES")]
    types: Option<String>,
    /// Begin with so many of the last events of each channel.
    #[arg(long, value_name = "N")]
    rewind: Option<u32>,
    /// Begin after this position: the id of an event.
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// Print each event as a JSON object with `id`, `event` and `data`, instead of its type and data.
    #[arg(long)]
    json: bool,
    /// Exit after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// The options of `streamgate publish`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_PUBLISH)]
pub(crate) struct PublishArguments {
    /// The channel.
    channel: String,
    /// The data: JSON is published as it is, anything else as a text. `-` reads standard input, an event for each line.
    data: String,
    #[command(flatten)]
    server: Server,
    /// Type of the events.
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// The publisher's id of the event: a repetition is not published again.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

/// Prints the events of channels until `count`, or for ever.
pub(crate) async fn subscribe(arguments: SubscribeArguments) -> Result<(), CliError> {
    let client = arguments.server.client()?;
    let mut url = arguments.server.at(&["v1", "events"])?;
    {
        let mut query = url.query_pairs_mut();
        for channel in &arguments.channels {
            query.append_pair("channel", channel);
        }
        if let Some(types) = &arguments.types {
            query.append_pair("types", types);
        }
        if let Some(rewind) = arguments.rewind {
            query.append_pair("rewind", &rewind.to_string());
        }
    }
    let mut reading = Reading {
        json: arguments.json,
        left: arguments.count,
        last: arguments.last_event_id.unwrap_or_default(),
        retry: RETRY,
        lines: Vec::new(),
        partial: Vec::new(),
    };
    loop {
        let request = client.get(url.clone()).header(ACCEPT, "text/event-stream");
        let mut request = arguments.server.authorized(request);
        if !reading.last.is_empty() {
            request = request.header("last-event-id", &reading.last);
        }
        let lost = match request.send().await {
            Ok(response) if response.status() == StatusCode::OK => {
                match reading.read(response).await {
                    Ok(()) if reading.left == Some(0) => return Ok(()),
                    Ok(()) => None,
                    Err(error) => Some(causes(&error)),
                }
            }
            Ok(response) => Some(reading.refused(response).await?),
            Err(error) => Some(causes(&error)),
        };
        if let Some(lost) = lost {
            let wait = reading.retry.as_secs_f64();
            let line = format!("{lost}; connecting again in {wait:.1} s");
            print_line(&mut std::io::stderr(), &line);
        }
        sleep(reading.retry).await;
    }
}

/// An event stream as it is read.
struct Reading {
    json: bool,
    left: Option<u64>,
    last: String,
    retry: Duration,
    /// The lines of the event that is incomplete.
    lines: Vec<String>,
    partial: Vec<u8>,
}

impl Reading {
    /// Reads a response to its end, or to the last event that is wanted.
    async fn read(&mut self, mut response: Response) -> Result<(), reqwest::Error> {
        self.lines.clear();
        self.partial.clear();
        while let Some(chunk) = response.chunk().await? {
            for byte in chunk {
                if byte != b'\n' {
                    self.partial.push(byte);
                    continue;
                }
                let line = String::from_utf8_lossy(&self.partial).into_owned();
                self.partial.clear();
                if line.is_empty() {
                    self.dispatch();
                } else {
                    self.lines.push(line);
                }
                if self.left == Some(0) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Prints an event whose lines are complete.
    fn dispatch(&mut self) {
        let (mut event, mut data) = (None, Vec::new());
        let lines = std::mem::take(&mut self.lines);
        for line in &lines {
            match line.split_once(": ").unwrap_or_else(|| (line.trim_end_matches(':'), "")) {
                ("id", id) => id.clone_into(&mut self.last),
                ("event", name) => event = Some(name),
                ("data", line) => data.push(line),
                ("retry", millis) => {
                    let millis = millis.parse().ok().map(Duration::from_millis);
                    self.retry = millis.unwrap_or(self.retry);
                }
                _ => {}
            }
        }
        let data = data.join("\n");
        match event {
            _ if data.is_empty()
                && event.is_none()
                && !lines.iter().any(|line| line.starts_with("data")) => {}
            Some("control") => {}
            Some("reset") => missed(&self.last),
            _ => self.print(event, &data),
        }
    }

    fn print(&mut self, event: Option<&str>, data: &str) {
        let line = match (self.json, event) {
            (true, _) => json!({ "id": self.last, "event": event, "data": data }).to_string(),
            (false, Some(event)) => format!("{event}: {data}"),
            (false, None) => data.to_owned(),
        };
        print_line(&mut std::io::stdout(), &line);
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// The reason to connect again after a refusal, or the error that ends it.
    async fn refused(&mut self, response: Response) -> Result<String, CliError> {
        let status = response.status();
        if status == StatusCode::GONE {
            let body = document(response).await;
            let earliest = body.pointer("/earliest").and_then(Value::as_str).unwrap_or_default();
            earliest.clone_into(&mut self.last);
            missed(&self.last);
            return Ok("the position is gone".to_owned());
        }
        let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        if let Some(seconds) = wait.and_then(|text| text.parse().ok()) {
            self.retry = Duration::from_secs(seconds);
        }
        let refusal = refusal(response).await;
        if again { Ok(refusal.message) } else { Err(refusal) }
    }
}

/// Reports that events are missing.
fn missed(position: &str) {
    let line = format!("some events are no longer kept; going on from {position}");
    print_line(&mut std::io::stderr(), &line);
}

/// Publishes an event, or one for each line of standard input.
pub(crate) async fn publish(arguments: PublishArguments) -> Result<(), CliError> {
    let client = arguments.server.client()?;
    let url = arguments.server.at(&["v1", "channels", &arguments.channel])?;
    let event = |text: &str| {
        let data = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        json!({ "event": arguments.event, "data": data, "id": arguments.id })
    };
    let send = async |body: &Value| {
        let request = client.post(url.clone()).header(CONTENT_TYPE, "application/json");
        arguments.server.send(request.body(body.to_string())).await
    };
    if arguments.data != "-" {
        let answer = document(send(&event(&arguments.data)).await?).await;
        let id = answer.pointer("/id").and_then(Value::as_str).unwrap_or_default();
        print_line(&mut std::io::stdout(), id);
        return Ok(());
    }
    if arguments.id.is_some() {
        return Err(CliError::configuration(
            "--id names one event, and cannot be that of all lines",
        ));
    }
    let mut lines = std::io::stdin().lock();
    loop {
        let batch = batch(&mut lines)?;
        if batch.is_empty() {
            return Ok(());
        }
        let events: Vec<Value> = batch.iter().map(|line| event(line)).collect();
        send(&json!({ "events": events })).await?;
    }
}

/// The next lines: one at least, and what has been read beside it.
fn batch(input: &mut impl BufRead) -> Result<Vec<String>, CliError> {
    let mut lines = Vec::new();
    let failed = |error| CliError::new(format!("standard input cannot be read: {error}"));
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).map_err(failed)? == 0 {
            return Ok(lines);
        }
        lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
        let ready = lines.len() < MAX_BATCH && {
            // Lines that have come with one read, without waiting for another.
            let buffered = input.fill_buf().map_err(failed)?;
            buffered.contains(&b'\n')
        };
        if !ready {
            return Ok(lines);
        }
    }
}
