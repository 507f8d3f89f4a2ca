//! Encoded bodies of every kind: whole, cut anywhere, damaged, mislabelled, and bombs.

use std::io::Write;

use super::*;

const ALL: [ContentEncoding; 4] = [
    ContentEncoding::Gzip,
    ContentEncoding::Deflate,
    ContentEncoding::Brotli,
    ContentEncoding::Zstd,
];

fn decode(encoding: ContentEncoding, body: &[u8], limit: usize) -> Result<Vec<u8>, ApiError> {
    encoding.decode(body, limit, |_| Ok(()))
}

fn encoded(encoding: ContentEncoding, plain: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match encoding {
        ContentEncoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        ContentEncoding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        ContentEncoding::Brotli => {
            let mut out = Vec::new();
            let mut plain = plain;
            let params = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
            brotli::BrotliCompress(&mut plain, &mut out, &params).unwrap();
            out
        }
        ContentEncoding::Zstd => {
            ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
        }
    }
}

fn prose(length: usize) -> Vec<u8> {
    let mut seed = 7_u32;
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"etaoin shrdlu\n{}"[(seed >> 28) as usize]
    })
    .take(length)
    .collect()
}

#[test]
fn whole_bodies_come_back() {
    for encoding in ALL {
        for length in [0, 1, 1000, 300_000] {
            let plain = prose(length);
            let decoded = decode(encoding, &encoded(encoding, &plain), length).unwrap();
            assert!(decoded == plain, "{encoding:?} {length}");
        }
    }
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    raw.write_all(b"raw deflate").unwrap();
    let decoded = decode(ContentEncoding::Deflate, &raw.finish().unwrap(), 100).unwrap();
    assert_eq!(decoded, b"raw deflate");
    for encoding in [ContentEncoding::Gzip, ContentEncoding::Zstd] {
        let two = [encoded(encoding, b"one "), encoded(encoding, b"two")].concat();
        assert_eq!(decode(encoding, &two, 100).unwrap(), b"one two", "{encoding:?}");
    }
}

#[test]
fn a_body_that_is_cut_anywhere_is_refused() {
    for encoding in ALL {
        let whole = encoded(encoding, &prose(300));
        for end in 0..whole.len() {
            let fault = decode(encoding, &whole[..end], 1 << 20).unwrap_err();
            assert_eq!(fault.kind, Kind::Invalid, "{encoding:?} cut at {end} of {}", whole.len());
            assert!(fault.message.contains(encoding.name()), "{fault:?}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    raw.write_all(&prose(300)).unwrap();
    let raw = (ContentEncoding::Deflate, raw.finish().unwrap());
    // The last is larger than what a decoder buffers.
    for length in [0, 300, 300_000] {
        let bodies = ALL.map(|encoding| (encoding, encoded(encoding, &prose(length))));
        for (encoding, body) in bodies.into_iter().chain([raw.clone()]) {
            for rest in [&b"x"[..], &[0xff; 9], &vec![b' '; 200_000]] {
                let fault = decode(encoding, &[&body, rest].concat(), 1 << 20).unwrap_err();
                assert_eq!(fault.kind, Kind::Invalid, "{encoding:?} {length} {}", rest.len());
                assert!(fault.message.contains("bytes after it"), "{fault:?}");
            }
        }
    }
}

#[test]
fn other_bytes_are_refused() {
    for encoding in ALL {
        for body in [&b"{\"model\":\"m\"}"[..], &[0xff; 64], &[0; 64], b"PK\x03\x04"] {
            let Err(fault) = decode(encoding, body, 1 << 20) else {
                // An empty stream of zeros is an empty body, which no request is.
                assert!(decode(encoding, body, 1 << 20).unwrap().is_empty(), "{encoding:?}");
                continue;
            };
            assert!(matches!(fault.kind, Kind::Invalid), "{encoding:?} {fault:?}");
        }
        for other in ALL.into_iter().filter(|other| *other != encoding) {
            let body = encoded(other, &prose(2000));
            let decoded = decode(encoding, &body, 1 << 20);
            assert!(
                decoded.is_err_and(|fault| fault.kind == Kind::Invalid),
                "{encoding:?} {other:?}"
            );
        }
    }
}

#[test]
fn damaged_bytes_are_noticed() {
    // Brotli has no checksum.
    for encoding in [ContentEncoding::Gzip, ContentEncoding::Deflate] {
        let mut body = encoded(encoding, &prose(2000));
        let last = body.len() - 1;
        body[last] ^= 1;
        assert_eq!(decode(encoding, &body, 1 << 20).unwrap_err().kind, Kind::Invalid);
    }
    let mut body = encoded(ContentEncoding::Zstd, &prose(2000));
    let last = body.len() - 1;
    body[last] ^= 1;
    let decoded = decode(ContentEncoding::Zstd, &body, 1 << 20);
    assert!(decoded.is_err_and(|fault| fault.kind == Kind::Invalid));
}

#[test]
fn bombs_are_not_unpacked() {
    for encoding in ALL {
        let bomb = encoded(encoding, &vec![b' '; 8 << 20]);
        let fault = decode(encoding, &bomb, 4 << 20).unwrap_err();
        assert_eq!(fault.kind, Kind::TooLarge, "{encoding:?}");
        // The limit is not reached, and the ratio is.
        let fault = decode(encoding, &bomb, 64 << 20).unwrap_err();
        assert_eq!(fault.kind, Kind::TooLarge, "{encoding:?}");
        assert!(fault.message.contains("200 times"), "{encoding:?} {fault:?}");
        // One byte more than the limit.
        let body = encoded(encoding, &prose(1001));
        assert_eq!(decode(encoding, &body, 1000).unwrap_err().kind, Kind::TooLarge);
    }
}

#[test]
fn one_known_encoding_is_taken() {
    let of = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        ContentEncoding::of(&headers)
    };
    for (values, expected) in [
        (&[][..], None),
        (&["identity"], None),
        (&[""], None),
        (&["GZIP"], Some(ContentEncoding::Gzip)),
        (&["x-gzip"], Some(ContentEncoding::Gzip)),
        (&["identity, br"], Some(ContentEncoding::Brotli)),
        (&["zstd"], Some(ContentEncoding::Zstd)),
        (&["deflate"], Some(ContentEncoding::Deflate)),
    ] {
        assert_eq!(of(values).unwrap(), expected, "{values:?}");
    }
    for values in [&["compress"][..], &["gzip, gzip"], &["gzip", "br"], &["gzip;q=1"], &["dcz"]] {
        let fault = of(values).unwrap_err();
        assert_eq!((fault.kind, fault.code.as_deref()), (Kind::MediaType, Some(UNSUPPORTED)));
    }
}

/// The largest window is a bound of the gateway, so that the error is about the window and not the body.
#[test]
fn a_large_window_is_reported_as_one() {
    let frame = |window: u8| [0x28, 0xB5, 0x2F, 0xFD, 0, window, 1, 0, 0];
    assert_eq!(decode(ContentEncoding::Zstd, &frame(13 << 3), 64).unwrap(), b"");
    let fault = decode(ContentEncoding::Zstd, &frame(14 << 3), 64).unwrap_err();
    assert_eq!(fault.kind, Kind::Invalid);
    assert!(fault.message.contains("a zstd window of more than 8 MiB"), "{}", fault.message);
}
