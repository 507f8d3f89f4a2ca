//! Questions of `streamgate init` on a terminal: each has a default, which an empty answer takes. It must never ask for a
//! key, which the terminal would show.

use std::io::{BufRead, Read, Write};

use super::choices::{self, CHOICES, Choice};
use super::file::{self, Plan};
use crate::CliError;

/// The most bytes of an answer.
const MAX_ANSWER: u64 = 64 << 10;

/// A person to ask.
pub(super) struct Questions<R, W> {
    input: R,
    output: W,
}

impl<R: BufRead, W: Write> Questions<R, W> {
    /// Reads answers from one side and prints questions on the other.
    pub(super) fn new(input: R, output: W) -> Self {
        Self { input, output }
    }

    /// Asks about everything in a plan, with what it has as the defaults.
    pub(super) fn complete(&mut self, plan: &mut Plan) -> Result<(), CliError> {
        let names: Vec<&str> = CHOICES.iter().map(|choice| choice.name).collect();
        self.print(&format!("Providers: {}\n", names.join(", ")));
        if !plan.detected && self.ask("Look for model servers on this machine?", "n", yes)? {
            for choice in choices::detect(plan.listen) {
                self.print(&format!("  found {}\n", choice.name));
                if !plan.providers.contains(&choice) {
                    plan.providers.push(choice);
                }
            }
        }
        let chosen: Vec<&str> = plan.providers.iter().map(|choice| choice.name).collect();
        plan.providers = self.ask("Which, separated by commas?", &or_none(&chosen), providers)?;
        let models = |text: &str| listed(text).map(file::model).collect::<Result<Vec<_>, _>>();
        let question = "Short names for models, such as fast=PROVIDER/MODEL?";
        plan.models.extend(self.ask(question, "none", models)?);
        let address = |text: &str| crate::cli::listen_address(text).map_err(str::to_owned);
        plan.listen = self.ask("Listen on?", &plan.listen.to_string(), address)?;
        let name = |text: &str| Ok(text.to_owned());
        plan.key_name = self.ask("Name of the first caller?", &plan.key_name.clone(), name)?;
        let origins = |text: &str| Ok(listed(text).map(str::to_owned).collect());
        let given: Vec<&str> = plan.origins.iter().map(String::as_str).collect();
        plan.origins = self.ask("Origins of pages that may call?", &or_none(&given), origins)?;
        Ok(())
    }

    /// Asks until the answer can be read.
    fn ask<T>(
        &mut self,
        question: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, CliError> {
        loop {
            self.print(&format!("{question} [{default}] "));
            let mut line = String::new();
            let length = self.input.by_ref().take(MAX_ANSWER).read_line(&mut line);
            let length = length.map_err(|error| {
                CliError::new(format!("standard input cannot be read: {error}"))
            })?;
            if length == 0 {
                return Err(CliError::new("nothing is written: the answers ended early"));
            }
            let answer = Some(line.trim()).filter(|line| !line.is_empty()).unwrap_or(default);
            match read(answer) {
                Ok(value) => return Ok(value),
                Err(why) => self.print(&format!("{why}\n")),
            }
        }
    }

    fn print(&mut self, text: &str) {
        let _closed = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
    }
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

/// The items of a list with commas; `none` is an empty one.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty() && *item != "none")
}

fn providers(text: &str) -> Result<Vec<&'static Choice>, String> {
    listed(text).map(choices::named).collect()
}

fn yes(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err("expected y or n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn plan() -> Plan {
        Plan {
            providers: vec![&CHOICES[0]],
            models: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: None,
            key_name: "default".to_owned(),
            origins: Vec::new(),
            detected: true,
        }
    }

    #[test]
    fn empty_answers_take_defaults_and_wrong_ones_are_asked_again() {
        let mut plan = plan();
        let answers =
            b"grok\ngroq, openai\nfast\nfast=groq/llama\nhere\n0.0.0.0:80\n\nhttps://a.example\n";
        let mut asked = Vec::new();
        Questions::new(&answers[..], &mut asked)
            .complete(&mut plan)
            .map_err(|e| e.message)
            .unwrap();
        let names: Vec<&str> = plan.providers.iter().map(|choice| choice.name).collect();
        assert_eq!(names, ["groq", "openai"]);
        assert_eq!(plan.models, [("fast".into(), ("groq".into(), "llama".into()))]);
        assert_eq!(plan.listen.to_string(), "0.0.0.0:80");
        assert_eq!(
            (plan.key_name.as_str(), plan.origins.as_slice()),
            ("default", &["https://a.example".to_owned()][..])
        );
        let asked = String::from_utf8(asked).unwrap();
        for words in ["[openai]", "`grok`", "NAME=PROVIDER/MODEL", "127.0.0.1:8080"] {
            assert!(asked.contains(words), "{words} is not in {asked}");
        }
    }

    #[test]
    fn answers_that_end_early_write_nothing() {
        let ended = Questions::new(&b"groq\n"[..], Vec::new()).complete(&mut plan());
        assert!(ended.is_err_and(|error| error.message.contains("nothing is written")));
    }
}
