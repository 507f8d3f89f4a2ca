//! The shape of the code as tests: who may know whom, how long a file may be, what may not be
//! written. These checks must never need a list of today's files.

mod documents;
mod language;

use std::path::{Path, PathBuf};

use streamgate::wire::dialect::DIALECTS;

const WIRE: &str = "crates/wire/src";
const SIM: &str = "crates/sim/src";

/// A source file: its path with `/`, below the package, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The text without comments and without test modules at the end.
    fn code(&self) -> String {
        let body = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        let strip = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        body.lines().map(strip).collect::<Vec<String>>().join("\n")
    }

    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|own| own == extension)
    }

    fn is_test(&self) -> bool {
        let tests = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        tests || self.path.ends_with("_tests.rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder, but for what is built or installed there.
fn files(folder: &str) -> Vec<Source> {
    // Installed, compiled or generated files. Virtual environments have names of their own.
    let skipped = ["target", "node_modules", "corpus", "__pycache__", ".next"];
    let installed = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        skipped.contains(&&*name) || name.starts_with(".venv")
    };
    let mut out = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                let skip = installed(&path) || path.is_symlink();
                folders.extend((!skip).then_some(path));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                out.push(Source { path: below_root(&path), text });
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

fn sources(folder: &str) -> Vec<Source> {
    let mut sources = files(folder);
    sources.retain(|source| source.has_extension("rs"));
    sources
}

fn below_root(path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root()).expect("below the package").into();
    path.to_string_lossy().replace('\\', "/")
}

/// The program and its libraries, without tests and benchmarks of their own.
fn product() -> Vec<Source> {
    ["src", WIRE, SIM].into_iter().flat_map(sources).collect()
}

fn everything() -> Vec<Source> {
    ["src", "crates", "tests", "fuzz"].into_iter().flat_map(sources).collect()
}

/// Whether `word` stands in `code` on its own, not as a part of a longer name.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = code.split_at(at);
        let before = before.chars().next_back();
        let after = after.chars().nth(word.chars().count());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// Names that the package's dependencies do not rule out: they hold no runtime, logging or randomness.
#[test]
fn the_wire_is_pure() {
    let sources = sources(WIRE);
    assert!(sources.len() > 100, "{WIRE} is somewhere else");
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let code = source.code();
        for word in ["std::time", "std::env", "std::fs", "std::net", "std::thread", "Mutex"] {
            if names(&code, word) {
                found.push(format!("{} names {word}", source.path));
            }
        }
    }
    assert_none("wire/ is bytes in, values out, and back", &found);
}

/// The modules of dialects, by listing their folder.
fn dialect_modules() -> Vec<String> {
    let mut modules = Vec::new();
    for entry in std::fs::read_dir(root().join(WIRE).join("dialect")).expect("dialects") {
        let name = entry.expect("an entry").file_name().to_string_lossy().replace(".rs", "");
        if name != "mod" {
            modules.push(name);
        }
    }
    modules
}

#[test]
fn nobody_names_a_dialect() {
    let mut found = Vec::new();
    // The list itself; and the simulated upstream and the load client, which know no dialect code.
    let list = format!("{WIRE}/dialect/mod.rs");
    let exempt = |path: &str| path == list || OBSERVERS.iter().any(|side| path.starts_with(side));
    let modules = dialect_modules();
    for source in product().iter().filter(|source| !exempt(&source.path)) {
        let code = source.code();
        for module in &modules {
            let own = source.path.starts_with(&format!("{WIRE}/dialect/{module}"));
            let path = [format!("{module}::"), format!("::{module}"), format!("mod {module}")];
            if !own && path.iter().any(|path| names(&code, path)) {
                found.push(format!("{} names {module}", source.path));
            }
        }
    }
    assert_none("dialects never name each other, and nobody else names one", &found);
}

/// The gateway's other sides, which must be independent of it to find its mistakes.
const OBSERVERS: [&str; 2] = [SIM, "src/load/"];

#[test]
fn the_other_sides_do_not_use_the_wire() {
    let mut found = Vec::new();
    for side in OBSERVERS {
        let sources = sources(side);
        assert!(sources.len() > 5, "{side} is somewhere else");
        for source in sources {
            // Their tests and documentation may speak of it.
            let code = source.code();
            if names(&code, "wire") || names(&code, "gateway::") || names(&code, "dialect::") {
                found.push(format!("{} uses the gateway's code", source.path));
            }
        }
    }
    assert_none("the simulated upstream and the load client are independent observers", &found);
}

#[test]
fn nothing_that_is_joined_names_the_whole() {
    // The program itself, which starts an app.
    let program = ["src/serve.rs", "src/reload.rs"];
    let mut found = Vec::new();
    for source in product() {
        let may = program.iter().any(|place| source.path.starts_with(place));
        if !may && names(&source.code(), "app::") {
            found.push(format!("{} uses the app", source.path));
        }
    }
    assert_none("endpoints take the state that they need, and not the app", &found);
}

#[test]
fn axum_and_reqwest_stay_at_the_edge() {
    let edges = [
        ("opentelemetry", &["src/telemetry/"][..]),
        ("opentelemetry_sdk", &["src/telemetry/"]),
        ("opentelemetry_otlp", &["src/telemetry/"]),
        ("opentelemetry_http", &["src/telemetry/"]),
        (
            "axum",
            &[
                "src/app.rs",
                "src/admin/",
                "src/stream_api/",
                "src/channel_api/",
                "src/console/",
                "src/durable/",
                "src/graphql/",
                "src/mercure/",
                "src/server/",
                "src/gateway/mod.rs",
                "src/gateway/compression.rs",
                "src/gateway/direct_response.rs",
                "src/gateway/durable.rs",
                "src/gateway/error_response.rs",
                "src/gateway/exchange.rs",
                "src/gateway/own_endpoint.rs",
                "src/gateway/reply.rs",
                "src/gateway/request_body.rs",
                SIM,
            ],
        ),
        (
            "reqwest",
            &[
                "src/gateway/egress.rs",
                "src/gateway/upstream.rs",
                "src/gateway/source.rs",
                "src/gateway/fetch.rs",
                "src/gateway/provider_models.rs",
                "src/gateway/target_check.rs",
                "src/gateway/provider_check/",
                "src/channel_command.rs",
                "src/chat_command/",
                "src/gateway_client.rs",
                "src/health.rs",
                "src/load/client.rs",
            ],
        ),
    ];
    let mut found = Vec::new();
    for source in product().iter().filter(|source| !source.is_test()) {
        let code = source.code();
        for (name, allowed) in edges {
            let may = allowed.iter().any(|place| source.path.starts_with(place));
            if !may && names(&code, name) {
                found.push(format!("{} names {name}", source.path));
            }
        }
    }
    assert_none("axum, reqwest and OpenTelemetry types stop at the edge", &found);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut found = Vec::new();
    for source in everything() {
        let lines = source.text.lines().count();
        if lines > 500 {
            found.push(format!("{} has {lines} lines, more than 500", source.path));
        }
        if !source.text.starts_with("//!") {
            found.push(format!("{} does not begin with //!", source.path));
        }
    }
    assert_none("files", &found);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["FIXME", "TODO", "XXX", "HACK"];
    let mut found = Vec::new();
    for source in everything().iter().filter(|source| source.path != "tests/it/tidy/mod.rs") {
        for (number, line) in source.text.lines().enumerate() {
            let later = marks.iter().any(|mark| names(line, mark));
            let skipped = line.contains("#[ignore") || line.contains("thread::sleep");
            let lax = line.contains("#[allow(") || line.contains("#![allow(");
            if later || skipped || lax {
                found.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert_none("do it now, do not skip it, expect with a reason", &found);
}

#[test]
fn names_are_said_where_they_are_used() {
    let forbidden =
        ["utils", "util", "common", "types", "models", "services", "prelude", "helpers", "misc"];
    let mut found = Vec::new();
    for source in product() {
        for part in source.path.split('/').map(|part| part.trim_end_matches(".rs")) {
            if forbidden.contains(&part) {
                found.push(format!("{}: {part} says nothing", source.path));
            }
        }
        for line in source.code().lines().filter(|_| !source.is_test()) {
            let import = line.trim_start();
            let import = import
                .strip_prefix("pub ")
                .or_else(|| import.strip_prefix("pub(crate) "))
                .unwrap_or(import);
            if import.starts_with("use ") && import.contains("::*") {
                found.push(format!("{}: {line}", source.path));
            }
        }
    }
    assert_none("no empty names, no globs", &found);
}

#[test]
fn every_dialect_has_fixtures() {
    for dialect in DIALECTS {
        let streams = crate::golden::streams(dialect.name()).len();
        assert!(streams >= 3, "{} has {streams} streams", dialect.name());
        let requests = crate::golden::cases(dialect.name(), ".request.json").len();
        assert!(
            requests >= 3 || dialect.as_caller().is_none(),
            "{} has {requests} requests",
            dialect.name()
        );
    }
}

/// Each file of `src/` and each crate is named in ARCHITECTURE.md, and every path named there exists.
#[test]
fn the_architecture_lists_the_modules() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut found = Vec::new();
    for folder in ["src", "crates"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            if !text.contains(&format!("`{folder}/{name}")) {
                found.push(format!("{folder}/{name} is not in ARCHITECTURE.md"));
            }
        }
    }
    let mentions: Vec<&str> = text
        .split('`')
        .filter(|word| word.starts_with("src/") || word.starts_with("crates/"))
        .collect();
    assert!(mentions.len() > 20, "only {} paths are named", mentions.len());
    for path in mentions.into_iter().filter(|path| !root().join(path).exists()) {
        found.push(format!("ARCHITECTURE.md names {path}, which is not there"));
    }
    assert_none("ARCHITECTURE.md and the sources", &found);
}

/// k6 is under the AGPL: scripts for it are ours, but nothing here may link, build or fetch it.
#[test]
fn k6_is_not_a_dependency() {
    // In two parts, so that a search for it finds nothing here either.
    let module = ["go.k6", ".io"].concat();
    let skipped = ["target", ".git", "node_modules", "corpus"];
    let skip = |name: &str| skipped.contains(&name) || name.starts_with(".venv");
    let (mut found, mut seen) = (Vec::new(), 0);
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() {
                folders.extend((!skip(&name)).then_some(path));
                continue;
            }
            seen += 1;
            let text = std::fs::read(&path).unwrap_or_default();
            let mentions = String::from_utf8_lossy(&text).contains(&module);
            if mentions || ["go.mod", "go.sum"].contains(&name.as_str()) {
                found.push(below_root(&path));
            }
        }
    }
    assert!(seen > 100, "only {seen} files were looked at");
    assert_none("k6 is the user's own, never a part of this", &found);
}

#[test]
fn fixtures_are_ours() {
    let mut found = Vec::new();
    for dialect in DIALECTS {
        let folder = root().join("tests/fixtures").join(dialect.name());
        for entry in std::fs::read_dir(folder).expect("fixtures") {
            let path = entry.expect("an entry").path();
            let size = std::fs::metadata(&path).expect("metadata").len();
            if size > 16 * 1024 {
                found.push(format!("{} has {size} bytes", below_root(&path)));
            }
        }
    }
    assert_none("fixtures are small and written by hand", &found);
}
