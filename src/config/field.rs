//! Description of the configuration: every key with its name, notation, default and meaning, each stated once.
//!
//! The reader, its error messages, the defaults, the JSON Schema and `docs/configuration.md` follow from it.
//! It must never hold a value that a file or the environment gave.

use std::ops::Deref;

use super::reader::one_of;

/// Notation of a scalar. Patterns are ECMA 262, for a whole text.
#[derive(Clone, Copy)]
pub(super) enum Notation {
    /// Any text that is not empty, also one that YAML reads as a number or a boolean.
    Text,
    /// Any text, even an empty one.
    Empty,
    /// A text of a pattern, also one that YAML reads as a number or a boolean.
    Name(&'static str),
    /// A text of a pattern that is never a number or a boolean.
    Pattern(&'static str),
    /// `true` or `false`.
    Boolean,
    /// A whole number, or a text of a pattern.
    Integer { min: u64, max: u64, text: &'static str },
    /// A decimal number.
    Number { min: f64, max: f64 },
    /// One of these values.
    Choice(fn() -> Vec<&'static str>),
}

/// A scalar: its notation, and its names for people.
#[derive(Clone, Copy)]
pub(super) struct Scalar {
    /// In the reference: `duration`, `size`.
    pub(super) label: &'static str,
    /// In error messages, after "expected".
    expected: &'static str,
    pub(super) notation: Notation,
    /// Whether `none` is a value as well.
    pub(super) or_none: bool,
    /// Whether error messages leave out the value, which may be a credential.
    pub(super) is_secret: bool,
}

impl Scalar {
    /// Completes "expected ..." in an error message.
    pub(super) fn expected(&self) -> String {
        let expected = match self.notation {
            Notation::Choice(words) => one_of(words().into_iter()),
            _ => self.expected.to_owned(),
        };
        if self.or_none { format!("{expected}, or `none`") } else { expected }
    }
}

/// A scalar that `parse` reads.
#[derive(Clone, Copy)]
pub(super) struct Format<T: 'static> {
    pub(super) scalar: Scalar,
    pub(super) parse: fn(&str) -> Option<T>,
}

impl<T> Format<T> {
    /// `label` is the format's name in the reference; `expected` completes error messages.
    pub(super) const fn new(
        label: &'static str,
        expected: &'static str,
        notation: Notation,
        parse: fn(&str) -> Option<T>,
    ) -> Self {
        Self {
            scalar: Scalar { label, expected, notation, or_none: false, is_secret: false },
            parse,
        }
    }

    /// One of these values.
    pub(super) const fn choice(
        words: fn() -> Vec<&'static str>,
        parse: fn(&str) -> Option<T>,
    ) -> Self {
        Self::new("", "", Notation::Choice(words), parse)
    }

    /// The same, or `none`; `parse` reads both.
    pub(super) const fn or_none<U>(self, parse: fn(&str) -> Option<U>) -> Format<U> {
        Format { scalar: Scalar { or_none: true, ..self.scalar }, parse }
    }

    /// The same, never shown in error messages.
    pub(super) const fn secret(self) -> Self {
        Self { scalar: Scalar { is_secret: true, ..self.scalar }, ..self }
    }

    /// A key with one such value.
    pub(super) const fn key(self, name: &'static str, about: &'static str) -> Field<T> {
        let key = Key::new(name, about, Item::Scalar(self.scalar), Arity::One);
        Field { key, format: self }
    }

    /// A key with a list of such values.
    pub(super) const fn list(self, name: &'static str, about: &'static str) -> Field<T> {
        let key = Key::new(name, about, Item::Scalar(self.scalar), Arity::List);
        Field { key, format: self }
    }

    /// A key with one such value, or a list of them.
    pub(super) const fn one_or_list(self, name: &'static str, about: &'static str) -> Field<T> {
        let key = Key::new(name, about, Item::Scalar(self.scalar), Arity::OneOrList);
        Field { key, format: self }
    }

    /// A key with a table of such values; the names in it match the pattern `names`.
    pub(super) const fn map(
        self,
        name: &'static str,
        about: &'static str,
        names: &'static str,
    ) -> Field<T> {
        let key = Key::new(name, about, Item::Scalar(self.scalar), Arity::Map { names });
        Field { key, format: self }
    }
}

/// The kind of value at a key.
#[derive(Clone, Copy)]
pub(super) enum Item {
    Scalar(Scalar),
    Table(&'static [Key]),
    ScalarOrTable(Scalar, &'static [Key]),
    /// Any value.
    Json,
}

/// The number of items at a key.
#[derive(Clone, Copy)]
pub(super) enum Arity {
    One,
    List,
    OneOrList,
    /// A table whose keys are names of the operator's choice.
    Map {
        names: &'static str,
    },
    /// The same; a name without a value is complete.
    MapOrNull {
        names: &'static str,
    },
}

/// The value of a key that is left out.
#[derive(Clone, Copy)]
pub(super) enum Absent {
    /// None, or nothing to document.
    Nothing,
    /// The key must be there.
    Required,
    /// The same as this value in the file.
    Value(&'static str),
    /// A rule, in prose.
    Rule(&'static str),
}

/// One key of the configuration.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// One sentence for the reference and for editors.
    pub(super) about: &'static str,
    pub(super) item: Item,
    pub(super) arity: Arity,
    pub(super) absent: Absent,
    /// A value for the reference, where the notation does not show one.
    pub(super) example: Option<&'static str>,
}

impl Key {
    const fn new(name: &'static str, about: &'static str, item: Item, arity: Arity) -> Self {
        Self { name, about, item, arity, absent: Absent::Nothing, example: None }
    }

    /// A table of any values; the names in it match the pattern `names`.
    pub(super) const fn json_map(
        name: &'static str,
        about: &'static str,
        names: &'static str,
    ) -> Self {
        Self::new(name, about, Item::Json, Arity::Map { names })
    }

    /// An example for the reference.
    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }

    /// The keys below this one.
    pub(super) fn keys(&self) -> &'static [Self] {
        match self.item {
            Item::Table(keys) | Item::ScalarOrTable(_, keys) => keys,
            Item::Scalar(_) | Item::Json => &[],
        }
    }
}

/// A key with scalars of one format.
#[derive(Clone, Copy)]
pub(super) struct Field<T: 'static> {
    pub(super) key: Key,
    pub(super) format: Format<T>,
}

impl<T> Field<T> {
    /// The default of a key that is left out, in the notation of the file.
    pub(super) const fn default(self, value: &'static str) -> Self {
        self.absent(Absent::Value(value))
    }

    /// The rule for a key that is left out, in prose.
    pub(super) const fn otherwise(self, rule: &'static str) -> Self {
        self.absent(Absent::Rule(rule))
    }

    /// The key must be there.
    pub(super) const fn required(self) -> Self {
        self.absent(Absent::Required)
    }

    /// An example for the reference.
    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { key: self.key.example(example), ..self }
    }

    const fn absent(self, absent: Absent) -> Self {
        Self { key: Key { absent, ..self.key }, ..self }
    }

    /// The default as a value.
    #[expect(clippy::expect_used, reason = "a test loads every default of the description")]
    pub(super) fn default_value(&self) -> T {
        let value = match self.key.absent {
            Absent::Value(text) => (self.format.parse)(text),
            Absent::Nothing | Absent::Required | Absent::Rule(_) => None,
        };
        value.expect("a default in the notation of its key")
    }
}

impl<T> Deref for Field<T> {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.key
    }
}

/// A key with tables of known keys.
#[derive(Clone, Copy)]
pub(super) struct Section {
    pub(super) key: Key,
    pub(super) keys: &'static [Key],
}

impl Section {
    /// A table.
    pub(super) const fn table(
        name: &'static str,
        about: &'static str,
        keys: &'static [Key],
    ) -> Self {
        Self { key: Key::new(name, about, Item::Table(keys), Arity::One), keys }
    }

    /// A list of tables.
    pub(super) const fn list(
        name: &'static str,
        about: &'static str,
        keys: &'static [Key],
    ) -> Self {
        Self { key: Key::new(name, about, Item::Table(keys), Arity::List), keys }
    }

    /// A table of tables; the names in it match the pattern `names`.
    pub(super) const fn map(
        name: &'static str,
        about: &'static str,
        keys: &'static [Key],
        names: &'static str,
    ) -> Self {
        Self { key: Key::new(name, about, Item::Table(keys), Arity::Map { names }), keys }
    }

    /// The same, where a name without a value is complete.
    pub(super) const fn or_null(self) -> Self {
        let arity = match self.key.arity {
            Arity::Map { names } => Arity::MapOrNull { names },
            other => other,
        };
        Self { key: Key { arity, ..self.key }, ..self }
    }

    /// A table, or a scalar in its place.
    pub(super) const fn or(self, scalar: Scalar) -> Self {
        let item = Item::ScalarOrTable(scalar, self.keys);
        Self { key: Key { item, ..self.key }, ..self }
    }

    /// The rule for a key that is left out, in prose.
    pub(super) const fn otherwise(self, rule: &'static str) -> Self {
        Self { key: Key { absent: Absent::Rule(rule), ..self.key }, ..self }
    }

    /// The key must be there.
    pub(super) const fn required(self) -> Self {
        Self { key: Key { absent: Absent::Required, ..self.key }, ..self }
    }
}

impl Deref for Section {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.key
    }
}
