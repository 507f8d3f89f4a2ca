//! Chat command (`streamgate chat`): a conversation with a model in the terminal, through a gateway. It must never print a
//! key, nor send control characters of an answer to a terminal.

mod answer;

use std::io::{BufRead, IsTerminal, Read, Write};

use clap::Args;
use http::header::CONTENT_TYPE;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::gateway_client::Server;
use crate::{CliError, print_line};
use answer::Answer;

/// The most bytes of one message.
const MAX_MESSAGE: u64 = 16 << 20;

const AFTER_HELP: &str = "\
Examples:
  streamgate chat                                a conversation with the first model
  streamgate chat fast 'What is a monad?'        one answer
  git diff | streamgate chat fast --system 'Review this change.'

In a conversation, Ctrl-C stops the answer and Ctrl-D ends. Answers go to standard output; the time to the first token
(TTFT) and the tokens per second to standard error.";

/// The options of `streamgate chat`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ChatArguments {
    /// The model; the first one of the gateway's list by default.
    model: Option<String>,
    /// A message to answer once. Without one, it is read from standard input if that is no terminal.
    message: Vec<String>,
    #[command(flatten)]
    server: Server,
    /// Instructions for the model (system prompt).
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The most tokens of an answer.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Hold a conversation even if standard input is no terminal: each line is a message.
    #[arg(long, conflicts_with = "message")]
    interactive: bool,
    /// Print no measurements.
    #[arg(long)]
    quiet: bool,
}

/// Talks until the input ends, or answers once.
pub(crate) async fn chat(arguments: ChatArguments) -> Result<(), CliError> {
    let once = once(&arguments)?;
    let client = arguments.server.client()?;
    let model = match arguments.model {
        Some(model) => model,
        None => first_model(&arguments.server, &client).await?,
    };
    // From here on an interrupt stops an answer, and not the program.
    let failed = |error| CliError::new(format!("cannot listen for signals: {error}"));
    let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let instructions = arguments.system.map(|text| json!({ "role": "system", "content": text }));
    let mut conversation = Conversation {
        server: arguments.server,
        client,
        model,
        max_tokens: arguments.max_tokens,
        messages: instructions.into_iter().collect(),
        interrupt,
        quiet: arguments.quiet,
    };
    let Some(message) = once else {
        return conversation.run().await;
    };
    if conversation.ask(message).await? {
        return Err(CliError { message: "stopped".to_owned(), code: 130 });
    }
    Ok(())
}

/// The one message to answer. `None`: it is a conversation.
fn once(arguments: &ChatArguments) -> Result<Option<String>, CliError> {
    let stdin = std::io::stdin();
    if arguments.interactive || arguments.message.is_empty() && stdin.is_terminal() {
        return Ok(None);
    }
    let mut message = arguments.message.join(" ");
    if arguments.message.is_empty() {
        let read = stdin.lock().take(MAX_MESSAGE + 1).read_to_string(&mut message);
        read.map_err(|error| unreadable(&error))?;
        if message.len() as u64 > MAX_MESSAGE {
            return Err(CliError::new("the message on standard input is larger than 16 MiB"));
        }
    }
    if message.trim().is_empty() {
        let model = arguments.model.as_ref();
        let model = model.map_or_else(String::new, |model| format!(" for the model `{model}`"));
        return Err(CliError::configuration(&format!(
            "there is no message{model}; give it after the model, as in `streamgate chat MODEL 'MESSAGE'`, or on standard input"
        )));
    }
    Ok(Some(message))
}

fn unreadable(error: &std::io::Error) -> CliError {
    CliError::new(format!("standard input cannot be read: {error}"))
}

/// The first model of the list, which is named on standard error.
async fn first_model(server: &Server, client: &Client) -> Result<String, CliError> {
    let models = server.models(client).await?;
    let model = models.into_iter().next().ok_or_else(|| {
        CliError::new("the gateway lists no model for this key; name one: `streamgate chat MODEL`")
    })?;
    print_line(&mut std::io::stderr(), &format!("model: {model}"));
    Ok(model)
}

/// Messages so far, and the model that answers them.
struct Conversation {
    server: Server,
    client: Client,
    model: String,
    max_tokens: Option<u32>,
    messages: Vec<Value>,
    interrupt: Signal,
    quiet: bool,
}

impl Conversation {
    /// Answers each line of standard input. An error is printed, and its message forgotten.
    async fn run(mut self) -> Result<(), CliError> {
        let prompts = std::io::stdin().is_terminal();
        let mut lines = input_lines()?;
        loop {
            if prompts {
                prompt("> ");
            }
            let line = tokio::select! {
                line = lines.recv() => line.transpose().map_err(|error| unreadable(&error))?,
                _ = self.interrupt.recv() => {
                    print_line(&mut std::io::stderr(), "\nCtrl-D ends the conversation.");
                    continue;
                }
            };
            let Some(line) = line else {
                if prompts {
                    prompt("\n");
                }
                return Ok(());
            };
            if line.trim().is_empty() {
                continue;
            }
            if let Err(error) = self.ask(line).await {
                print_line(&mut std::io::stderr(), &error.message);
            }
        }
    }

    /// Sends a message and prints the answer as it comes. Returns whether it was stopped.
    async fn ask(&mut self, message: String) -> Result<bool, CliError> {
        self.messages.push(json!({ "role": "user", "content": message }));
        let answered = self.answer().await;
        let text = match &answered {
            Ok(answer) => answer.text.as_str(),
            Err(_) => "",
        };
        if text.is_empty() {
            // A message without an answer would be sent again, beside the next one.
            self.messages.pop();
        } else {
            self.messages.push(json!({ "role": "assistant", "content": text }));
        }
        let answer = answered?;
        if !self.quiet {
            let line = answer.measurements();
            let terminal = std::io::stderr().is_terminal();
            let line = if terminal { format!("\x1b[2m{line}\x1b[0m") } else { line };
            print_line(&mut std::io::stderr(), &line);
        }
        match answer.fault {
            Some(fault) => {
                Err(CliError::new(format!("the answer is incomplete: {}", fault.message)))
            }
            None => Ok(answer.stopped),
        }
    }

    async fn answer(&mut self) -> Result<Answer, CliError> {
        let mut body = json!({
            "model": self.model,
            "messages": self.messages,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        if let (Some(most), Some(members)) = (self.max_tokens, body.as_object_mut()) {
            members.insert("max_tokens".to_owned(), most.into());
        }
        let url = self.server.at(&["v1", "chat", "completions"])?;
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        let begun = Instant::now();
        let response = tokio::select! {
            response = self.server.send(request.body(body.to_string())) => response?,
            _ = self.interrupt.recv() => return Ok(Answer::stopped()),
        };
        Answer::read(response, begun, &mut self.interrupt).await
    }
}

/// The lines of standard input, read by a thread that ends with the process: a read cannot be given up.
fn input_lines() -> Result<mpsc::Receiver<std::io::Result<String>>, CliError> {
    let (sender, receiver) = mpsc::channel(1);
    let read = move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            let read = input.by_ref().take(MAX_MESSAGE).read_line(&mut line);
            let line = match read {
                Ok(0) => return,
                Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(error),
            };
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("input".to_owned()).spawn(read);
    thread.map_err(|error| CliError::new(format!("cannot read standard input: {error}")))?;
    Ok(receiver)
}

fn prompt(text: &str) {
    let mut to = std::io::stderr();
    let _closed = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
