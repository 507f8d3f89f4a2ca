//! Channels: settings by pattern, and the rights of keys, issuers and anonymous callers.

use std::time::Duration;

use super::super::ChannelSettings;
use super::load_text;
use crate::channels::Placeholders;

const AUTH: &str = "auth: { keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }] }\n";

#[test]
fn the_most_exact_pattern_holds_and_its_defaults_are_those_of_the_keys() {
    let config = load_text(format!(
        "{AUTH}channels: {{ lifetime: none, connections: none, patterns: {{ \"*\": {{ age: 5m }}, \"price.*\": {{ events: 7, \
         last_value: true }}, \"price.a\": , room: {{ presence: true, bytes: 1MiB }} }} }}\n"
    ));
    let channels = config.unwrap().channels;
    assert_eq!((channels.lifetime, channels.connections), (None, None));
    let default = ChannelSettings::default();
    assert_eq!(default.age, Duration::from_hours(1));
    let prices = ChannelSettings { events: 7, last_value: true, ..default };
    for (name, expected) in [
        ("price.a", default),
        ("price.b", prices),
        ("room", ChannelSettings { presence: true, bytes: 1 << 20, ..default }),
        ("rooms", ChannelSettings { age: Duration::from_mins(5), ..default }),
    ] {
        assert_eq!(channels.settings(name), expected, "{name}");
    }
}

#[test]
fn rights_are_templates_and_none_by_default() {
    let key = |channels: &str| {
        let auth = AUTH.replace(" }] }", &format!("{channels} }}] }}"));
        load_text(auth).unwrap().auth.keys.remove(0).channels
    };
    let none = key("");
    assert!(none.subscribe.is_empty() && none.publish.is_empty());
    let rights =
        key(", channels: { subscribe: [\"news.*\", \"team:{name}\"], publish: [\"{sub}\"] }");
    let rights = rights.filled(Placeholders { name: "a", sub: "b" }).unwrap();
    assert!(rights.may_subscribe(&"team:a".parse().unwrap()));
    assert!(!rights.may_subscribe(&"team:b".parse().unwrap()));
    assert!(rights.may_publish(&"b".parse().unwrap()));
    let wrong = AUTH.replace(" }] }", ", channels: { subscribe: [\"a\\nb\"] } }] }");
    let message = load_text(wrong).unwrap_err().to_string();
    assert!(
        message.contains("`subscribe` is a text of 3 characters; expected the name"),
        "{message}"
    );
}
