//! Mistakes on the command line: addresses, files, options of other programs, a port that is in use.

use crate::support::gateway::yaml;
use crate::support::process::{File, Process, ended, program, run, run_elsewhere};

const LISTEN: &str = "server: { listen: \"127.0.0.1:0\" }\n";

fn valid() -> String {
    yaml("http://127.0.0.1:1", "http://127.0.0.1:1", LISTEN)
}

#[tokio::test]
async fn m31_a_port_in_use_is_reported_with_its_holder_and_the_right_remedy() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = File::new(&valid());
    for (arguments, remedy, other) in [
        (
            &["serve", file.path(), "--listen", &*address][..],
            "choose another with --listen",
            "server.listen",
        ),
        (&["--listen", &*address], "--listen", "server.admin"),
    ] {
        let (status, out, err) = run_elsewhere(arguments);
        assert_eq!((status, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.starts_with(&format!("cannot listen on {address}: ")), "{err}");
        assert!(err.contains(remedy) && !err.contains(other), "{err}");
        if cfg!(target_os = "linux") {
            assert!(err.contains(&format!("(process {})", std::process::id())), "{err}");
        }
    }
}

#[test]
fn m32_addresses_have_short_forms() {
    let file = File::new(&valid());
    for (address, fine) in [
        ("127.0.0.1:0", true),
        ("localhost:8080", true),
        (":8080", true),
        ("8080", true),
        ("[::1]:8080", true),
        ("80800", false),
        ("here:8080", false),
        ("127.0.0.1", false),
    ] {
        // `check` binds nothing.
        let (status, _, err) = run(&["--listen", address, "check", file.path()]);
        assert_eq!(status, Some(if fine { 0 } else { 2 }), "{address}: {err}");
        assert!(
            fine || err.contains("`:8080` (all addresses) or `8080` (this machine only)"),
            "{err}"
        );
        let listen = File::new(&valid().replace("127.0.0.1:0", address));
        assert_eq!(run(&["check", listen.path()]).0, Some(if fine { 0 } else { 2 }), "{address}");
    }
    assert_eq!(streamgate::config::listen_address("8080").unwrap().to_string(), "127.0.0.1:8080");
    assert_eq!(streamgate::config::listen_address(":80").unwrap().to_string(), "0.0.0.0:80");
    let found = streamgate::config::listen_address("localhost:1").unwrap().to_string();
    assert_eq!(found, "127.0.0.1:1");
}

#[tokio::test]
async fn m32_serve_has_other_names_and_takes_a_file() {
    let file = File::new(&valid());
    for name in ["serve", "run", "start"] {
        let mut process = Process::start(program(&[name, file.path(), "--listen", "127.0.0.1:0"]));
        assert!(process.url().await.starts_with("http://127.0.0.1:"), "{name}");
        let log = process.log("started").await;
        assert!(log.contains(&format!(" config={} ", file.path())), "{log}");
    }
}

#[test]
fn m32_options_of_other_programs_get_a_tip() {
    for option in ["--port", "--port=8080", "-p", "--host", "--bind"] {
        let (status, _, err) = run(&[option]);
        assert_eq!(status, Some(2), "{option}");
        assert!(err.contains("--listen 8080"), "{option}: {err}");
    }
    let (_, _, err) = run(&["--lisen", "x"]);
    assert!(err.contains("--listen") && !err.contains("--listen 8080"), "{err}");
}

/// A file of this name is what a start there means.
#[tokio::test]
async fn m32_a_configuration_in_the_working_directory_is_read() {
    let file = File::new(&valid());
    let folder = file.0.parent().unwrap();
    std::fs::rename(&file.0, folder.join("streamgate.yaml")).unwrap();
    let mut check = program(&["check"]);
    check.current_dir(folder);
    let (status, out, err) = ended(check);
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(
        out,
        "streamgate.yaml: ok (2 providers, 0 models, 1 key, 0 token issuers, 0 prompts, 0 warnings)\n"
    );
    let mut serve = program(&[]);
    serve.current_dir(folder);
    let mut process = Process::start(serve);
    process.url().await;
    let log = process.log("started").await;
    assert!(log.contains(" config=streamgate.yaml ") && log.contains(" providers=2 "), "{log}");
    // A named file comes first.
    let other = File::new("server: { listne: 1 }\n");
    let mut named = program(&["check", other.path()]);
    named.current_dir(folder);
    assert!(ended(named).2.contains("listne"));
}

#[test]
fn m32_help_has_examples_the_environment_and_the_documentation() {
    let (status, out, _) = run(&["--help"]);
    assert_eq!(status, Some(0));
    for words in [
        "Examples:",
        "streamgate check streamgate.yaml",
        "Environment:",
        "STREAMGATE_KEY",
        "RUST_LOG",
        "GEMINI_API_KEY",
        "HTTPS_PROXY",
        "Documentation:",
    ] {
        assert!(out.contains(words), "{words} in {out}");
    }
}

#[test]
fn commands_without_a_configuration_show_no_option_for_one() {
    for command in [&["key", "new", "--help"][..], &["sim", "--help"], &["health", "--help"]] {
        let (status, out, _) = run(command);
        assert!(status == Some(0) && !out.contains("--config"), "{out}");
    }
    for command in [&["check", "--help"][..], &["serve", "--help"], &["token", "--help"]] {
        assert!(run(command).1.contains("--config"));
    }
    // It is accepted all the same, for scripts that always give it.
    assert_eq!(run(&["key", "new", "--name", "a", "--config", "x"]).0, Some(0));
}

/// Each credential in the environment makes a provider, and one that cannot be used is reported.
#[tokio::test]
async fn a_first_run_has_a_provider_for_each_credential() {
    let folder = std::env::temp_dir();
    let mut command = program(&["--listen", "127.0.0.1:0"]);
    command.current_dir(&folder).env("GROQ_API_KEY", "canary").env("GOOGLE_API_KEY", " canary \n");
    command.env("XAI_API_KEY", "two\nlines-canary").env("MISTRAL_API_KEY", "");
    let mut process = Process::start(command);
    let out = process.out("PROVIDER/MODEL").await;
    let providers = out.lines().find(|line| line.starts_with("providers: ")).unwrap();
    for name in ["groq", "gemini", "sim"] {
        assert!(providers.split([' ', ',']).any(|word| word == name), "{providers}");
    }
    for name in ["xai", "mistral"] {
        assert!(!providers.contains(name), "{providers}");
    }
    let log = process.log("started").await;
    assert!(log.contains("the environment has `XAI_API_KEY`, of which no provider"), "{log}");
    assert!(!log.contains("canary") && !out.contains("canary"), "{log}");

    let mut command = program(&["--listen", "127.0.0.1:0"]);
    command.current_dir(&folder);
    let mut process = Process::start(command);
    process.out("No real provider: set OPENAI_API_KEY").await;
}

#[tokio::test]
async fn a_wrong_filter_of_the_log_is_reported() {
    let file = File::new(&valid());
    let (mut process, _) = Process::gateway(&file, "streamgate=loud=1").await;
    let log = process.log("started").await;
    assert!(log.contains("RUST_LOG is not a valid filter"), "{log}");
}
