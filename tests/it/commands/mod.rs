//! Commands for people: `init`, `doctor`, `import`, `chat`, `launch`, completions and man pages, run as the program. None may
//! show a provider's key.

mod chat;
mod doctor;
mod examples;
mod explain;
mod import;
mod init;
mod launch;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::process::program;

/// The program with these arguments and these variables only, without a terminal.
fn alone(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = program(arguments);
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs a command to its end, beside the test's own upstreams: exit status, standard output, standard error.
async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A folder that is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder =
            std::env::temp_dir().join(format!("streamgate-commands-{}", rand::random::<u64>()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[tokio::test]
async fn completions_name_every_command() {
    let (_, help, _) = run(alone(&["--help"], &[])).await;
    let section = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.contains(&"doctor") && commands.len() > 15, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (status, script, err) = run(alone(&["completions", shell], &[])).await;
        assert_eq!((status, err.as_str()), (Some(0), ""), "{shell}");
        for command in commands.iter().filter(|command| !command.is_empty()) {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    assert_eq!(run(alone(&["completions", "tcsh"], &[])).await.0, Some(2));
}

#[tokio::test]
async fn man_pages_are_written_for_every_command() {
    let folder = Folder::new();
    let pages = folder.path("man/man1");
    let (status, out, err) = run(alone(&["man", &pages], &[])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("streamgate.1"), "{out}");
    for page in
        ["streamgate.1", "streamgate-chat.1", "streamgate-key-new.1", "streamgate-import-litellm.1"]
    {
        let text = std::fs::read_to_string(format!("{pages}/{page}")).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH SYNOPSIS"), "{page}");
    }
    let file = folder.write("file", "");
    let (status, _, err) = run(alone(&["man", &file], &[])).await;
    assert_eq!(status, Some(1));
    assert!(err.contains(&file), "{err}");
}
