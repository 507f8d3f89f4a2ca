//! Bodies for texts of URLs that open streams: positions, capabilities and tickets. Whatever a text is, it must never be
//! accepted for something that was not granted by it.

use std::sync::Arc;
use std::time::Duration;

use streamgate::channels::Cursor;
use streamgate::config::Limits;
use streamgate::gateway::auth::Caller;
use streamgate::gateway::auth::tickets::Tickets;
use streamgate::gateway::limit::LimiterRegistry;
use streamgate::streams::capability::{Capability, Rights, Signer};
use streamgate::streams::position::Position;

use super::choice;

/// A text that is read is the one that is written, so that no position has two spellings.
pub fn position(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
        let moved = position.epoch.at(position.seq.wrapping_add(1));
        assert_eq!(moved.to_string().parse(), Ok(moved));
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
    }
}

/// A signed capability with a change of any kind, and any text beside it: only the one that was signed is accepted, for
/// its stream and its time.
pub fn capability(mut data: &[u8]) {
    let signer = Signer::new([choice(&mut data).to_le_bytes()[0]; 32]);
    let rights = [Rights::Read, Rights::Cancel][choice(&mut data) % 2];
    let expires = 1 << (choice(&mut data) % 64);
    let share = format!("s{}", choice(&mut data));
    let capability = Capability { share, rights, expires };
    let token = signer.sign("stream", &capability);
    assert_eq!(signer.verify("stream", &token, expires - 1).as_ref(), Some(&capability));
    assert_eq!(signer.verify("stream", &token, expires), None);
    let changed = change(&token, &mut data);
    if changed != token {
        assert_eq!(signer.verify("stream", &changed, 0), None, "{changed}");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(signer.verify("stream", text, 0), None);
    if text != "stream" {
        assert_eq!(signer.verify(text, &token, 0), None);
    }
}

/// The same for a ticket: another text opens nothing.
pub fn ticket(mut data: &[u8]) {
    let (tickets, limiters) = (Tickets::default(), LimiterRegistry::default());
    let caller = Arc::new(Caller {
        name: "caller".into(),
        label: "caller".into(),
        models: Arc::default(),
        class: None,
        limiter: limiters.of("caller", Limits::default()),
        channels: Arc::default(),
        until: None,
    });
    let rights = (vec!["stream".to_owned()], vec!["channel".to_owned()]);
    let time = Duration::from_hours(1);
    let issued = tickets.issue(&caller, rights, time).expect("a caller's first ticket");
    let redeemed = tickets.redeem(&issued).expect("an issued ticket is good");
    assert_eq!(
        (redeemed.streams, redeemed.channels),
        (vec!["stream".into()], vec!["channel".into()])
    );
    let changed = change(&issued, &mut data);
    assert!(changed == issued || tickets.redeem(&changed).is_none(), "{changed}");
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(tickets.redeem(text).is_none(), "{text}");
}

/// A text of ASCII with one change: cut, a character replaced, repeated, or something inserted.
fn change(text: &str, data: &mut &[u8]) -> String {
    let (kind, at) = (choice(data), choice(data) % text.len());
    let (before, rest) = text.split_at(at);
    let (one, after) = rest.split_at(1);
    match kind % 5 {
        0 => before.to_owned(),
        1 => format!("{before}{}{after}", char::from(choice(data).to_le_bytes()[0])),
        2 => format!("{before}{one}{one}{after}"),
        3 => format!("{before}{}{rest}", String::from_utf8_lossy(data)),
        _ => format!("{after}{before}{one}"),
    }
}
