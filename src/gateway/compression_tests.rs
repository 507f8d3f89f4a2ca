//! Compressed bodies, decoded by libraries other than those that compress where there are any: equality, memory and
//! bodies that fail.

use axum::Error;
use futures_util::stream;

use super::super::content_encoding::ContentEncoding;
use super::*;
use crate::wire::chat::ApiError;

/// Parts of a body: of no bytes, of one event, of more than all windows.
fn parts() -> Vec<Bytes> {
    let token = |number: u32| format!("data: {{\"t\":\"t{number} \"}}\nid: k3v9_{number:010}\n\n");
    let mut seed = 7_u32;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    });
    let mut parts: Vec<Bytes> = (0..300).map(|number| token(number).into()).collect();
    parts.push(Bytes::new());
    parts.push(noise.take(200_000).collect());
    parts.push(token(300).repeat(4000).into());
    parts
}

fn decoded(encoding: StreamEncoding, bytes: &[u8]) -> Result<Vec<u8>, ApiError> {
    let encoding = match encoding {
        StreamEncoding::Gzip => ContentEncoding::Gzip,
        StreamEncoding::Brotli => ContentEncoding::Brotli,
        StreamEncoding::Zstd => ContentEncoding::Zstd,
    };
    encoding.decode(bytes, usize::MAX, |_| Ok::<_, ApiError>(()))
}

#[test]
fn a_decoded_body_equals_the_body() {
    for encoding in StreamEncoding::ALL {
        let mut encoder = Encoder::new(encoding).unwrap();
        let mut all = Vec::new();
        for part in parts() {
            let encoded = encoder.encode(&part).unwrap();
            assert!(part.is_empty() || !encoded.is_empty(), "{encoding:?} holds a part back");
            all.extend_from_slice(&encoded);
        }
        all.extend_from_slice(&encoder.finish().unwrap());
        assert!(decoded(encoding, &all).unwrap() == parts().concat(), "{encoding:?}");
    }
}

#[tokio::test]
async fn a_body_that_fails_has_no_end_that_a_decoder_accepts() {
    for encoding in StreamEncoding::ALL {
        let part = Bytes::from_static(b"data: a\n\n");
        let failing = [Ok(part.clone()), Err(Error::new("cut")), Ok(part)];
        let body = Body::from_stream(stream::iter(failing));
        let body: Vec<_> = compressed(body, Encoder::new(encoding).unwrap()).collect().await;
        let [Ok(part), Err(_)] = &body[..] else { panic!("{encoding:?}: {body:?}") };
        assert!(decoded(encoding, part).is_err(), "{encoding:?}");
    }
}
