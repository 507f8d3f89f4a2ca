//! Access to one stream: by the caller's own credential, by a ticket, or by a capability that its owner has shared. A
//! stream that may not be seen must look like one that does not exist.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::position::Query;
use super::{not_found, owned};
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::gateway::auth::Caller;
use crate::gateway::auth::tickets::{Ticket, bad_ticket};
use crate::gateway::clock::unix_seconds;
use crate::gateway::delivery::Right;
use crate::gateway::direct_response::{Asked, Identity};
use crate::gateway::state::Gateway;
use crate::streams::capability::{Capability, Rights};
use crate::streams::generation::Generation;
use crate::streams::share::SeatError;
use crate::wire::chat::{ApiError, Kind};

/// The credential of a request for a stream.
pub(super) enum Access {
    /// The caller's own, in the headers.
    Own,
    /// A ticket.
    Ticket(Ticket),
    /// A capability for a stream, and its holder.
    Share(Arc<Generation>, Capability, Arc<Caller>),
    /// A ticket or a capability that is worth nothing.
    Refused(Error),
}

impl Access {
    /// The credential of a request, by its query.
    pub(super) fn of(gateway: &Gateway, query: &Query, id: &str) -> Self {
        if let Some(text) = query.get("ticket") {
            return match gateway.tickets.redeem(text) {
                Some(ticket) => Self::Ticket(ticket),
                None => Self::Refused(bad_ticket()),
            };
        }
        let Some(text) = query.get("share") else { return Self::Own };
        match gateway.streams.shared(id, text, unix_seconds()) {
            Some((stream, capability)) => {
                let guest = gateway.guest(&capability.share);
                Self::Share(stream, capability, guest)
            }
            None => Self::Refused(not_found()),
        }
    }

    /// The identity of its holder.
    pub(super) fn identity(&self) -> Identity {
        Identity::Known(match self {
            Self::Own => return Identity::Headers,
            Self::Ticket(ticket) => Ok(Arc::clone(&ticket.caller)),
            Self::Share(_, _, guest) => Ok(Arc::clone(guest)),
            Self::Refused(error) => Err(error.clone()),
        })
    }

    /// The stream to read, and the right to it, if that may end before the stream.
    pub(super) async fn stream(
        self,
        gateway: &Gateway,
        asked: &Asked<'_>,
        id: &str,
    ) -> Result<(Arc<Generation>, Option<Right>), Error> {
        match self {
            Self::Own => {
                // The connection ends with the caller's credential.
                let left = |until: u64| Duration::from_secs(until.saturating_sub(unix_seconds()));
                let until = asked.caller.until.map(|until| Instant::now() + left(until));
                let right = until.map(|until| Right { until, seat: None });
                Ok((owned(gateway, asked, id).await?, right))
            }
            Self::Ticket(ticket) => {
                if !ticket.streams.iter().any(|stream| stream == id) {
                    return Err(not_found());
                }
                let right = Right { until: ticket.expires, seat: None };
                Ok((owned(gateway, asked, id).await?, Some(right)))
            }
            Self::Share(stream, capability, _) => {
                let seat = stream.shares.seat(&capability.share).map_err(|error| match error {
                    SeatError::Revoked => not_found(),
                    SeatError::Full => full(),
                })?;
                let left = capability.expires.saturating_sub(unix_seconds());
                let until = Instant::now() + Duration::from_secs(left);
                Ok((stream, Some(Right { until, seat: Some(seat) })))
            }
            Self::Refused(error) => Err(error),
        }
    }

    /// The stream to cancel.
    pub(super) async fn stream_to_cancel(
        self,
        gateway: &Gateway,
        asked: &Asked<'_>,
        id: &str,
    ) -> Result<Arc<Generation>, Error> {
        match self {
            Self::Own => owned(gateway, asked, id).await,
            Self::Share(stream, capability, _) if capability.rights == Rights::Cancel => {
                let seated = stream.shares.seat(&capability.share).err();
                if seated == Some(SeatError::Revoked) { Err(not_found()) } else { Ok(stream) }
            }
            Self::Share(..) | Self::Ticket(_) => {
                let message = "this credential may read the stream, and not cancel it";
                Err(Error::caller(ApiError::new(Kind::Permission, message)))
            }
            Self::Refused(error) => Err(error),
        }
    }
}

fn full() -> Error {
    let message = "this share has as many viewers as it may";
    Error::caller(ApiError::new(Kind::RateLimited, message)).retry_after(MIN_RETRY_AFTER)
}
