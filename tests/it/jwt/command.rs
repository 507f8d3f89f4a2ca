//! `streamgate token`: a token for development, from the program itself.

use super::{ask_for, shared, told};
use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, yaml};
use crate::support::process::{File, run};
use crate::support::tokens::{AUDIENCE, ISSUER, SECRET, with_issuer, with_issuers};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn a_minted_token_works() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let names = ", claims: { subject: realm.user, models: \"https://x.y/models\" }";
    let text = with_issuer(&upstream.url, &shared(names), "");
    let file = File::new(&text);
    let gateway = Gateway::new(&text).await;
    let mint = |arguments: &[&str]| {
        let (status, out, err) =
            run(&[&["token", "--config", file.path(), "--sub", "dev"], arguments].concat());
        assert_eq!((status, err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!out.contains(SECRET));
        out.trim_end().to_owned()
    };
    for arguments in [&[][..], &["--ttl", "15m"], &["--issuer", ISSUER, "--ttl", "24h"]] {
        assert_eq!(told(&gateway, &mint(arguments)).await.0, 200, "{arguments:?}");
    }
    let some = mint(&["--models", "oai/a,ant/*"]);
    for (model, status) in [("oai/a", 200), ("oai/b", 404)] {
        assert_eq!(ask_for(&gateway, &some, "openai-chat", model).await.status(), status);
    }
}

#[test]
fn invalid_tokens_are_not_minted() {
    let here = "http://127.0.0.1:9";
    let issuer = |name: &str| format!("{{ issuer: {name}, audience: {AUDIENCE}, {} }}", shared(""));
    let (one, two) = (issuer("one"), issuer("two"));
    let public = "{ issuer: three, audience: a, algorithms: [RS256], jwks_url: \"https://x.y/\" }";
    let none = "failed_attempts: { burst: 5 }";
    let none_file = File::new(&yaml(here, here, ""));
    let able = File::new(&with_issuers(here, &[&one, &two, public], none, ""));
    for (file, arguments, words) in [
        (None, &["--sub", "a"][..], "no configuration"),
        (Some(&none_file), &["--sub", "a"], "no issuer under `auth.jwt` has a `secret`"),
        (Some(&able), &["--sub", "a"], "choose one with --issuer: \"one\", \"two\""),
        (Some(&able), &["--sub", "a", "--issuer", "three"], "expected one that has a `secret`"),
        (Some(&able), &["--sub", "", "--issuer", "one"], "--sub must be"),
        (Some(&able), &["--sub", "a", "--issuer", "one", "--ttl", "25h"], "`max_lifetime`"),
        (Some(&able), &["--sub", "a", "--issuer", "one", "--ttl", "500ms"], "a second or more"),
        (Some(&able), &["--sub", "a", "--ttl", "5"], "expected a duration"),
        (Some(&able), &["--ttl", "5m"], "--sub"),
    ] {
        let config = file.map_or(vec![], |file| vec!["--config", file.path()]);
        let (status, out, err) = run(&[&["token"], arguments, &config].concat());
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{words} is not in {err}");
        assert!(!err.contains(SECRET));
    }
}
