//! Tests of the order of calls and results, for input in any order.

use serde_json::value::RawValue;

use super::*;

fn turn(role: Role, parts: Vec<Part>) -> Message {
    Message { at: String::new(), role, parts }
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn call(id: &str) -> Part {
    let arguments = RawValue::from_string("{}".to_owned()).unwrap();
    Part::ToolCall { id: id.to_owned(), name: "f".to_owned(), arguments }
}

fn result(id: &str) -> Part {
    Part::ToolResult { id: id.to_owned(), parts: vec![text(id)], is_error: false }
}

/// A short form of the turns: `u:text`, `a:call c1`.
fn shown(messages: &[Message]) -> Vec<String> {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::ToolCall { id, .. } => format!("call {id}"),
        Part::ToolResult { id, parts, .. } => format!("result {id}/{}", parts.len()),
        Part::Cache(_) => "mark".to_owned(),
        _ => "?".to_owned(),
    };
    let role = |role| match role {
        Role::System => "s",
        Role::User => "u",
        Role::Assistant => "a",
    };
    let turn = |message: &Message| {
        let parts: Vec<String> = message.parts.iter().map(part).collect();
        format!("{}:{}", role(message.role), parts.join("+"))
    };
    messages.iter().map(turn).collect()
}

fn settled(mut messages: Vec<Message>) -> Vec<String> {
    settle(&mut messages);
    assert!(is_settled(&messages), "{:?}", shown(&messages));
    shown(&messages)
}

use Role::{Assistant as A, System as S, User as U};

#[test]
fn what_is_in_order_stays() {
    let turns = vec![
        turn(U, vec![text("q")]),
        turn(A, vec![text("t"), call("1"), call("2")]),
        turn(U, vec![result("2"), result("1"), Part::Cache(None), text("and")]),
        turn(A, vec![text("done")]),
    ];
    let expected = ["u:q", "a:t+call 1+call 2", "u:result 2/1+result 1/1+mark+and", "a:done"];
    assert_eq!(settled(turns), expected);
}

#[test]
fn results_follow_their_calls() {
    for (turns, expected) in [
        // A message between a call and its result.
        (
            vec![turn(A, vec![call("1")]), turn(S, vec![text("n")]), turn(U, vec![result("1")])],
            vec!["a:call 1", "u:result 1/1", "s:n"],
        ),
        (
            vec![
                turn(A, vec![call("1")]),
                turn(U, vec![text("wait")]),
                turn(U, vec![result("1"), Part::Cache(None), text("go")]),
            ],
            vec!["a:call 1", "u:result 1/1+mark+wait", "u:go"],
        ),
        // Results in several turns, and calls in two turns that follow each other.
        (
            vec![
                turn(A, vec![call("1"), call("2")]),
                turn(U, vec![result("1")]),
                turn(U, vec![result("2")]),
            ],
            vec!["a:call 1+call 2", "u:result 1/1+result 2/1"],
        ),
        (
            vec![
                turn(A, vec![call("1")]),
                turn(A, vec![call("2")]),
                turn(U, vec![result("1"), result("2")]),
            ],
            vec!["a:call 1", "u:result 1/1", "a:call 2", "u:result 2/1"],
        ),
        // A call without a result, in the middle and at the end.
        (
            vec![turn(A, vec![call("1")]), turn(U, vec![text("stop")]), turn(A, vec![call("2")])],
            vec!["a:call 1", "u:result 1/1+stop", "a:call 2", "u:result 2/1"],
        ),
        // A result that belongs to no call, and a duplicate result.
        (vec![turn(U, vec![result("9"), text("q")])], vec!["u:[result of an earlier call]\n9+q"]),
        (
            vec![turn(A, vec![call("1")]), turn(U, vec![result("1"), result("1")])],
            vec!["a:call 1", "u:result 1/2"],
        ),
        // One id for two calls.
        (
            vec![
                turn(A, vec![call("1")]),
                turn(U, vec![result("1")]),
                turn(A, vec![call("1")]),
                turn(U, vec![result("1")]),
            ],
            vec!["a:call 1", "u:result 1/1", "a:call 1_2", "u:result 1_2/1"],
        ),
        // Empty turns.
        (vec![turn(U, vec![text("q")]), turn(A, vec![]), turn(S, vec![])], vec!["u:q"]),
    ] {
        assert_eq!(settled(turns), expected);
    }
}

#[test]
fn a_conversation_begins_and_ends_with_the_user_where_it_must() {
    let bounded = |mut messages: Vec<Message>, first, last| {
        begin_and_end(&mut messages, first, last);
        shown(&messages)
    };
    let turns = || vec![turn(S, vec![text("s")]), turn(A, vec![text("a")])];
    assert_eq!(bounded(turns(), true, true), ["s:s", "u:Hello.", "a:a", "u:Continue."]);
    assert_eq!(bounded(turns(), false, false), ["s:s", "a:a"]);
    assert_eq!(bounded(vec![turn(S, vec![text("s")])], true, false), ["s:s", "u:Continue."]);
    assert!(bounded(Vec::new(), true, true).is_empty());
}

#[test]
fn an_assistant_turn_stands_between_results_and_any_other_turn_where_it_must() {
    let answered = |mut messages: Vec<Message>| {
        answer_results(&mut messages);
        shown(&messages)
    };
    let turns = vec![
        turn(A, vec![call("1"), call("2")]),
        turn(U, vec![result("2"), Part::Cache(None), text("and"), result("1"), text("so")]),
        turn(A, vec![call("3")]),
        turn(U, vec![result("3")]),
        turn(A, vec![call("4")]),
        turn(U, vec![result("4")]),
        turn(S, vec![text("s")]),
        turn(U, vec![text("q")]),
        turn(A, vec![call("5")]),
        turn(U, vec![result("5")]),
    ];
    let expected = [
        "a:call 1+call 2",
        "u:result 2/1+mark+result 1/1",
        "a:OK.",
        "u:and+so",
        "a:call 3",
        "u:result 3/1",
        "a:call 4",
        "u:result 4/1",
        "a:OK.",
        "s:s",
        "u:q",
        "a:call 5",
        "u:result 5/1",
    ];
    assert_eq!(answered(turns), expected);
    let image = Part::Unreadable { at: String::new(), medium: crate::chat::Medium::Image };
    let parts = vec![text("r"), image];
    let seen = Part::ToolResult { id: "1".to_owned(), parts, is_error: false };
    let turns = vec![turn(A, vec![call("1")]), turn(U, vec![seen])];
    assert_eq!(answered(turns), ["a:call 1", "u:result 1/1", "a:OK.", "u:?"]);
}
