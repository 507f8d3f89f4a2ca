//! Conditions of targets: the key `when`, an expression of CEL (<https://cel.dev>) over what is known of a request. They are
//! compiled when the configuration is read. A condition must never see a payload.

use std::fmt;
use std::sync::Arc;

use cel::common::ast::Expr;
use cel::{Context, IdedExpr, Program, Value};

use super::field::{Field, Format, Notation};
use super::reader::{Reader, Table};
use super::tree::Node;
use crate::wire::request_features::RequestFeatures;

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 1024;

/// The most operators, calls and lists within each other: the interpreter recurses on the stacks of workers.
const MAX_DEPTH: usize = 32;

/// The stack on which expressions are compiled, in bytes: the parser takes much of it for each bracket.
const COMPILER_STACK: usize = 128 << 20;

pub(super) const WHEN: Field<String> = Format::new(
    "CEL expression",
    "an expression of CEL of at most 1024 bytes",
    Notation::Text,
    |text| (text.len() <= MAX_LENGTH).then(|| text.to_owned()),
)
.key(
    "when",
    "The requests that the target may get, as an expression over `caller`, `model`, `dialect`, `stream`, `tools`, `images`, `json`, `reasoning`, `input_tokens`, `max_output` (docs/routing.md).",
)
.otherwise("all")
.example("'tools && input_tokens < 8000'");

/// The facts of a request that conditions may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFacts {
    /// The caller's name.
    pub caller: Arc<str>,
    /// The model that it asks for.
    pub model: String,
    /// The dialect of its request.
    pub dialect: &'static str,
    /// It asks for a stream.
    pub stream: bool,
    /// Tools, images, structured output, reasoning.
    pub features: RequestFeatures,
    /// The estimated input.
    pub input_tokens: u64,
    /// The bound of the output. `None`: there is none.
    pub max_output: Option<u64>,
}

impl RequestFacts {
    /// The variables of expressions. `max_output` is 0 without a bound.
    fn variables(&self) -> [(&'static str, Value); 10] {
        let RequestFeatures { tools, images, json, reasoning } = self.features;
        let integer = |tokens: u64| Value::Int(i64::try_from(tokens).unwrap_or(i64::MAX));
        [
            ("caller", (&*self.caller).into()),
            ("model", self.model.as_str().into()),
            ("dialect", self.dialect.into()),
            ("stream", Value::Bool(self.stream)),
            ("tools", Value::Bool(tools)),
            ("images", Value::Bool(images)),
            ("json", Value::Bool(json)),
            ("reasoning", Value::Bool(reasoning)),
            ("input_tokens", integer(self.input_tokens)),
            ("max_output", integer(self.max_output.unwrap_or(0))),
        ]
    }

    /// A request by which the types of an expression are checked.
    fn sample(on: bool) -> Self {
        let features = RequestFeatures { tools: on, images: on, json: on, reasoning: on };
        Self {
            caller: "caller".into(),
            model: "model".to_owned(),
            dialect: "openai-chat",
            stream: on,
            features,
            input_tokens: u64::from(on) * 100_000,
            max_output: on.then_some(1000),
        }
    }
}

/// A compiled condition.
pub struct Condition {
    text: String,
    program: Program,
}

impl Condition {
    /// Compiles an expression. The error says what is wrong, and what is expected.
    fn compile(text: &str) -> Result<Self, String> {
        let compiled = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(COMPILER_STACK);
            let thread = thread.spawn_scoped(scope, || Self::compiled(text));
            thread.map(std::thread::ScopedJoinHandle::join)
        });
        match compiled {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err("does not compile; expected an expression of CEL".to_owned()),
            Err(error) => Err(format!("cannot be compiled now ({error})")),
        }
    }

    fn compiled(text: &str) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|errors| {
            let first = errors.errors.first().map(|error| error.msg.as_str());
            if first.is_some_and(|message| message.contains("Recursion limit")) {
                return nested();
            }
            format!("does not compile ({}); expected an expression of CEL such as `tools && input_tokens < 8000`", first.unwrap_or("no expression"))
        })?;
        check(program.expression(), MAX_DEPTH)?;
        let sample = RequestFacts::sample(true).variables();
        let names: Vec<&str> = sample.iter().map(|(name, _)| *name).collect();
        let unknown = program
            .references()
            .variables()
            .into_iter()
            .find(|name| !names.contains(name))
            .map(str::to_owned);
        if let Some(unknown) = unknown {
            return Err(format!("names `{unknown}`; expected some of {}", names.join(", ")));
        }
        let condition = Self { text: text.to_owned(), program };
        for facts in [true, false].map(RequestFacts::sample) {
            match condition.evaluate(&facts) {
                Ok(Value::Bool(_)) => {}
                Ok(_) => {
                    return Err(
                        "yields no boolean; expected a condition such as `stream`".to_owned()
                    );
                }
                Err(error) => {
                    return Err(format!(
                        "cannot be evaluated ({error}); expected a condition such as `input_tokens < 8000`"
                    ));
                }
            }
        }
        Ok(condition)
    }

    fn evaluate(&self, facts: &RequestFacts) -> Result<Value, cel::ExecutionError> {
        let mut context = Context::default();
        for (name, value) in facts.variables() {
            context.add_variable_from_value(name, value);
        }
        self.program.execute(&context)
    }

    /// Whether it holds for a request. An error: it cannot be evaluated, as a division by zero cannot.
    pub fn holds(&self, facts: &RequestFacts) -> Result<bool, String> {
        let value = self.evaluate(facts).map_err(|error| error.to_string())?;
        Ok(matches!(value, Value::Bool(true)))
    }
}

fn nested() -> String {
    format!("is nested too deeply; expected at most {MAX_DEPTH} levels")
}

/// Rejects what may be nested too deeply for a worker's stack, or may take any time.
fn check(expression: &IdedExpr, depth: usize) -> Result<(), String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(nested());
    };
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
        Expr::Select(select) => check(&select.operand, depth),
        Expr::List(list) => list.elements.iter().try_for_each(|element| check(element, depth)),
        Expr::Call(call) => {
            let target = call.target.as_deref();
            target.into_iter().chain(&call.args).try_for_each(|part| check(part, depth))
        }
        Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) => Err(
            "has a macro over a list, a map or a message, which are not available; expected a condition such as `caller in ['a', 'b']`".to_owned(),
        ),
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({self})")
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads the condition of a target.
pub(super) fn when(reader: &mut Reader<'_>, target: &Table<'_>) -> Option<Arc<Condition>> {
    let text = reader.field(target, &WHEN)?;
    match Condition::compile(&text) {
        Ok(condition) => Some(Arc::new(condition)),
        Err(message) => {
            let at = target.get(&WHEN).map_or(target.at, |node: &Node| node.at);
            reader.report(at, format!("`when` {message}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_for_the_requests_that_they_describe() {
        let (on, off) = (RequestFacts::sample(true), RequestFacts::sample(false));
        for (text, holds) in [
            ("true", [true, true]),
            ("tools && input_tokens < 8000", [false, false]),
            ("images || input_tokens < 8000", [true, true]),
            ("!stream", [false, true]),
            ("caller in ['caller', 'other'] && model.startsWith('mo')", [true, true]),
            ("dialect == 'openai-chat' && max_output > 0", [true, false]),
            ("input_tokens / max_output > 50", [true, false]),
        ] {
            // A division by zero is found when the expression is read.
            let condition = match Condition::compile(text) {
                Ok(condition) => condition,
                Err(message) => {
                    assert!(
                        text.contains('/') && message.contains("cannot be evaluated"),
                        "{message}"
                    );
                    continue;
                }
            };
            assert_eq!([condition.holds(&on), condition.holds(&off)], holds.map(Ok), "{text}");
        }
    }

    #[test]
    fn conditions_that_are_wrong_are_rejected_with_the_reason() {
        for (text, words) in [
            ("tools &&", "does not compile"),
            ("", "does not compile"),
            ("input_tokens", "yields no boolean"),
            ("'yes'", "yields no boolean"),
            ("tolls", "names `tolls`; expected some of caller, model, dialect"),
            ("tools < 5", "cannot be evaluated"),
            ("caller.size() > tools", "cannot be evaluated"),
            ("nothing(1)", "cannot be evaluated"),
            ("[1, 2].all(x, [1, 2] . exists (y, true))", "has a macro over a list"),
            ("{1: true}[1]", "has a macro over a list, a map"),
            (&format!("{}true", "true ? true : ".repeat(40)), "is nested too deeply"),
            (&format!("{}true{}", "(".repeat(500), ")".repeat(500)), "is nested too deeply"),
            (&format!("{}{}", "[".repeat(40), "]".repeat(40)), "is nested too deeply"),
        ] {
            let message = Condition::compile(text).map(|condition| condition.to_string());
            let message = message.expect_err(text);
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    /// The worst that the bounds allow neither exhausts the stack of a worker nor takes long.
    #[test]
    fn the_largest_expressions_are_evaluated() {
        let brackets = |open: &str, inner: &str, close: &str, times: usize| {
            format!("{}{inner}{}", open.repeat(times), close.repeat(times))
        };
        let sum = |operator: &str, term: &str, end: &str| {
            let one = format!("{term}{operator}");
            let count = (MAX_LENGTH - end.len()) / one.len();
            format!("{}{end}", one.repeat(count))
        };
        let mut evaluated = 0;
        for text in [
            brackets("(", "true", ")", MAX_LENGTH / 2 - 2),
            format!("{} != []", brackets("[", "", "]", MAX_DEPTH - 1)),
            brackets("[", "", "]", MAX_LENGTH / 2),
            brackets("{1:", "1", "}", MAX_LENGTH / 4),
            format!("{}true", "true ? true : ".repeat(MAX_DEPTH - 1)),
            sum("+", "1", "1 > 0"),
            sum("&&", "true", "true"),
            sum("||", "false", "true"),
            sum("", "!", "true"),
            sum("", "-", "1 != 0"),
            sum(" == ", "true", "true"),
            sum(".", "model", "x"),
            sum("(", "size", "1"),
        ] {
            if let Ok(condition) = Condition::compile(&text) {
                evaluated += usize::from(condition.holds(&RequestFacts::sample(true)).is_ok());
            }
        }
        assert!(evaluated >= 3, "only {evaluated} are within the bounds");
    }

    /// Every text that an operator may write is answered, and none panics.
    #[test]
    fn every_part_of_an_expression_is_answered() {
        let text = "(tools && input_tokens < 8000) || caller in ['a', \"b\"] ? model.matches('x') : [1, 2u, 3.0e1][0] > 1 && {'k': b'1'}.k == null";
        for cut in 0..text.len() {
            for part in [text.get(..cut), text.get(cut..)] {
                let _ = part.map(Condition::compile);
            }
        }
    }
}
