//! What holds where the configuration says nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::{FailedAttempts, Limits, Server, Stream, memory};

const MIB: usize = 1 << 20;

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            body_limit: 32 * MIB,
            memory: memory::default(),
            header_timeout: Duration::from_secs(10),
            // Longer than the idle timeouts of common load balancers (nginx, ALB: 60 s): the side that
            // closes first must be the one that sends the requests.
            idle_timeout: Duration::from_secs(75),
            // Long enough for a probe to see 503, and short enough at a terminal.
            shutdown_delay: Duration::from_secs(1),
            drain: Duration::from_secs(30),
            admin: None,
            admin_networks: Vec::new(),
            public_metrics: None,
            cors_origins: Vec::new(),
            tls: None,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_minute: NonZeroU32::new(600),
            concurrent_streams: Some(100),
            ..Self::NONE
        }
    }
}

impl Default for FailedAttempts {
    fn default() -> Self {
        let twenty = NonZeroU32::MIN.saturating_add(19);
        Self { burst: twenty, per_minute: Some(twenty) }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            commit_after: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            connection_age: Some(Duration::from_mins(5)),
            first_token: Duration::from_mins(2),
            unstreamed: Duration::from_mins(4),
            stall: Duration::from_mins(2),
            total: None,
            write_stall: Duration::from_secs(30),
            max_event: 32 * MIB,
            max_answer: 32 * MIB,
        }
    }
}
