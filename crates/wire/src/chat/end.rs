//! The end of an answer, and the neutral error.

/// Outcome of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The upstream ended it with its dialect's own terminal event.
    Complete,
    /// The bytes ended without the terminal event.
    Truncated,
    /// The upstream reported an error, or sent unreadable data.
    Failed(ApiError),
    /// A deadline of the gateway passed.
    TimedOut(Deadline),
    /// The caller disconnected.
    Cancelled,
    /// This process is shutting down.
    ShuttingDown,
    /// The caller's tokens are used up, and the caller requested a cut-off in that case.
    CutOff(ApiError),
    /// This process is out of capacity for it.
    Unavailable(ApiError),
    /// The process that made it is gone. Only those who read what it left behind see this end.
    Lost,
}

impl End {
    /// The error to report to the caller; `None` for a complete answer.
    pub fn fault(&self) -> Option<ApiError> {
        match self {
            Self::Complete => None,
            Self::Truncated => Some(ApiError::new(
                Kind::Upstream,
                "the upstream closed the stream before the answer was complete",
            )),
            Self::Failed(fault) | Self::CutOff(fault) | Self::Unavailable(fault) => {
                Some(fault.clone())
            }
            Self::TimedOut(deadline) => Some(ApiError::new(Kind::Timeout, deadline.message())),
            Self::Cancelled => Some(ApiError::new(Kind::Internal, "the request was cancelled")),
            Self::ShuttingDown => Some(ApiError::new(
                Kind::Overloaded,
                "the gateway is shutting down and cut this stream; send the request again",
            )),
            Self::Lost => Some(ApiError::new(
                Kind::Overloaded,
                "the gateway process that made this stream is gone; send the request again",
            )),
        }
    }
}

/// The deadline that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// Connecting to the upstream.
    Connect,
    /// Connecting to the upstream through an egress proxy.
    Proxy,
    /// Model output after the request was sent.
    FirstToken,
    /// The whole of an answer that is not streamed.
    Unstreamed,
    /// Model output after earlier output.
    Stall,
    /// Model output at the lowest rate that is allowed.
    Rate,
    /// The whole answer.
    Total,
}

impl Deadline {
    fn message(self) -> &'static str {
        match self {
            Self::Connect => "the upstream could not be reached in time",
            Self::Proxy => "the egress proxy did not connect to the upstream in time",
            Self::FirstToken => "the upstream sent no output within the first_token deadline",
            Self::Unstreamed => {
                "the upstream did not send its answer, which was not to be streamed, within the unstreamed deadline"
            }
            Self::Stall => "the upstream stopped sending output (stall deadline)",
            Self::Rate => "the upstream sent its output too slowly (slow.bytes_per_second)",
            Self::Total => "the answer took longer than the total deadline",
        }
    }
}

/// Kind of an error, for programs to branch on. Each dialect has its own status and code for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No credential, or an invalid one.
    Authentication,
    /// A valid credential without the required permission.
    Permission,
    /// No such model or resource.
    NotFound,
    /// The gateway serves no such path.
    Path,
    /// The path exists and does not support the method.
    Method,
    /// The path serves requests, and does not switch to a protocol other than HTTP.
    Upgrade,
    /// Another request has changed the state that this one is about.
    Conflict,
    /// It existed, and is no longer kept.
    Gone,
    /// The request is too large.
    TooLarge,
    /// The content type of the body is not supported.
    MediaType,
    /// The prompt does not fit the model's context.
    Context,
    /// The request itself is invalid.
    Invalid,
    /// The content violates a policy of the provider: moderation, a content filter.
    ContentPolicy,
    /// The account cannot pay.
    Billing,
    /// Too many requests or tokens.
    RateLimited,
    /// Temporarily out of capacity.
    Overloaded,
    /// The caller took too long to send its request.
    TooSlow,
    /// The upstream took too long.
    Timeout,
    /// The upstream failed.
    Upstream,
    /// The upstream rejects the operator's configuration: the credential, the account, the model. Only callers
    /// see this kind, through [`ApiError::replacement`]; a decoder never returns it.
    BadGateway,
    /// The gateway failed.
    Internal,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 21] = [
        Self::Authentication,
        Self::Permission,
        Self::NotFound,
        Self::Path,
        Self::Method,
        Self::Upgrade,
        Self::Conflict,
        Self::Gone,
        Self::TooLarge,
        Self::MediaType,
        Self::Context,
        Self::Invalid,
        Self::ContentPolicy,
        Self::Billing,
        Self::RateLimited,
        Self::Overloaded,
        Self::TooSlow,
        Self::Timeout,
        Self::Upstream,
        Self::BadGateway,
        Self::Internal,
    ];

    /// The HTTP status that most vendors use for it.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::Context | Self::ContentPolicy => 400,
            Self::Authentication => 401,
            Self::Billing => 402,
            Self::Permission => 403,
            Self::NotFound | Self::Path => 404,
            Self::Method => 405,
            Self::TooSlow => 408,
            Self::Conflict => 409,
            Self::Gone => 410,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::Upgrade => 426,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Upstream | Self::BadGateway => 502,
            Self::Overloaded => 503,
            Self::Timeout => 504,
        }
    }

    /// The stable word for it, in records, metrics and viewers' formats.
    pub fn code(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::Path => "unknown_path",
            Self::Method => "method_not_allowed",
            Self::Upgrade => "upgrade_required",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::TooLarge => "too_large",
            Self::MediaType => "unsupported_media_type",
            Self::Context => "context_length",
            Self::Invalid => "invalid_request",
            Self::ContentPolicy => "content_policy",
            Self::Billing => "billing",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::TooSlow => "request_timeout",
            Self::Timeout => "timeout",
            Self::Upstream => "upstream",
            Self::BadGateway => "bad_gateway",
            Self::Internal => "internal",
        }
    }

    /// The kind of an upstream's error of which only the HTTP status is known. Only 400, 413 and 422 blame the
    /// request; other 4xx statuses mean that the gateway's own call was wrong.
    pub fn of_status(status: u16) -> Self {
        match status {
            400 | 422 => Self::Invalid,
            401 => Self::Authentication,
            402 => Self::Billing,
            403 => Self::Permission,
            404 | 410 => Self::NotFound,
            405 => Self::Method,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            415 => Self::MediaType,
            429 => Self::RateLimited,
            // 498: Groq is out of flex capacity. 529: Anthropic is overloaded.
            498 | 503 | 529 => Self::Overloaded,
            _ => Self::Upstream,
        }
    }
}

/// The code of an expired token, which is not any wrong credential: programs get a new token by themselves.
pub const TOKEN_EXPIRED: &str = "token_expired";

/// An error as it is reported to a caller, or as an upstream reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The kind, for programs to branch on.
    pub kind: Kind,
    /// The fault, its place and its remedy. Never payloads or keys.
    pub message: String,
    /// A machine-readable code, if the origin set one.
    pub code: Option<String>,
    /// The request field at fault, if known.
    pub param: Option<String>,
}

impl ApiError {
    /// Creates an error without code or field.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, param: None }
    }

    /// Creates an error for a request that is rejected because of one field.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, message: message.into(), code: None, param: Some(param.into()) }
    }

    /// Adds the field to the message, since few clients show `param`: as the subject of a predicate (`must be a
    /// list`), otherwise before a colon.
    #[must_use]
    pub fn named(mut self) -> Self {
        const PREDICATES: [&str; 10] =
            ["must", "is", "holds", "lives", "names", "needs", "refers", "would", "cannot", "may"];
        if let (Kind::Invalid, Some(param)) = (self.kind, &self.param)
            && !self.message.contains(&format!("`{param}`"))
        {
            let first = self.message.split(' ').next().unwrap_or_default();
            let colon = if PREDICATES.contains(&first) { "" } else { ":" };
            self.message = format!("`{param}`{colon} {}", self.message);
        }
        self
    }
}
