//! Requests: reading them, and writing them for each upstream.

use streamgate::wire::adapt;
use streamgate::wire::chat::Request;
use streamgate::wire::dialect::{
    CallerDialect, DIALECTS, Dialect, Form, Quirks, RequestView, Target, by_name, caller_dialects,
};

use super::{grows_linearly, list, reversed};

/// A shape of a request: what it is, and its body at a size.
type Shape = (&'static str, fn(usize) -> String);

/// The smaller size. At the larger one no bound on parts, calls and tools is passed.
const SIZE: usize = 128;

fn target(quirks: &Quirks) -> Target<'_> {
    Target { model: "m", stream: true, form: Form::Chat, quirks }
}

fn read(caller: &dyn CallerDialect, body: &str, what: &str) -> Request {
    caller
        .decode_request(Form::Chat, body)
        .unwrap_or_else(|fault| panic!("{what}: {}", fault.message))
}

/// Every shape of a dialect: what the gateway reads of it, all of it, and what it writes of it.
fn all(name: &str, shapes: &[Shape]) {
    let caller = by_name(name).and_then(Dialect::as_caller).unwrap();
    let path = "/v1beta/models/m:generateContent";
    let quirks = Quirks::default();
    for (what, body) in shapes {
        let place = format!("{name}, {what}");
        grows_linearly(&format!("{place}: envelope, echo"), SIZE, body, |body| {
            let asked = RequestView { form: Form::Chat, path, query: "", body: &body };
            (caller.envelope(&asked).unwrap().stream, caller.echo(Form::Chat, &body))
        });
        grows_linearly(&place, SIZE, body, |body| read(caller, &body, what));
        for upstream in DIALECTS {
            let place = format!("{place}, to {}", upstream.name());
            if upstream.name() == name {
                grows_linearly(&place, SIZE, body, |body| {
                    upstream.edit_request(&body, &target(&quirks)).unwrap()
                });
                grows_linearly(&format!("{place}, without hosted tools"), SIZE, body, |body| {
                    caller.split_hosted_tools(&body).unwrap()
                });
                continue;
            }
            let make = |n| read(caller, &body(n), what);
            grows_linearly(&place, SIZE, make, |mut request| {
                let written = adapt::write(&mut request, *upstream, &target(&quirks), false);
                if let Err(fault) = &written {
                    // It cannot say this; but never because there is too much of it.
                    assert!(!fault.message.contains("may hold"), "{}", fault.message);
                }
                written.is_ok()
            });
        }
    }
}

/// A new caller dialect needs shapes here.
#[test]
fn every_caller_dialect_has_shapes() {
    let names: Vec<&str> = caller_dialects().map(CallerDialect::name).collect();
    let here = ["openai-chat", "openai-responses", "anthropic", "gemini", "ollama", "cohere"];
    assert_eq!(names, here);
}

/// A union of `n` branches, each with a property of its own, one that all have, and a reference.
fn union(n: usize) -> String {
    let branch = |i: usize| {
        format!(
            r##"{{"properties":{{"p{i}":{{}},"k":{{"const":{i}}}}},"required":["k"],"allOf":[{{"$ref":"#/$defs/d{i}"}}]}}"##
        )
    };
    let definition = |i: usize| format!(r#""d{i}":{{"properties":{{"d":{{}}}},"required":["d"]}}"#);
    format!(r#"{{"anyOf":[{}],"$defs":{{{}}}}}"#, list(n, branch), list(n, definition))
}

/// An object of `n` properties, all of them demanded.
fn object(n: usize) -> String {
    let property = |i: usize| format!(r#""p{i}":{{"type":"string"}}"#);
    let (properties, required) = (list(n, property), reversed(n, |i| format!(r#""p{i}""#)));
    format!(
        r#"{{"type":"object","properties":{{{properties}}},"required":[{required}],"additionalProperties":false}}"#
    )
}

fn messages(messages: &str) -> String {
    format!(
        r#"{{"model":"m","max_tokens":5,"messages":[{{"role":"user","content":"x"}},{messages}]}}"#
    )
}

const CHAT_SHAPES: &[Shape] = &[
    ("calls and results", |n| chat_calls(n, "c", "f", "")),
    ("calls with odd ids and names", |n| chat_calls(n, "c./", "odd name ", "")),
    ("calls that Google has signed", |n| {
        chat_calls(n, "c", "f", r#","extra_content":{"google":{"thought_signature":"AA=="}}"#)
    }),
    ("calls with one id", |n| {
        let call = r#"{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}"#;
        let result = r#"{"role":"tool","tool_call_id":"c","content":"a"}"#;
        let (calls, results) = (list(n, |_| call.to_owned()), list(n, |_| result.to_owned()));
        messages(&format!(r#"{{"role":"assistant","tool_calls":[{calls}]}},{results}"#))
    }),
    ("turns of one call each", |n| {
        messages(&list(n, |i| {
            format!(
                r#"{{"role":"assistant","tool_calls":[{{"id":"c{i}","type":"function","function":{{"name":"f{i}","arguments":"{{}}"}}}}]}},{{"role":"tool","tool_call_id":"c{i}","content":"a"}}"#
            )
        }))
    }),
    ("tools and those allowed", |n| {
        let tool = |i: usize| format!(r#"{{"type":"function","function":{{"name":"f{i}"}}}}"#);
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{}],"tool_choice":{{"type":"allowed_tools","allowed_tools":{{"mode":"auto","tools":[{}]}}}}}}"#,
            list(n, tool),
            reversed(n, tool)
        )
    }),
    ("custom tools and their calls", |n| {
        let tool = |i: usize| format!(r#"{{"type":"custom","custom":{{"name":"f{i}"}}}}"#);
        let call = |i: usize| {
            format!(r#"{{"id":"c{i}","type":"custom","custom":{{"name":"f{i}","input":"x"}}}}"#)
        };
        format!(
            r#"{{"model":"m","tools":[{}],"messages":[{{"role":"user","content":"x"}},{{"role":"assistant","tool_calls":[{}]}}]}}"#,
            list(n, tool),
            reversed(n, call)
        )
    }),
    ("functions in the older form and their calls", |n| {
        let call = |i: usize| {
            format!(
                r#"{{"role":"assistant","function_call":{{"name":"f{i}","arguments":"{{}}"}}}},{{"role":"function","name":"f{i}","content":"a"}}"#
            )
        };
        let functions = list(n, |i| format!(r#"{{"name":"f{i}"}}"#));
        format!(r#"{{"model":"m","functions":[{functions}],"messages":[{}]}}"#, list(n, call))
    }),
    ("a recursive schema", |n| {
        let part =
            |i: usize| format!(r##""d{i}":{{"items":{{"$ref":"#/$defs/d{}"}}}}"##, (i + 1) % n);
        format!(
            r##"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"s","schema":{{"$ref":"#/$defs/d0","$defs":{{{}}}}}}}}}}}"##,
            list(n, part)
        )
    }),
    ("reasoning of several vendors", |n| {
        let detail = |i: usize| {
            let format = ["anthropic-claude-v1", "google-gemini-v1"][i % 2];
            format!(
                r#"{{"type":"reasoning.text","text":"a","signature":"s{i}","format":"{format}"}}"#
            )
        };
        messages(&format!(
            r#"{{"role":"assistant","content":"a","reasoning_details":[{}]}},{{"role":"user","content":"y"}}"#,
            list(n, detail)
        ))
    }),
    ("instructions between turns", |n| {
        messages(&list(n, |i| {
            let role = ["system", "user", "system", "assistant"][i % 4];
            format!(r#"{{"role":"{role}","content":"some words of a turn"}}"#)
        }))
    }),
    ("instructions one after another", |n| {
        messages(&list(n, |_| r#"{"role":"system","content":"some words"}"#.to_owned()))
    }),
    ("a schema of many properties", |n| {
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"a","strict":true,"schema":{}}}}}}}"#,
            object(n)
        )
    }),
    ("a tool of many alternatives", |n| {
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{}}}}}]}}"#,
            union(n)
        )
    }),
    ("hosted tools and those allowed", |n| {
        let tool = |i: usize| format!(r#"{{"type":"{}"}}"#, ["web_search", "mcp"][i % 2]);
        let function = r#"{"type":"function","function":{"name":"f"}}"#;
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{function},{}],"tool_choice":{{"type":"allowed_tools","allowed_tools":{{"mode":"auto","tools":[{function},{}]}}}}}}"#,
            list(n, tool),
            list(n, tool)
        )
    }),
    ("words that stop, and biases", |n| {
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"stop":[{}],"logit_bias":{{{}}}}}"#,
            list(n, |i| format!(r#""s{i}""#)),
            list(n, |i| format!(r#""{i}":1"#))
        )
    }),
];

/// One turn with calls, and their results in the opposite order.
fn chat_calls(n: usize, id: &str, name: &str, more: &str) -> String {
    let call = |i: usize| {
        format!(
            r#"{{"id":"{id}{i}","type":"function","function":{{"name":"{name}{i}","arguments":"{{}}"}}{more}}}"#
        )
    };
    let result = |i: usize| format!(r#"{{"role":"tool","tool_call_id":"{id}{i}","content":"a"}}"#);
    let (calls, results) = (list(n, call), reversed(n, result));
    messages(&format!(r#"{{"role":"assistant","tool_calls":[{calls}]}},{results}"#))
}

const RESPONSES_SHAPES: &[Shape] = &[
    ("files by id and summaries", |n| {
        let turn = |i: usize| {
            format!(
                r#"{{"role":"user","content":[{{"type":"input_file","file_id":"f{i}"}}]}},{{"type":"compaction","encrypted_content":"x"}},{{"role":"assistant","content":"a"}}"#
            )
        };
        format!(r#"{{"model":"m","input":[{},{{"role":"user","content":"y"}}]}}"#, list(n, turn))
    }),
    ("calls and outputs", |n| responses_calls(n, ("function_call", "arguments"))),
    ("custom calls and outputs", |n| responses_calls(n, ("custom_tool_call", "input"))),
    ("tools and those allowed", |n| {
        let tool = |i: usize| format!(r#"{{"type":"function","name":"f{i}","parameters":{{}}}}"#);
        format!(
            r#"{{"model":"m","input":"x","tools":[{}],"tool_choice":{{"type":"allowed_tools","mode":"auto","tools":[{}]}}}}"#,
            list(n, tool),
            reversed(n, |i| format!(r#"{{"type":"function","name":"f{i}"}}"#))
        )
    }),
    ("namespaces, their calls and those allowed", |n| {
        let namespace = |i: usize| {
            format!(
                r#"{{"type":"namespace","name":"n{i}","description":"d","tools":[{{"type":"function","name":"f"}}]}}"#
            )
        };
        let call = |i: usize| {
            format!(
                r#"{{"type":"function_call","call_id":"c{i}","namespace":"n{i}","name":"f","arguments":"{{}}"}}"#
            )
        };
        let allowed = |i: usize| format!(r#"{{"type":"namespace","name":"n{i}"}}"#);
        format!(
            r#"{{"model":"m","input":[{{"role":"user","content":"x"}},{}],"tools":[{}],"tool_choice":{{"type":"allowed_tools","mode":"auto","tools":[{}]}}}}"#,
            reversed(n, call),
            list(n, namespace),
            reversed(n, allowed)
        )
    }),
    ("a namespace that was searched for, by the names of its tools", |n| {
        let tools = list(n, |i| format!(r#"{{"type":"function","name":"f{i}"}}"#));
        let namespace = format!(r#"{{"type":"namespace","name":"n","tools":[{tools}]}}"#);
        let allowed = reversed(n, |i| format!(r#"{{"type":"function","name":"f{i}"}}"#));
        let whole = list(n, |_| r#"{"type":"namespace","name":"n"}"#.to_owned());
        format!(
            r#"{{"model":"m","input":[{{"role":"user","content":"x"}},{{"type":"tool_search_call","execution":"client","call_id":"s","arguments":{{}}}},{{"type":"tool_search_output","execution":"client","call_id":"s","tools":[{namespace}]}}],"tools":[{namespace}],"tool_choice":{{"type":"allowed_tools","mode":"auto","tools":[{allowed},{whole}]}}}}"#
        )
    }),
    ("hosted tools and those allowed", |n| {
        let tool = |i: usize| {
            format!(r#"{{"type":"{}","server_label":"s"}}"#, ["web_search", "mcp"][i % 2])
        };
        format!(
            r#"{{"model":"m","input":"x","tools":[{{"type":"function","name":"f"}},{}],"tool_choice":{{"type":"allowed_tools","mode":"auto","tools":[{},{{"type":"function","name":"f"}}]}}}}"#,
            list(n, tool),
            list(n, tool)
        )
    }),
    ("reasoning, messages and calls of one turn", |n| {
        let items = |i: usize| {
            format!(
                r#"{{"type":"reasoning","id":"r{i}","summary":[{{"type":"summary_text","text":"a"}}],"encrypted_content":"x"}},{{"role":"assistant","content":[{{"type":"output_text","text":"a"}}]}},{{"type":"function_call","call_id":"c{i}","name":"f","arguments":"{{}}"}}"#
            )
        };
        format!(r#"{{"model":"m","input":[{{"role":"user","content":"x"}},{}]}}"#, list(n, items))
    }),
];

fn responses_calls(n: usize, (kind, member): (&str, &str)) -> String {
    let call = |i: usize| {
        format!(r#"{{"type":"{kind}","call_id":"c{i}","name":"f{i}","{member}":"{{}}"}}"#)
    };
    let output = |i: usize| format!(r#"{{"type":"{kind}_output","call_id":"c{i}","output":"a"}}"#);
    format!(r#"{{"model":"m","input":[{},{}]}}"#, list(n, call), reversed(n, output))
}

const ANTHROPIC_SHAPES: &[Shape] = &[
    ("tools that turns add and remove", |n| {
        let change = |i: usize| {
            format!(
                r#"{{"role":"system","content":[{{"type":"tool_addition","tool":{{"type":"tool_definition","definition":{{"name":"f{i}","input_schema":{{}}}}}}}},{{"type":"tool_removal","tool":{{"type":"tool_reference","name":"f{}"}}}}]}},{{"role":"user","content":"x"}}"#,
                i / 2
            )
        };
        messages(&list(n, change))
    }),
    ("summaries", |n| {
        let turn = |_| {
            r#"{"role":"assistant","content":[{"type":"compaction","content":"s"}]},{"role":"user","content":"x"}"#
                .to_owned()
        };
        messages(&list(n, turn))
    }),
    ("calls and results", |n| {
        let call =
            |i: usize| format!(r#"{{"type":"tool_use","id":"c{i}","name":"f{i}","input":{{}}}}"#);
        let result =
            |i: usize| format!(r#"{{"type":"tool_result","tool_use_id":"c{i}","content":"a"}}"#);
        messages(&format!(
            r#"{{"role":"assistant","content":[{}]}},{{"role":"user","content":[{}]}}"#,
            list(n, call),
            reversed(n, result)
        ))
    }),
    ("parts with marks", |n| {
        let part = r#"{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}"#;
        messages(&format!(r#"{{"role":"user","content":[{}]}}"#, list(n, |_| part.to_owned())))
    }),
    ("reasoning of other vendors", |n| {
        let thought = |i: usize| {
            format!(
                r#"{{"type":"thinking","thinking":"t{i}","signature":"streamgate:openai:signature:s{i}"}}"#
            )
        };
        messages(&format!(
            r#"{{"role":"assistant","content":[{}]}},{{"role":"user","content":"y"}}"#,
            list(n, thought)
        ))
    }),
    ("hosted tools and toolsets beside functions", |n| {
        let function = |i: usize| format!(r#"{{"name":"f{i}","input_schema":{{}}}}"#);
        let others = |_| {
            let (search, toolset) = ("web_search_20250305", "computer_toolset_20260801");
            format!(
                r#"{{"type":"{search}","name":"web_search"}},{{"type":"{toolset}","name":"computer"}}"#
            )
        };
        format!(
            r#"{{"model":"m","max_tokens":5,"messages":[{{"role":"user","content":"x"}}],"tools":[{},{}]}}"#,
            list(n / 2, function),
            list(n, others)
        )
    }),
    ("tools of many alternatives", |n| {
        let tool = |i: usize| format!(r#"{{"name":"f{i}","input_schema":{}}}"#, union(2));
        format!(
            r#"{{"model":"m","max_tokens":5,"messages":[{{"role":"user","content":"x"}}],"tools":[{}]}}"#,
            list(n, tool)
        )
    }),
];

const GEMINI_SHAPES: &[Shape] = &[
    ("calls and responses by name", |n| gemini_calls(n, |i| format!(r#""name":"f{i}""#))),
    ("calls and responses of one name", |n| gemini_calls(n, |_| r#""name":"f""#.to_owned())),
    ("calls and responses by id", |n| gemini_calls(n, |i| format!(r#""id":"c{i}","name":"f""#))),
    ("functions and those allowed", |n| {
        format!(
            r#"{{"contents":[{{"parts":[{{"text":"x"}}]}}],"tools":[{{"functionDeclarations":[{}]}}],"toolConfig":{{"functionCallingConfig":{{"mode":"ANY","allowedFunctionNames":[{}]}}}}}}"#,
            list(n, |i| format!(r#"{{"name":"f{i}"}}"#)),
            reversed(n, |i| format!(r#""f{i}""#))
        )
    }),
    ("hosted tools and predefined functions", |n| {
        let function = |i: usize| format!(r#"{{"name":"f{i}"}}"#);
        let searches = list(n / 2, |_| r#""googleSearch":{}"#.to_owned());
        format!(
            r#"{{"contents":[{{"parts":[{{"text":"x"}}]}}],"tools":[{{"functionDeclarations":[{}]}},{{{searches}}},{},{}]}}"#,
            list(n / 2, function),
            list(n / 2, |_| r#"{"urlContext":{}}"#.to_owned()),
            list(n / 64, |_| r#"{"computerUse":{}}"#.to_owned())
        )
    }),
    ("thoughts with state of other vendors", |n| {
        use streamgate::wire::chat::Scheme;
        use streamgate::wire::seal::{Sealed, packed};
        let state = |i: usize| {
            packed(&[Sealed::signed("s", Scheme::Anthropic, format!("a thought, number {i}"))])
        };
        let parts = |i: usize| {
            format!(
                r#"{{"text":"an own thought {i}","thought":true}},{{"text":"a thought, number {i}","thought":true}},{{"text":"words","thoughtSignature":"{}"}}"#,
                state(i)
            )
        };
        format!(r#"{{"contents":[{{"role":"model","parts":[{}]}}]}}"#, list(n, parts))
    }),
];

fn gemini_calls(n: usize, named: impl Fn(usize) -> String) -> String {
    let call = |i: usize| format!(r#"{{"functionCall":{{{},"args":{{}}}}}}"#, named(i));
    let response = |i: usize| format!(r#"{{"functionResponse":{{{},"response":{{}}}}}}"#, named(i));
    format!(
        r#"{{"contents":[{{"role":"user","parts":[{{"text":"x"}}]}},{{"role":"model","parts":[{}]}},{{"role":"user","parts":[{}]}}]}}"#,
        list(n, call),
        reversed(n, response)
    )
}

const OLLAMA_SHAPES: &[Shape] = &[
    ("calls and results by name", |n| {
        ollama_calls(n, |i| format!(r#""tool_name":"f{i}","#), |_| String::new())
    }),
    ("calls and results in order", |n| ollama_calls(n, |_| String::new(), |_| String::new())),
    ("calls and results by id", |n| {
        ollama_calls(n, |i| format!(r#""tool_call_id":"c{i}","#), |i| format!(r#""id":"c{i}","#))
    }),
    ("ids of results alone", |n| {
        ollama_calls(n, |i| format!(r#""tool_call_id":"c{i}","#), |_| String::new())
    }),
];

fn ollama_calls(
    n: usize,
    answers: impl Fn(usize) -> String,
    id: impl Fn(usize) -> String,
) -> String {
    let call = |i: usize| format!(r#"{{{}"function":{{"name":"f{i}","arguments":{{}}}}}}"#, id(i));
    let result = |i: usize| format!(r#"{{"role":"tool",{}"content":"a"}}"#, answers(i));
    let (calls, results) = (list(n, call), reversed(n, result));
    messages(&format!(r#"{{"role":"assistant","content":"","tool_calls":[{calls}]}},{results}"#))
}

const COHERE_SHAPES: &[Shape] = &[
    ("documents", |n| {
        let document = |i: usize| format!(r#"{{"id":"d{i}","data":{{"text":"a"}}}}"#);
        format!(
            r#"{{"model":"m","documents":[{}],"messages":[{{"role":"user","content":"x"}}]}}"#,
            list(n, document)
        )
    }),
    ("calls and results", |n| chat_calls(n, "c", "f", "")),
    ("turns and parts", |n| {
        let turn = |i: usize| {
            let role = ["user", "assistant"][i % 2];
            format!(r#"{{"role":"{role}","content":[{{"type":"text","text":"a"}}]}}"#)
        };
        messages(&list(n, turn))
    }),
];

#[test]
fn openai_chat() {
    all("openai-chat", CHAT_SHAPES);
}

#[test]
fn openai_responses() {
    all("openai-responses", RESPONSES_SHAPES);
}

#[test]
fn anthropic() {
    all("anthropic", ANTHROPIC_SHAPES);
}

#[test]
fn gemini() {
    all("gemini", GEMINI_SHAPES);
}

#[test]
fn ollama() {
    all("ollama", OLLAMA_SHAPES);
}

#[test]
fn cohere() {
    all("cohere", COHERE_SHAPES);
}
