//! Files of prompts: their content, the exact messages for invalid ones, and the prompts that a reload keeps.

use std::fs;
use std::path::PathBuf;

use super::description::{PROMPT, assert_agrees};
use super::{Dir, env, load};
use crate::config::{Config, ConfigErrors, reload};
use crate::prompts::Scalar;
use crate::wire::chat::Role;

/// A directory with a configuration whose prompts are in `prompts/`.
struct Prompted {
    dir: Dir,
    config: PathBuf,
}

impl Prompted {
    fn new() -> Self {
        let dir = Dir::new();
        fs::create_dir(dir.0.join("prompts")).unwrap();
        let digest = "ab".repeat(32);
        let config = dir.write(
            "config.yaml",
            format!(
                "auth: {{ keys: [{{ name: k, sha256: \"{digest}\" }}] }}\n\
                 providers: {{ p: {{ dialect: openai-chat }} }}\n\
                 models: {{ m: {{ targets: [{{ provider: p, model: x }}] }} }}\n\
                 prompts: {{ dir: prompts }}\n"
            ),
        );
        Self { dir, config }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.dir.write(&format!("prompts/{name}"), content);
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        let loaded = load(&self.config, &env);
        for entry in fs::read_dir(self.dir.0.join("prompts")).into_iter().flatten() {
            let path = entry.unwrap().path();
            let errors = loaded.as_ref().err().map_or(&[][..], |errors| &errors.list);
            let own: Vec<_> =
                errors.iter().filter(|error| error.file.as_ref() == Some(&path)).collect();
            let name = path.file_name().unwrap().to_string_lossy();
            let is_prompt =
                !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"));
            if let (true, Ok(text)) = (is_prompt, fs::read_to_string(&path)) {
                assert_agrees(&PROMPT, &text, &own);
            }
        }
        loaded
    }

    /// The problems, one a line; names without their directories.
    fn problems(&self) -> String {
        let told = self.load().err().map_or_else(String::new, |problems| problems.to_string());
        told.replace(&format!("{}/", self.dir.0.display()), "")
    }
}

const PLAIN: &str = "messages: [{ role: user, content: \"hi\" }]\n";

#[test]
fn a_prompt_is_read_whole() {
    let prompted = Prompted::new();
    prompted.write(
        "helper@1.2.yml",
        "description: Helps.\n\
         model: p/any\n\
         parameters: { temperature: 0.5, top_p: 1, top_k: 3, max_tokens: 9, stop: END, \
         presence_penalty: -2, frequency_penalty: 1.5, seed: -7 }\n\
         variables:\n  \
           who:\n  \
           tone: { default: kind, description: How it sounds. }\n  \
           count: { default: 3 }\n  \
           code: { default: \"007\" }\n  \
           nothing: { default: \"\" }\n  \
           loud: { default: false, required: false }\n  \
           why: { required: true }\n\
         messages:\n\
         - { role: system, content: \"You are {{ who }}. ${NOT_EXPANDED} ${file:/etc/passwd}\" }\n\
         - { role: assistant, content: a }\n\
         - { role: user, content: b }\n",
    );
    prompted.write("README.md", "no prompt");
    prompted.write(".hidden.yaml", "no: prompt");
    let config = prompted.load().unwrap();
    assert_eq!(config.prompts.count(), 1);
    let prompt = config.prompts.versions("helper").next().unwrap();
    assert_eq!((prompt.version.as_str(), prompt.model.as_deref()), ("1.2", Some("p/any")));
    assert_eq!(prompt.description.as_deref(), Some("Helps."));
    let said = &prompt.parameters;
    assert_eq!((said.temperature, said.top_p, said.top_k), (Some(0.5), Some(1.0), Some(3)));
    assert_eq!((said.max_tokens, said.seed), (Some(9), Some(-7)));
    assert_eq!((said.presence_penalty, said.frequency_penalty), (Some(-2.0), Some(1.5)));
    assert_eq!(said.stop, ["END"]);
    let text = |text: &str| Some(Scalar::Text(text.to_owned()));
    let defaults: Vec<_> =
        prompt.variables.iter().map(|known| (known.name.as_str(), known.default.clone())).collect();
    assert_eq!(
        defaults,
        [
            ("who", None),
            ("tone", text("kind")),
            ("count", Some(Scalar::Integer(3))),
            ("code", text("007")),
            ("nothing", text("")),
            ("loud", Some(Scalar::Boolean(false))),
            ("why", None),
        ]
    );
    let given = ["who", "why"].map(|name| (name.to_owned(), Scalar::Text("W".to_owned())));
    let rendered = prompt.render(&given.into_iter().collect()).unwrap();
    let expected = "You are W. ${NOT_EXPANDED} ${file:/etc/passwd}";
    assert_eq!(rendered.messages[0], (Role::System, expected.to_owned()));
}

#[test]
fn names_come_from_the_file_or_its_fields() {
    let prompted = Prompted::new();
    prompted.write("a.yaml", PLAIN);
    prompted.write("a@10.yaml", PLAIN);
    prompted.write("a@9.yaml", PLAIN);
    prompted.write("what ever.yaml", format!("id: a\nversion: \"2\"\n{PLAIN}"));
    let config = prompted.load().unwrap();
    let versions: Vec<_> =
        config.prompts.versions("a").map(|prompt| prompt.version.as_str()).collect();
    assert_eq!(versions, ["1", "2", "9", "10"]);
    prompted.write("what ever.yaml", format!("id: a\nversion: \"9\"\n{PLAIN}"));
    prompted.write("b c.yaml", PLAIN);
    assert_eq!(
        prompted.problems(),
        "prompts/b c.yaml: the file's name cannot name a prompt; expected `ID.yaml` or \
         `ID@VERSION.yaml`, each of at most 64 letters, digits, `-`, `_` and `.`, or the fields `id` \
         and `version`\n\
         prompts/what ever.yaml: prompt `a` has its version `9` in a@9.yaml already; expected \
         another `version`"
    );
}

#[test]
fn everything_wrong_is_told_with_its_file_and_line() {
    let prompted = Prompted::new();
    let cases = [
        ("text", "1:1: `the file` is a single value; expected a table (`key: value`)"),
        ("messages: []\n", "1:11: `messages` has 0 messages; expected 1 to 64"),
        (
            "id: a/b\nmessages: [{ role: user, content: hi }]\n",
            "1:5: `id` is `a/b`; expected at most 64 letters, digits, `-`, `_` and `.`",
        ),
        (
            "model: q/x\nmessages: [{ role: user, content: hi }]\n",
            "1:8: `model` is `q/x`; expected a name under `models`, or `provider/model`",
        ),
        (
            "parameters: { temperature: nan }\nmessages: [{ role: user, content: hi }]\n",
            "1:28: `temperature` is `nan`; expected a number from 0 to 2",
        ),
        (
            "messages: [{ role: tool, content: hi }]\n",
            "1:20: `role` is `tool`; expected one of `system`, `user`, `assistant`",
        ),
        (
            "variables: { \"a b\": , c: { required: true, default: 1 } }\nmessages: [{ role: user, content: hi }]\n",
            "1:14: `a b` cannot name a variable; expected a letter or `_`, then letters, digits and `_`\n\
          1:26: `c` must be either required or have a default",
        ),
        (
            "messages:\n- role: user\n  content: |\n    one\n    two {{ typo }}\n",
            "5:5: the template uses `typo`; expected it to be among the `variables`",
        ),
        (
            "messages:\n- role: user\n  content: |\n    one\n    {% if %}\n",
            "5:5: the template is wrong: syntax error (unexpected end of block)",
        ),
        (
            "messages:\n- { role: user, content: \"{% include 'other' %}\" }\n",
            "2:26: the template is wrong: syntax error (unknown statement include)",
        ),
        (
            "messages:\n- role: user\n  content: |\n    {{ 'x' | no_such }}\n",
            "4:5: the template is wrong: unknown filter (filter no_such is unknown)",
        ),
        (
            "messages:\n- role: user\n  content: >\n    {% for a in range(9999) %}{% for b in\n    range(9999) %}x{% endfor %}{% endfor %}\n",
            "4:5: the template is wrong: the template takes too many steps",
        ),
        (
            "variables: { a: }\nmessages:\n- { role: user, content: \"{% for x in range(99999) %}{{ a }}{% endfor %}\" }\n",
            "3:26: the template is wrong: the template takes too many steps",
        ),
        (
            "messages: [{ role: user, content: hi }\n",
            "1:11: not YAML: this `[` has no end; expected `]`",
        ),
    ];
    let mut wrong = Vec::new();
    for (content, expected) in cases {
        prompted.write("p.yaml", content);
        let expected: Vec<_> =
            expected.lines().map(|line| format!("prompts/p.yaml:{}", line.trim_start())).collect();
        let told = prompted.problems();
        if told != expected.join("\n") {
            wrong.push(format!("{content}\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_content_of_a_file_takes_anything_down() {
    let prompted = Prompted::new();
    let told = |content: &[u8]| {
        prompted.write("p.yaml", content);
        prompted.problems()
    };
    assert_eq!(
        told(&[0xff, 0xfe, 0]),
        "prompts/p.yaml:1:1: this line is not UTF-8; expected a text file in UTF-8"
    );
    assert_eq!(told(&vec![b'x'; 10 << 20]), "prompts/p.yaml: too large; expected at most 1 MiB");
    let deep = told("[".repeat(100_000).as_bytes());
    assert!(deep.starts_with("prompts/p.yaml:1:"), "{deep}");
    let deep = told(format!("{}{}", "[".repeat(50), "]".repeat(50)).as_bytes());
    assert!(deep.contains("nested too deeply"), "{deep}");
    let content = |template: &str| format!("messages: [{{ role: user, content: '{template}' }}]");
    for open in ["{{ (", "{{ [", "{{ -", "{% if a %}", "{% for x in", "{{ a.", "{{ not ", "{#"] {
        for count in [60_000 / open.len(), 50_000] {
            let deep = told(content(&open.repeat(count)).as_bytes());
            assert!(deep.contains("prompts/p.yaml:1:"), "{open}: {deep}");
        }
    }
    let arguments = told(content(&format!("{{{{ range({}) }}}}", "1,".repeat(29_000))).as_bytes());
    assert!(arguments.contains("Too many arguments"), "{arguments}");
    assert!(told(&[b'a', 0, b':', 7]).starts_with("prompts/p.yaml"));
}

#[test]
fn a_broken_file_keeps_its_last_good_state_and_the_others_reload() {
    let prompted = Prompted::new();
    let text = |word: &str| PLAIN.replace("hi", word);
    prompted.write("a.yaml", text("old"));
    prompted.write("b.yaml", text("old"));
    let running = prompted.load().unwrap();
    prompted.write("a.yaml", text("{{ typo }}"));
    prompted.write("b.yaml", text("new"));
    prompted.write("c.yaml", text("new"));
    let (config, broken) = reload(&prompted.config, &env, &running).unwrap();
    assert!(broken.unwrap().to_string().contains("a.yaml:1:35: the template uses `typo`"));
    let said = |config: &Config, id: &str| {
        let prompt = config.prompts.versions(id).next_back()?;
        Some(prompt.render(&std::collections::BTreeMap::new()).unwrap().messages[0].1.clone())
    };
    assert_eq!(said(&config, "a").as_deref(), Some("old"));
    assert_eq!(said(&config, "b").as_deref(), Some("new"));
    assert_eq!(said(&config, "c").as_deref(), Some("new"));
    // Still broken at the next reload; then mended; then gone.
    let (config, broken) = reload(&prompted.config, &env, &config).unwrap();
    assert_eq!((said(&config, "a").as_deref(), broken.is_some()), (Some("old"), true));
    prompted.write("a.yaml", text("mended"));
    let (config, broken) = reload(&prompted.config, &env, &config).unwrap();
    assert_eq!((said(&config, "a").as_deref(), broken), (Some("mended"), None));
    fs::remove_file(prompted.dir.0.join("prompts/a.yaml")).unwrap();
    let (config, _) = reload(&prompted.config, &env, &config).unwrap();
    assert_eq!(said(&config, "a"), None);
    // Without the directory, everything stays as it is.
    fs::remove_dir_all(prompted.dir.0.join("prompts")).unwrap();
    let problems = reload(&prompted.config, &env, &config).unwrap_err().to_string();
    assert!(problems.contains("config.yaml:4:17: `dir` names `prompts` (entity not found)"));
}
