//! Tests of the configuration: whole files in, values or exact problems out.

mod accepted;
mod channels;
mod description;
mod egress;
mod permitted;
mod presets;
mod problems;
mod prompts;
#[path = "../../../tests/it/support/schema.rs"]
mod schema;
mod settings;
mod tls;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Config, ConfigErrors};

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("streamgate-config-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The environment of all tests.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "OPENAI_API_KEY" => "canary-openai",
        "ANTHROPIC_API_KEY" => "canary-anthropic",
        "CANARY" => "canary",
        "CANARY_LINES" => "canary\nx: [y",
        "RPM" => "77",
        "OTLP_TOKEN" => "canary-otlp",
        "NOTHING" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

/// Loads a file, and asserts that its schema agrees.
fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let loaded = super::load(path, env);
    if let Ok(text) = fs::read_to_string(path) {
        let errors = loaded.as_ref().err().map_or(&[][..], |errors| &errors.list);
        let own: Vec<_> = errors.iter().filter(|error| error.file.is_none()).collect();
        if own.len() == errors.len() || !own.is_empty() {
            description::assert_agrees(&description::CONFIGURATION, &text, &own);
        }
    }
    loaded
}

pub(super) fn load_text(text: impl AsRef<[u8]>) -> Result<Config, ConfigErrors> {
    let dir = Dir::new();
    dir.write("secret.txt", "canary from file\n");
    let path = dir.write("config.yaml", text);
    load(&path, &env)
}

/// The problems of a file, one to a line, without its path.
fn problems_of(text: impl AsRef<[u8]>) -> String {
    let Err(problems) = load_text(text) else {
        return "none".to_owned();
    };
    let problems = ConfigErrors { path: Path::new("f").to_owned(), ..problems };
    problems.to_string()
}
