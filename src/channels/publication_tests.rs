//! Tests of publications: bodies in, frames or messages out.

use proptest::prelude::*;

use super::*;

const MOST: usize = 1 << 20;
const ID: &str = "k3v9XbQ0aZ71_0000000042";

fn framed(body: &str) -> Vec<String> {
    let publications = Publications::parse(body, MOST).unwrap();
    let frames = publications.events.into_iter().map(|event| event.frame(ID));
    frames.map(|frame| String::from_utf8(frame.bytes().to_vec()).unwrap()).collect()
}

fn refused(body: &str) -> String {
    Publications::parse(body, 100).unwrap_err().to_string()
}

#[test]
fn events_are_framed_with_the_id_first() {
    for (body, expected) in [
        (r#"{"data":"hi"}"#, "data: hi\n\n"),
        (r#"{"event":"tick","data":"hi"}"#, "event: tick\ndata: hi\n\n"),
        (r#"{"retry":2000,"data":1.50}"#, "retry: 2000\ndata: 1.50\n\n"),
        (r#"{"data":null}"#, "data: null\n\n"),
        (r#"{"data":""}"#, "data: \n\n"),
        (r#"{"data":{"b": 1, "a":"x\ny"}}"#, "data: {\"b\": 1, \"a\":\"x\\ny\"}\n\n"),
        (r#"{"data":"a\nb\r\nc\rd\n"}"#, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (r#"{"data":"\r\n\r"}"#, "data: \ndata: \ndata: \n\n"),
        (r#"{"data":"id: 1\n\nevent: x"}"#, "data: id: 1\ndata: \ndata: event: x\n\n"),
        ("{\"data\":[1,\n2]}", "data: [1,\ndata: 2]\n\n"),
        (r#"{"data":"é\u0000"}"#, "data: é\0\n\n"),
    ] {
        assert_eq!(
            framed(body),
            [format!("{}id: {ID}\n\n", expected.strip_suffix('\n').unwrap())],
            "{body}"
        );
    }
    assert_eq!(framed(r#"{"events":[{"data":1},{"data":2}]}"#).len(), 2);
    assert!(Publications::parse(r#"{"events":[{"data":1}]}"#, MOST).unwrap().batch);
}

#[test]
fn a_frame_shows_its_parts() {
    let body = r#"{"event":"tick","data":"a\nb","id":"x","retry":700}"#;
    let publication = Publications::parse(body, MOST).unwrap().events.remove(0);
    assert_eq!(publication.id.as_deref(), Some("x"));
    // The longest position there can be.
    for id in [ID, "k3v9XbQ0aZ71_18446744073709551615"] {
        let frame = publication.clone().frame(id);
        assert_eq!(frame.name(), Some("tick"));
        assert_eq!(frame.data(), "a\nb");
        assert_eq!(frame.without_id(), "event: tick\nretry: 700\ndata: a\ndata: b\n");
        assert!(frame.bytes().ends_with(format!("data: b\nid: {id}\n\n").as_bytes()));
    }
    let plain = Publications::parse(r#"{"data":"event: x"}"#, MOST).unwrap().events.remove(0);
    assert_eq!(plain.frame(ID).name(), None);
}

#[test]
fn bad_input_of_publishers_is_refused_with_its_place() {
    for (body, expected) in [
        ("", "the body is no event"),
        ("[]", "the body is no event"),
        ("{}", "the event: `data` is missing"),
        (r#"{"data":"x","dat":1}"#, "unknown field `dat`"),
        (r#"{"data":"x","data":1}"#, "duplicate field `data`"),
        (r#"{"data":"x","event":7}"#, "the body is no event: invalid type: integer `7`"),
        (r#"{"data":"\ud800"}"#, "`data` is no valid text"),
        (r#"{"data":"x","event":"a\nb"}"#, "the event: `event` has a line end"),
        (r#"{"data":"x","event":"a\rb"}"#, "the event: `event` has a carriage return"),
        (r#"{"data":"x","event":"a\u0000"}"#, "the event: `event` has a NUL"),
        (r#"{"data":"x","id":"a\nb"}"#, "the event: `id` has a line end"),
        (r#"{"data":"x","id":"\u0000"}"#, "the event: `id` has a NUL"),
        (r#"{"data":"x","id":""}"#, "the event: `id` is empty"),
        (r#"{"data":"x","event":"reset"}"#, "only the gateway sends"),
        (r#"{"data":"x","retry":0}"#, "`retry` is 0; expected 500 to 3600000"),
        (r#"{"data":"x","retry":-1}"#, "the body is no event"),
        (r#"{"data":"x","retry":1.5}"#, "the body is no event"),
        (r#"{"events":[]}"#, "`events` is empty"),
        (r#"{"events":[{"data":1}],"data":2}"#, "`events` stands beside"),
        (r#"{"events":[{"data":1},{}]}"#, "`events[1]`: `data` is missing"),
        (r#"{"events":[{"data":1},{"data":1,"event":"\n"}]}"#, "`events[1]`: `event` has a line"),
    ] {
        let message = refused(body);
        assert!(message.contains(expected), "{body}: {message}");
    }
    let long = |field: &str| format!(r#"{{"data":1,"{field}":"{}"}}"#, "x".repeat(257));
    for field in ["event", "id"] {
        let message = refused(&long(field));
        assert!(message.contains(&format!("`{field}` has 257 bytes")), "{message}");
    }
    let many = format!(r#"{{"events":[{}{{"data":1}}]}}"#, r#"{"data":1},"#.repeat(MAX_BATCH));
    assert!(refused(&many).contains("1001 events"));
}

#[test]
fn an_oversized_event_is_refused_by_its_framed_size() {
    let of = |data: &str| Publications::parse(&format!(r#"{{"data":"{data}"}}"#), 100);
    assert!(of(&"x".repeat(92)).is_ok());
    let large = of(&"x".repeat(93)).unwrap_err();
    assert_eq!(
        large,
        PublicationError::Large { place: "the event".to_owned(), bytes: 101, most: 100 }
    );
    // Each line end costs a field name.
    assert!(matches!(of(&r"\n".repeat(20)), Err(PublicationError::Large { .. })));
}

proptest! {
    /// A reader of the event stream, written from its specification, gets what was published.
    #[test]
    fn no_text_leaves_its_data_lines(data in "[a\r\n: \u{feff}é]{0,20}", name in "[a:é ]{0,5}") {
        let publication = Publication::new(&name, &data, None, MOST).unwrap();
        let frame = publication.frame(ID);
        let text = std::str::from_utf8(frame.bytes()).unwrap();
        let (block, rest) = text.split_once("\n\n").unwrap();
        prop_assert_eq!(rest, "");
        prop_assert!(!text.contains('\r'));
        let mut fields = block.split('\n').map(|line| line.split_once(": ").unwrap());
        prop_assert_eq!(fields.next_back(), Some(("id", ID)));
        let mut fields = fields.peekable();
        let named = fields.next_if(|(field, _)| *field == "event").map(|(_, name)| name);
        prop_assert_eq!(named.unwrap_or_default(), &name);
        let mut lines = Vec::new();
        for (field, line) in fields {
            prop_assert_eq!(field, "data");
            lines.push(line);
        }
        let expected = data.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(&lines.join("\n"), &expected);
        prop_assert_eq!(frame.data(), expected);
        prop_assert_eq!(frame.name().unwrap_or_default(), name);
    }
}
