//! Limits on the turns, parts, calls and tools of a request that is translated. Each of them costs some work
//! and memory at every step. Requests that are passed through are not counted.

use crate::body::refuse;
use crate::chat::{ApiError, Part, Request};

/// The most turns. Agent sessions that fill the largest context windows have a few thousand.
const MOST_MESSAGES: usize = 8192;

/// The most parts of all turns, including the parts of tool results and cache marks.
const MOST_PARTS: usize = 16 * 1024;

/// The most tool calls of all turns.
const MOST_CALLS: usize = 8192;

/// The most tools. Vendors accept 128 to 512.
const MOST_TOOLS: usize = 2048;

/// Rejects a request above a limit, by field.
pub(super) fn check(request: &Request) -> Result<(), ApiError> {
    let (mut parts, mut calls) = (0, 0);
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        parts += 1;
        match part {
            Part::ToolCall { .. } => calls += 1,
            Part::ToolResult { parts: inner, .. } => parts += inner.len(),
            _ => {}
        }
    }
    for (field, number, most, what) in [
        ("messages", request.messages.len(), MOST_MESSAGES, "turns"),
        ("messages", parts, MOST_PARTS, "parts"),
        ("messages", calls, MOST_CALLS, "tool calls"),
        ("tools", request.tools.len(), MOST_TOOLS, "tools"),
        ("tools", request.hosted.len(), MOST_TOOLS, "hosted tools"),
    ] {
        if number > most {
            let what = format!(
                "holds {number} {what}; a request that is translated for its model may hold {most}"
            );
            return Err(refuse(field, &what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{HostedTool, Message, Role, Tool};

    type Make<'a> = &'a dyn Fn(usize) -> Request;

    fn parts(number: usize) -> Vec<Part> {
        (0..number).map(|_| Part::Text(String::new())).collect()
    }

    fn turn(parts: Vec<Part>) -> Message {
        Message { at: String::new(), role: Role::User, parts }
    }

    #[test]
    fn each_bound_is_met_and_not_passed() {
        let result =
            |number| Part::ToolResult { id: String::new(), parts: parts(number), is_error: false };
        let call = |_| Part::ToolCall {
            id: String::new(),
            name: String::new(),
            arguments: serde_json::value::RawValue::NULL.to_owned(),
        };
        let turns = |messages| Request { messages, ..Request::default() };
        let tools = |number| Request { tools: vec![Tool::default(); number], ..Request::default() };
        let hosted =
            |number| Request { hosted: vec![HostedTool::default(); number], ..Request::default() };
        let cases: [(usize, Make<'_>, &str); 6] = [
            (MOST_MESSAGES, &|n| turns(vec![turn(Vec::new()); n]), "`messages` holds 8193 turns"),
            (MOST_PARTS, &|n| turns(vec![turn(parts(n))]), "`messages` holds 16385 parts"),
            (
                MOST_PARTS,
                &|n| turns(vec![turn(vec![result(n - 1)])]),
                "`messages` holds 16385 parts",
            ),
            (
                MOST_CALLS,
                &|n| turns(vec![turn((0..n).map(call).collect())]),
                "`messages` holds 8193 tool calls",
            ),
            (MOST_TOOLS, &tools, "`tools` holds 2049 tools"),
            (MOST_TOOLS, &hosted, "`tools` holds 2049 hosted tools"),
        ];
        for (most, request, message) in cases {
            assert_eq!(check(&request(most)), Ok(()), "{message}");
            let fault = check(&request(most + 1)).unwrap_err();
            assert!(fault.message.starts_with(message), "{}", fault.message);
        }
    }
}
