//! Reads the tools of a request: those in `tools`, those that items of the input add (`additional_tools`),
//! and those that a search of the client's has loaded (`tool_search_output`). Every tool that the client
//! itself runs is a function. Tools of namespaces are flattened to functions named `NAMESPACE__NAME`;
//! deferred tools are read as loaded ones. Tools that the vendor runs are read in `hosted_tools.rs`.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client_tools::{CUSTOM, ClientTool, FUNCTION, TOOL_SEARCH};
use super::hosted_tools;
use super::read_turns::Item;
use crate::body::{of_type, optional_object, parse, refuse};
use crate::cache_control::CacheControl;
use crate::chat::{ApiError, HostedTool, Tool, ToolForm, ToolForms, function_name};
use crate::{free_text, json};

type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
struct ToolBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(default, deserialize_with = "optional_object")]
    parameters: Option<Box<RawValue>>,
    strict: Option<bool>,
    #[serde(borrow)]
    format: Raw<'a>,
    cache_control: Option<CacheControl>,
    #[serde(borrow)]
    execution: Raw<'a>,
    #[serde(borrow)]
    environment: Raw<'a>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
}

/// The tools of a request.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// As functions.
    pub(super) functions: Vec<Tool>,
    /// Forms of the functions in this dialect, except for plain functions of the same name.
    pub(super) forms: ToolForms,
    /// Those that the vendor runs.
    pub(super) hosted: Vec<HostedTool>,
    /// The names of all functions.
    declared: HashSet<String>,
    index: FormIndex,
}

/// The functions that have a form, by their form in this dialect.
#[derive(Debug, Default)]
struct FormIndex {
    /// Functions and custom tools, by namespace and name.
    own: HashMap<(Option<String>, String), String>,
    typed: HashMap<Cow<'static, str>, String>,
    /// By namespace.
    inside: HashMap<String, Vec<String>>,
    /// By name; `None` if several have it.
    only: HashMap<String, Option<String>>,
}

impl FormIndex {
    fn add(&mut self, function: &str, form: &ToolForm) {
        let ToolForm { kind, namespace, name } = form;
        if matches!(&**kind, FUNCTION | CUSTOM) {
            self.own
                .entry((namespace.clone(), name.clone()))
                .or_insert_with(|| function.to_owned());
        } else {
            self.typed.entry(kind.clone()).or_insert_with(|| function.to_owned());
        }
        if let Some(namespace) = namespace {
            self.inside.entry(namespace.clone()).or_default().push(function.to_owned());
        }
        match self.only.entry(name.clone()) {
            Entry::Vacant(entry) => _ = entry.insert(Some(function.to_owned())),
            Entry::Occupied(mut entry) => _ = entry.insert(None),
        }
    }
}

/// All tools, before their functions are named.
#[derive(Default)]
struct Declarations {
    functions: Vec<Declared>,
    hosted: Vec<HostedTool>,
}

/// A tool whose function has no name yet.
struct Declared {
    form: ToolForm,
    tool: Tool,
}

/// Reads all tools. One that is declared again is the same.
pub(super) fn tools(declared: &[&RawValue], input: &[Item<'_>]) -> Result<Tools, ApiError> {
    let mut all = Declarations::default();
    for (i, raw) in declared.iter().enumerate() {
        tool(&format!("tools[{i}]"), raw, &mut all)?;
    }
    for item in input {
        match item.body.kind.as_deref() {
            Some("additional_tools") => {
                for (path, raw) in item.tools()? {
                    tool(&path, raw, &mut all)?;
                }
            }
            // An invalid result of an earlier search must not make the request fail.
            Some("tool_search_output") if item.body.is_clients() => {
                for (path, raw) in item.tools()? {
                    tool(&path, raw, &mut all).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    Ok(Tools::named(all))
}

/// Reads one tool, or all of a namespace.
fn tool(path: &str, raw: &RawValue, out: &mut Declarations) -> Result<(), ApiError> {
    let body: ToolBody<'_> = parse(path, raw.get())?;
    match body.kind.as_str() {
        FUNCTION | CUSTOM => out.functions.push(own(path, body, None)?),
        "namespace" => namespace(path, body, &mut out.functions)?,
        TOOL_SEARCH if is(body.execution, "client") => out.functions.push(typed(body)),
        "shell" if !is_hosted(body.environment) => out.functions.push(typed(body)),
        "local_shell" | "apply_patch" | "computer" | "computer_use_preview" => {
            out.functions.push(typed(body));
        }
        kind => {
            let tool = hosted_tools::read(kind, raw, path)?;
            out.hosted.push(tool.ok_or_else(|| untranslatable(path, kind))?);
        }
    }
    Ok(())
}

/// The rejection of a tool of an unknown type.
fn untranslatable(path: &str, kind: &str) -> ApiError {
    let what = "is a tool that cannot be translated; declare it as a `function`, leave it out or choose \
                another model";
    refuse(path, &format!("{}{what}", of_type(kind)))
}

/// A function or a custom tool.
fn own(path: &str, body: ToolBody<'_>, namespace: Option<&str>) -> Result<Declared, ApiError> {
    let name = body.name.ok_or_else(|| refuse(&format!("{path}.name"), "is missing"))?;
    let cache = body.cache_control.map(CacheControl::mark);
    let form = |kind: &'static str| ToolForm {
        kind: kind.into(),
        namespace: namespace.map(str::to_owned),
        name,
    };
    Ok(if body.kind == CUSTOM {
        let description = free_text::description(body.description, body.format);
        let parameters = free_text::schema();
        let tool = Tool { description, parameters, cache, ..Tool::default() };
        Declared { form: form(CUSTOM), tool }
    } else {
        let (description, strict) = (body.description, body.strict);
        let parameters = body.parameters;
        let tool = Tool { description, parameters, strict, cache, ..Tool::default() };
        Declared { form: form(FUNCTION), tool }
    })
}

/// The tools of a namespace. The first one carries the namespace's description.
fn namespace(path: &str, body: ToolBody<'_>, out: &mut Vec<Declared>) -> Result<(), ApiError> {
    let name = body.name.ok_or_else(|| refuse(&format!("{path}.name"), "is missing"))?;
    let mut about = body.description.filter(|text| !text.is_empty());
    for (i, raw) in body.tools.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{path}.tools[{i}]");
        let inner: ToolBody<'_> = parse(&path, raw.get())?;
        if !matches!(inner.kind.as_str(), FUNCTION | CUSTOM) {
            let what = "cannot stand in a namespace: only a `function` or a `custom` tool can";
            return Err(refuse(&path, &format!("{}{what}", of_type(&inner.kind))));
        }
        let mut declared = own(&path, inner, Some(&name))?;
        if let Some(about) = about.take() {
            let own = declared.tool.description.take().filter(|text| !text.is_empty());
            let own = own.map(|own| own + "\n\n").unwrap_or_default();
            declared.tool.description = Some(format!("{own}About all tools of `{name}`: {about}"));
        }
        out.push(declared);
    }
    Ok(())
}

/// A tool that has a type instead of a schema.
fn typed(body: ToolBody<'_>) -> Declared {
    let known = ClientTool::of_kind(&body.kind);
    let (kind, description, arguments) =
        known.map_or((FUNCTION, "", ""), |tool| (tool.kind, tool.description, tool.schema));
    let parameters = body.parameters.or_else(|| RawValue::from_string(arguments.to_owned()).ok());
    let description = body.description.or_else(|| Some(description.to_owned()));
    let cache = body.cache_control.map(CacheControl::mark);
    let form = ToolForm { kind: kind.into(), namespace: None, name: kind.to_owned() };
    Declared { form, tool: Tool { description, parameters, cache, ..Tool::default() } }
}

fn is(raw: Raw<'_>, word: &str) -> bool {
    raw.and_then(json::text).is_some_and(|text| text == word)
}

/// Whether a shell runs in a container of the vendor's.
fn is_hosted(environment: Raw<'_>) -> bool {
    let members = environment.and_then(|raw| json::Members::parse(raw.get()).ok());
    members.is_some_and(|members| {
        members.get("type").and_then(json::text).is_some_and(|kind| kind.starts_with("container"))
    })
}

impl Tools {
    /// Names the functions: functions and custom tools keep their own names, all others get a name that is
    /// not taken.
    fn named(all: Declarations) -> Self {
        let mut seen = HashSet::new();
        let own =
            |form: &ToolForm| form.namespace.is_none() && matches!(&*form.kind, FUNCTION | CUSTOM);
        let mut taken: HashSet<String> = all
            .functions
            .iter()
            .filter(|it| own(&it.form))
            .map(|it| it.form.name.clone())
            .collect();
        let mut tools = Self { hosted: all.hosted, ..Self::default() };
        for Declared { form, tool } in all.functions {
            let named = own(&form);
            if !seen.insert((form.namespace.clone(), form.name.clone(), named)) {
                continue;
            }
            let name = if named {
                form.name.clone()
            } else {
                function_name(form.namespace.as_deref(), &form.name, &|name| taken.contains(name))
            };
            taken.insert(name.clone());
            tools.functions.push(Tool { name: name.clone(), ..tool });
            if !named || form.kind != FUNCTION {
                tools.index.add(&name, &form);
                tools.forms.insert(name, form);
            }
        }
        tools.declared = taken;
        tools
    }

    /// The function that a function or a custom tool is, by its name here. Tools that are not declared, as
    /// those of earlier turns may be, have the name that they would get.
    pub(super) fn function(&self, namespace: Option<&str>, name: &str) -> String {
        match self.index.own.get(&(namespace.map(str::to_owned), name.to_owned())) {
            Some(function) => function.clone(),
            // The vendor calls a function that it has loaded by search its own namespace.
            None if namespace.is_none_or(|namespace| namespace == name) => name.to_owned(),
            None => function_name(namespace, name, &|_| false),
        }
    }

    /// The function that a typed tool is, if it is declared.
    pub(super) fn typed(&self, kind: &str) -> Option<&str> {
        self.index.typed.get(kind).map(String::as_str)
    }

    /// The functions that the tools of a namespace are.
    pub(super) fn inside(&self, namespace: &str) -> &[String] {
        self.index.inside.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// The only function that has a form of this name here, if no others have.
    pub(super) fn only(&self, name: &str) -> Option<&str> {
        self.index.only.get(name)?.as_deref()
    }

    /// Whether a function is declared.
    pub(super) fn declares(&self, function: &str) -> bool {
        self.declared.contains(function)
    }
}
