//! Embeddings: requests of every caller dialect to every upstream dialect, and answers with a vector for each
//! of many texts to every caller dialect.

use bytes::{Bytes, BytesMut};
use streamgate::wire::adapt;
use streamgate::wire::chat::End;
use streamgate::wire::dialect::{
    CallerDialect, DIALECTS, Dialect, Form, Mode, Operation, Quirks, RequestView, Target, by_name,
    caller_dialects,
};
use streamgate::wire::embeddings::Verified;
use streamgate::wire::framing::Framing;
use streamgate::wire::transcode::Transcoder;

use super::answers::call;
use super::{grows_linearly, list};

/// The smaller number of texts.
const SIZE: usize = 128;

/// An endpoint that asks for embeddings of many texts: dialect, path, and the body for some texts.
type Endpoint = (&'static str, &'static str, fn(usize) -> String);

fn endpoints() -> [Endpoint; 4] {
    [
        ("openai-chat", "/v1/embeddings", |n| format!(r#"{{"model":"m","input":[{}]}}"#, texts(n))),
        ("gemini", "/v1beta/models/m:batchEmbedContents", |n| {
            let request = |i: usize| {
                format!(
                    r#"{{"model":"models/m","content":{{"parts":[{{"text":"text {i}"}}]}},"title":"t"}}"#
                )
            };
            format!(r#"{{"requests":[{}]}}"#, list(n, request))
        }),
        ("ollama", "/api/embed", |n| format!(r#"{{"model":"m","input":[{}]}}"#, texts(n))),
        ("cohere", "/v2/embed", |n| {
            format!(
                r#"{{"model":"m","input_type":"search_query","embedding_types":["float"],"texts":[{}]}}"#,
                texts(n)
            )
        }),
    ]
}

fn texts(n: usize) -> String {
    list(n, |i| format!("\"text {i}\""))
}

/// The form of a path at a caller dialect.
fn form(caller: &dyn CallerDialect, body: &str, path: &str) -> Form {
    let embeds = |form: &Form| form.operation() == Operation::Embeddings;
    let mut forms = caller.endpoints().iter().map(|endpoint| endpoint.form).filter(embeds);
    let form = forms.next().unwrap_or(Form::Chat);
    let asked = RequestView { form, path, query: "", body };
    caller.envelope(&asked).unwrap().form
}

#[test]
fn requests() {
    for (name, path, body) in endpoints() {
        let caller = by_name(name).and_then(Dialect::as_caller).unwrap();
        let form = form(caller, &body(1), path);
        assert_eq!(form.operation(), Operation::Embeddings, "{name}");
        grows_linearly(&format!("{name}, embeddings"), SIZE, body, |body| {
            let asked = RequestView { form, path, query: "", body: &body };
            (caller.envelope(&asked).unwrap().stream, caller.echo(form, &body))
        });
        let quirks = Quirks::default();
        for upstream in DIALECTS {
            let place = format!("{name}, embeddings, to {}", upstream.name());
            let Some(own) = upstream.form_of(Operation::Embeddings) else { continue };
            let target = |form| Target { model: "m", stream: false, form, quirks: &quirks };
            if upstream.name() == name {
                grows_linearly(&place, SIZE, body, |body| {
                    upstream.edit_request(&body, &target(form)).unwrap()
                });
                continue;
            }
            // Some take fewer texts, and none of them more work to be asked for too many.
            grows_linearly(&place, SIZE, body, |body| {
                let request = caller.decode_embeddings(form, &body).unwrap();
                adapt::write_embeddings(request, *upstream, &target(own), false).is_ok()
            });
        }
    }
}

#[test]
fn answers() {
    let upstream = by_name("openai-chat").unwrap();
    let own = upstream.form_of(Operation::Embeddings).unwrap();
    // The last one first.
    let answer = |n: usize| {
        let vector = |i: usize| {
            format!(r#"{{"object":"embedding","index":{},"embedding":[0.5,-1.25]}}"#, n - 1 - i)
        };
        let json = format!(
            r#"{{"object":"list","model":"m","data":[{}],"usage":{{"prompt_tokens":1}}}}"#,
            list(n, vector)
        );
        (n, Bytes::from(json))
    };
    for (name, path, body) in endpoints() {
        let caller: &dyn CallerDialect =
            caller_dialects().find(|dialect| dialect.name() == name).unwrap();
        let form = form(caller, &body(1), path);
        grows_linearly(&format!("embeddings, to {name}"), SIZE, answer, |(inputs, bytes)| {
            let decoder = Box::new(Verified { inner: upstream.decoder(own), inputs });
            let call = streamgate::wire::dialect::ResponseContext { form, ..call(false) };
            let encoder = caller.encoder(&call, Mode::Translated);
            let mut transcoder =
                Transcoder::new(Framing::Whole, 64 << 20, decoder, encoder, Mode::Translated);
            let mut out = BytesMut::new();
            transcoder.push(bytes, &mut out);
            transcoder.finish(&mut out);
            assert_eq!(transcoder.end(), Some(&End::Complete), "{name}");
            assert!(!out.is_empty());
            out
        });
    }
}
