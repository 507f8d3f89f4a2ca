//! Tests of vectors and texts, independent of dialects.

use serde_json::value::RawValue;

use super::*;

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn numbers_keep_their_digits() {
    let written = "[0.10000000000000000555, -1e-7,1E+2 ,0]";
    let value = raw(written);
    let vector = Vector::new(&value);
    assert_eq!(vector.numbers(), written);
    assert_eq!(vector.dimensions(), Some(4));
}

#[test]
fn base64_holds_the_nearest_32_bits() {
    // 16777217 lies halfway between two floats; the last number is nearer to the upper one only in digits
    // beyond 64-bit precision.
    let value = raw("[0.1,-2.5,16777217,16777217.0000000000001,1e-45]");
    let packed = Vector::new(&value).base64();
    let floats = [0.1f32, -2.5, 16_777_216.0, 16_777_218.0, f32::from_bits(1)];
    let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
    assert_eq!(packed, quoted(&STANDARD.encode(&bytes)));
    let value = raw(&packed);
    let back = Vector::new(&value);
    assert_eq!(back.dimensions(), Some(5));
    assert_eq!(serde_json::from_str::<Vec<f32>>(&back.numbers()).unwrap(), floats);
    assert_eq!(back.base64(), packed, "it is passed on as it came");
    let value = raw("\"zczMPQAAIMA=\"");
    assert_eq!(Vector::new(&value).numbers(), "[0.1,-2.5]");
}

#[test]
fn what_is_no_vector_is_seen() {
    for json in [
        "[]",
        "null",
        "7",
        "{}",
        "[null]",
        "[[1]]",
        r#"["1"]"#,
        "[1,true]",
        "[1e39]",
        "\"\"",
        "\"????\"",
        "\"AAA=\"",
        "\"AACAfw==\"",
        "\"AADAfw==\"",
    ] {
        let value = raw(json);
        assert_eq!(Vector::new(&value).dimensions(), None, "{json}");
    }
}

#[test]
fn texts_are_read_strictly() {
    assert_eq!(texts("input", &raw(r#""a\n""#)).unwrap(), ["a\n"]);
    assert_eq!(texts("input", &raw(r#"["a",""]"#)).unwrap(), ["a", ""]);
    for (json, param) in [
        ("[]", "input"),
        ("7", "input"),
        ("null", "input"),
        ("{}", "input"),
        (r#"["a",7]"#, "input[1]"),
        (r#"["a",null]"#, "input[1]"),
    ] {
        let fault = texts("input", &raw(json)).unwrap_err();
        assert_eq!((fault.kind, fault.param.as_deref()), (Kind::Invalid, Some(param)), "{json}");
    }
}
