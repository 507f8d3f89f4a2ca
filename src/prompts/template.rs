//! Message templates (Jinja): compiling and rendering within bounds. A template must never read files, the environment or
//! another template, and no error may repeat a variable's value.

use std::collections::BTreeMap;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{
    Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter,
    filters, functions, tests,
};

use super::Scalar;

/// The most instructions of one message: some milliseconds.
const FUEL: u64 = 50_000;

/// The most bytes of all messages of a prompt.
pub(super) const MAX_TEXT: usize = 4 << 20;

/// The most bytes of a template. The template engine counts columns and arguments in 16 bits.
const MAX_TEMPLATE: usize = 60 << 10;

/// The deepest recursion.
const MAX_RECURSION: usize = 64;

/// The name of the one template in an environment of its own. It has no extension that enables escaping.
const NAME: &str = "message";

/// A valid template.
pub struct Template(Environment<'static>);

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

/// An error of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The template's line, from 1, if it is known.
    pub line: Option<usize>,
    /// The kind of error, as text.
    pub kind: String,
    /// Details, which may contain parts of the template and of its variables: not for callers or the log.
    pub detail: Option<String>,
    /// Whether it does not depend on the variables.
    pub always: bool,
}

impl Template {
    /// Compiles a template.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE {
            let kind = format!("it is longer than {} KiB", MAX_TEMPLATE >> 10);
            return Err(TemplateError { line: None, kind, detail: None, always: true });
        }
        let mut environment = environment();
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| template_error(&error))?;
        Ok(Self(environment))
    }

    /// The variables that it uses and does not define, in alphabetical order.
    pub fn variables(&self) -> Vec<String> {
        let Ok(template) = self.0.get_template(NAME) else { return Vec::new() };
        let used = template.undeclared_variables(false);
        let mut names: Vec<String> = used
            .into_iter()
            .filter(|name| self.0.globals().all(|(global, _)| global != name))
            .collect();
        names.sort_unstable();
        names
    }

    /// Renders the template to at most `room` bytes.
    pub fn render(
        &self,
        variables: &BTreeMap<&str, &Scalar>,
        room: usize,
    ) -> Result<String, TemplateError> {
        let values: BTreeMap<&str, Value> =
            variables.iter().map(|(name, value)| (*name, value_of(value))).collect();
        let template = self.0.get_template(NAME).map_err(|error| template_error(&error))?;
        let mut out = Bounded { text: Vec::new(), room };
        template
            .render_captured_to(Value::from(values), &mut out)
            .map_err(|error| template_error(&error))?;
        let text = String::from_utf8(out.text).unwrap_or_default();
        // Lines that hold tags leave newlines at both ends.
        Ok(text.trim_end().trim_start_matches(['\r', '\n']).to_owned())
    }
}

/// The filters, tests and functions of templates. None of them may have a result that is far larger than its input.
fn environment() -> Environment<'static> {
    let mut env = Environment::empty();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    if let Ok(syntax) = syntax.build() {
        env.set_syntax(syntax);
    }
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_formatter(write);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_RECURSION);
    env.add_filter("lower", filters::lower);
    env.add_filter("upper", filters::upper);
    env.add_filter("title", filters::title);
    env.add_filter("capitalize", filters::capitalize);
    env.add_filter("trim", filters::trim);
    env.add_filter("length", filters::length);
    env.add_filter("default", filters::default);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("lines", filters::lines);
    env.add_filter("split", filters::split);
    env.add_filter("join", join);
    env.add_filter("replace", replace);
    env.add_filter("int", filters::int);
    env.add_filter("float", filters::float);
    env.add_filter("round", filters::round);
    env.add_filter("abs", filters::abs);
    env.add_filter("string", filters::string);
    env.add_filter("bool", filters::bool);
    env.add_test("defined", tests::is_defined);
    env.add_test("string", tests::is_string);
    env.add_test("number", tests::is_number);
    env.add_test("boolean", tests::is_boolean);
    env.add_test("odd", tests::is_odd);
    env.add_test("even", tests::is_even);
    env.add_test("divisibleby", tests::is_divisibleby);
    env.add_test("startingwith", tests::is_startingwith);
    env.add_test("endingwith", tests::is_endingwith);
    env.add_test("true", tests::is_true);
    env.add_test("false", tests::is_false);
    env.add_function("range", functions::range);
    env
}

/// The bytes that a message has written so far, with those that a `set` or a `filter` block captures, which the bound of
/// the message itself does not see.
#[derive(Default)]
struct Written(usize);

/// Writes a value.
fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let length = match value.kind() {
        ValueKind::String => value.as_str().map_or(0, str::len),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => value.to_string().len(),
        _ => 0,
    };
    let written = state.get_or_insert_extension(Written::default());
    written.0 = written.0.saturating_add(length);
    if written.0 > 2 * MAX_TEXT {
        return Err(Error::new(ErrorKind::WriteFailure, "too much is written"));
    }
    if value.kind() == ValueKind::Bool {
        // As requests and files write them, and not as Python does.
        return Ok(out.write_str(if value.is_true() { "true" } else { "false" })?);
    }
    escape_formatter(out, state, value)
}

fn value_of(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Text(text) => Value::from(text.as_str()),
        Scalar::Integer(number) => Value::from(*number),
        Scalar::Decimal(number) => Value::from(*number),
        Scalar::Boolean(value) => Value::from(*value),
    }
}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the text becomes too long")
}

/// `replace`, whose result is bounded.
fn replace(text: &str, from: &str, to: &str) -> Result<String, Error> {
    let found = text.matches(from).count();
    let length = found.saturating_mul(to.len()).saturating_add(text.len());
    if length > MAX_TEXT { Err(too_long()) } else { Ok(text.replace(from, to)) }
}

/// `join`, whose result is bounded.
fn join(items: &Value, between: Option<&str>) -> Result<String, Error> {
    let mut out = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(between.unwrap_or_default());
        }
        match item.kind() {
            ValueKind::String => out.push_str(item.as_str().unwrap_or_default()),
            _ => out.push_str(&item.to_string()),
        }
        if out.len() > MAX_TEXT {
            return Err(too_long());
        }
    }
    Ok(out)
}

fn template_error(error: &Error) -> TemplateError {
    let (kind, always) = match error.kind() {
        ErrorKind::OutOfFuel => ("the template takes too many steps".to_owned(), true),
        ErrorKind::WriteFailure => {
            (format!("the text becomes longer than {} MiB", MAX_TEXT >> 20), false)
        }
        kind => (kind.to_string(), is_about_names(kind)),
    };
    TemplateError { line: error.line(), kind, detail: error.detail().map(str::to_owned), always }
}

/// Errors that do not depend on the values of variables.
fn is_about_names(kind: ErrorKind) -> bool {
    use ErrorKind::{
        MissingArgument, SyntaxError, TooManyArguments, UnknownFilter, UnknownFunction,
        UnknownMethod, UnknownTest,
    };
    matches!(
        kind,
        SyntaxError
            | UnknownFilter
            | UnknownTest
            | UnknownFunction
            | UnknownMethod
            | MissingArgument
            | TooManyArguments
    )
}

/// A buffer with a limit.
struct Bounded {
    text: Vec<u8>,
    room: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
