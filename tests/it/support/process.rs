//! The program itself, as its users start it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// A running program. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    out: watch::Receiver<String>,
    err: watch::Receiver<String>,
}

/// The program with these arguments, and nothing of our environment that it would read.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
    command.args(arguments);
    // Without a configuration, each of these makes a provider.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["_API_KEY", "HF_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"]
            .iter()
            .any(|end| text.ends_with(end))
        {
            command.env_remove(&name);
        }
    }
    for name in
        ["RUST_LOG", "STREAMGATE_CONFIG", "STREAMGATE_LOG", "STREAMGATE_KEY", "STREAMGATE_LISTEN"]
    {
        command.env_remove(name);
    }
    for name in ["STREAMGATE_URL", "STREAMGATE_LIMITED_KEY", "STREAMGATE_HEALTH_URL"] {
        command.env_remove(name);
    }
    for name in ["URL", "UPSTREAM_STATS", "METRICS"] {
        command.env_remove(format!("STREAMGATE_LOAD_{name}"));
    }
    for name in ["ENDPOINT", "HEADERS"] {
        command.env_remove(format!("OTEL_EXPORTER_OTLP_{name}"));
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    ended(program(arguments))
}

/// The same in a folder without a configuration, which the program would read.
pub(crate) fn run_elsewhere(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program(arguments);
    command.current_dir(std::env::temp_dir());
    ended(command)
}

/// Runs a command to its end.
pub(crate) fn ended(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A configuration file that is removed when dropped.
pub(crate) struct File(pub(crate) PathBuf);

impl File {
    pub(crate) fn new(yaml: &str) -> Self {
        let name = format!("streamgate-test-{}", rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let file = Self(directory.join("config.yaml"));
        file.write(yaml);
        file
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Replaces the file by another one, as editors do.
    pub(crate) fn write(&self, yaml: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, yaml).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(directory) = self.0.parent() {
            std::fs::remove_dir_all(directory).ok();
        }
    }
}

impl Process {
    pub(crate) fn start(command: Command) -> Self {
        Self::logging_to(Stdio::piped(), command)
    }

    /// Starts the program with a standard error of the test's own.
    pub(crate) fn logging_to(stderr: impl Into<Stdio>, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("it starts");
        let out = follow(child.stdout.take().unwrap());
        let err = match child.stderr.take() {
            Some(stderr) => follow(stderr),
            None => watch::channel(String::new()).1,
        };
        Self { child, out, err }
    }

    /// Starts a gateway with a file, and waits for its address.
    pub(crate) async fn gateway(file: &File, filter: &str) -> (Self, String) {
        let mut command = program(&["--config", file.path()]);
        command.env("RUST_LOG", filter);
        let mut process = Self::start(command);
        let url = process.url().await;
        (process, url)
    }

    /// The address that it says it listens on.
    pub(crate) async fn url(&mut self) -> String {
        let said = self.out("\n").await;
        said.lines().next().and_then(|line| line.split(' ').nth(2)).unwrap().to_owned()
    }

    /// Its standard output, once that contains `mark`.
    pub(crate) async fn out(&mut self, mark: &str) -> String {
        until(&mut self.out, mark).await
    }

    /// Its log, once that contains `mark`.
    pub(crate) async fn log(&mut self, mark: &str) -> String {
        until(&mut self.err, mark).await
    }

    pub(crate) fn logged(&self) -> String {
        self.err.borrow().clone()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One may end in between.
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        tasks.filter_map(|task| Some(name(task.ok()?)?.trim().to_owned())).collect()
    }

    /// Its file descriptors, as the system names them.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        let links = folder.into_iter().flatten().filter_map(|entry| {
            Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned())
        });
        links.collect()
    }

    /// The most memory that it ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Its exit status, once it has ended.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        self.end().await
    }

    /// All that it logged, once it has ended.
    pub(crate) async fn ended_with_log(mut self) -> String {
        self.end().await;
        self.logged()
    }

    async fn end(&mut self) -> Option<i32> {
        // Both streams end with the process.
        let ends = async {
            while self.out.changed().await.is_ok() {}
            while self.err.changed().await.is_ok() {}
        };
        timeout(Duration::from_secs(10), ends).await.expect("it ends within 10 s");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Collects lines beside the test.
fn follow(from: impl Read + Send + 'static) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            sender.send_modify(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
    receiver
}

async fn until(text: &mut watch::Receiver<String>, mark: &str) -> String {
    let found = timeout(Duration::from_secs(10), text.wait_for(|text| text.contains(mark))).await;
    let found = found.map(|found| found.map(|text| text.clone()));
    match found {
        Ok(Ok(found)) => found,
        _ => panic!("no {mark:?} in: {}", *text.borrow()),
    }
}
