//! A serde deserializer for requests that accepts JSON types as the vendors' own servers do: an object is never
//! read from an array, an enum value is a string, and an integer may be written as `1.0`.
//!
//! Everything else that a `Deserialize` type accepts is unchanged, and errors are those of the inner
//! deserializer. Pure.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

/// JSON values that are accepted as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// JSON numbers only.
    Json,
    /// Strings that hold a number as well (JSON mapping of Protocol Buffers, "Either numbers or strings are
    /// accepted").
    Protobuf,
}

/// A deserializer, or a part of serde's protocol, that enforces these rules.
#[derive(Debug)]
pub(crate) struct Typed<T> {
    inner: T,
    numbers: Numbers,
}

impl<T> Typed<T> {
    /// Wraps a deserializer.
    pub(crate) fn new(inner: T, numbers: Numbers) -> Self {
        Self { inner, numbers }
    }

    fn wrap<U>(&self, inner: U) -> Typed<U> {
        Typed { inner, numbers: self.numbers }
    }
}

/// Methods of a deserializer that only wrap the visitor.
macro_rules! wrapped {
    ($($method:ident($($name:ident: $kind:ty),*)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, $($name: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.wrap(visitor);
            self.inner.$method($($name,)* visitor)
        })*
    };
}

/// Methods that read a number of one type.
macro_rules! numbers {
    ($($method:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            match self.numbers {
                Numbers::Json => self.inner.$method(Number(visitor)),
                Numbers::Protobuf => self.inner.deserialize_any(Number(visitor)),
            }
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Typed<D> {
    type Error = D::Error;

    wrapped! {
        deserialize_any(), deserialize_bool(), deserialize_i128(), deserialize_u128(), deserialize_char(),
        deserialize_str(), deserialize_string(), deserialize_bytes(), deserialize_byte_buf(),
        deserialize_option(), deserialize_unit(), deserialize_unit_struct(name: &'static str),
        deserialize_newtype_struct(name: &'static str), deserialize_seq(), deserialize_tuple(len: usize),
        deserialize_tuple_struct(name: &'static str, len: usize), deserialize_map(),
        deserialize_identifier(), deserialize_ignored_any(),
    }

    numbers! {
        deserialize_i8, deserialize_i16, deserialize_i32, deserialize_i64, deserialize_u8, deserialize_u16,
        deserialize_u32, deserialize_u64, deserialize_f32, deserialize_f64
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Word { visitor, variants })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Typed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<S::Value, D::Error> {
        let source = self.wrap(source);
        self.inner.deserialize(source)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Typed<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = self.wrap(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Typed<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        // Member names are strings, regardless of the form of numbers.
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.wrap(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// Methods of a visitor that forward a scalar.
macro_rules! passed {
    ($($method:ident: $kind:ty),* $(,)?) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Typed<V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(out)
    }

    passed! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128,
        visit_f64: f64, visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<V::Value, D::Error> {
        let source = self.wrap(source);
        self.inner.visit_some(source)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, source: D) -> Result<V::Value, D::Error> {
        let source = self.wrap(source);
        self.inner.visit_newtype_struct(source)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let items = self.wrap(items);
        self.inner.visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        let members = self.wrap(members);
        self.inner.visit_map(members)
    }
}

/// The visitor of a number. Integral values are passed as integers, which visitors of floats accept as well.
struct Number<V>(V);

/// The first float above the range of `u64`.
const BEYOND: f64 = 18_446_744_073_709_551_616.0;
/// The smallest float in the range of `i64`.
const LEAST: f64 = -9_223_372_036_854_775_808.0;

impl<'de, V: Visitor<'de>> Visitor<'de> for Number<V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(out)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<V::Value, E> {
        self.0.visit_i64(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<V::Value, E> {
        self.0.visit_u64(number)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    fn visit_f64<E: Error>(self, number: f64) -> Result<V::Value, E> {
        if number.fract() != 0.0 {
            return self.0.visit_f64(number);
        }
        match number {
            0.0..BEYOND => self.0.visit_u64(number as u64),
            LEAST..0.0 => self.0.visit_i64(number as i64),
            _ => self.0.visit_f64(number),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        if let Ok(number) = text.parse() {
            return self.visit_u64(number);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => self.visit_f64(number),
            _ => self.0.visit_str(text),
        }
    }
}

/// The visitor of an enum with string values.
struct Word<V> {
    visitor: V,
    variants: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    /// Lists the variants in serde's format for an unknown variant.
    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.variants.iter().map(|word| format!("`{word}`")).collect();
        match words.as_slice() {
            [one] => out.write_str(one),
            [one, other] => write!(out, "{one} or {other}"),
            _ => write!(out, "one of {}", words.join(", ")),
        }
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        self.visitor.visit_enum(word.into_deserializer())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        User,
        Model,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Body<'a> {
        role: Option<Role>,
        count: Option<u64>,
        seed: Option<i64>,
        weight: Option<f64>,
        inner: Option<Box<Self>>,
        #[serde(borrow)]
        raw: Option<&'a serde_json::value::RawValue>,
    }

    fn read(json: &str, numbers: Numbers) -> Result<Body<'_>, String> {
        let mut source = serde_json::Deserializer::from_str(json);
        let body = Body::deserialize(Typed::new(&mut source, numbers));
        body.map_err(|error| error.to_string())
    }

    #[test]
    fn whole_numbers_may_have_a_point_or_an_exponent() {
        for (json, count, seed) in [
            (r#"{"count":1.0,"seed":-1.0}"#, 1, -1),
            (r#"{"count":1e3,"seed":-2e1}"#, 1000, -20),
            (r#"{"count":18446744073709551615,"seed":-0.0}"#, u64::MAX, 0),
        ] {
            for numbers in [Numbers::Json, Numbers::Protobuf] {
                let body = read(json, numbers).unwrap();
                assert_eq!((body.count, body.seed), (Some(count), Some(seed)), "{json}");
            }
        }
        for json in [
            r#"{"count":1.5}"#,
            r#"{"count":-1.0}"#,
            r#"{"count":1e20}"#,
            r#"{"seed":-1e20}"#,
            r#"{"seed":1e19}"#,
        ] {
            let error = read(json, Numbers::Json).unwrap_err();
            assert!(error.contains("64"), "{json}: {error}");
        }
    }

    #[test]
    fn texts_are_numbers_to_protobuf_alone() {
        let json = r#"{"count":"8","seed":"-8.0","weight":"0.5"}"#;
        let body = read(json, Numbers::Protobuf).unwrap();
        assert_eq!((body.count, body.seed, body.weight), (Some(8), Some(-8), Some(0.5)));
        assert!(read(json, Numbers::Json).unwrap_err().contains("expected u64"));
        for json in
            [r#"{"count":"x"}"#, r#"{"weight":"NaN"}"#, r#"{"count":""}"#, r#"{"count":[]}"#]
        {
            let error = read(json, Numbers::Protobuf).unwrap_err();
            assert!(error.contains("64"), "{json}: {error}");
        }
    }

    #[test]
    fn objects_are_not_read_from_arrays_nor_words_from_anything_else() {
        for (json, expected) in [
            ("[]", "expected struct Body"),
            (r#"{"inner":[]}"#, "expected struct Body"),
            (r#"{"inner":{"inner":["user"]}}"#, "expected struct Body"),
            (r#"{"role":7}"#, "expected `user` or `model`"),
            (r#"{"role":{"user":null}}"#, "expected `user` or `model`"),
            (r#"{"role":"x"}"#, "expected `user` or `model`"),
        ] {
            let error = read(json, Numbers::Json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let body = read(r#"{"inner":{"role":"user","raw":[1, 2]}}"#, Numbers::Json).unwrap();
        let inner = body.inner.unwrap();
        assert_eq!(inner.role, Some(Role::User));
        assert_eq!(inner.raw.unwrap().get(), "[1, 2]");
    }
}
