//! The neutral vocabulary that every dialect is read into and written from.
//!
//! It covers what at least two dialects can express. It is never serialised itself: each dialect has its own
//! types, and same-dialect traffic does not use [`Request`] at all.

mod delta;
mod end;
mod hosted;
mod operator_fault;
mod rendered;
mod request;
mod tool_form;

pub use delta::{
    Citation, Delta, MAX_CITATIONS, MAX_TOOL_CALLS, Origin, Stop, Usage, too_many_calls,
};
pub use end::{ApiError, Deadline, End, Kind, TOKEN_EXPIRED};
pub use hosted::{HostedKind, HostedTool, Location, SearchResult, SearchRun, WebAccess};
pub use rendered::{Parameters, Rendered};
pub use request::{
    CacheMark, Document, Format, Image, Medium, Message, Part, Reasoning, Request, Role, Scheme,
    Signature, Source, Tool, ToolChoice,
};
pub use tool_form::{ToolForm, ToolForms, function_name};
