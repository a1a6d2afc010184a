//! Which keys the settings of a type have. The answer comes from their own `Deserialize`, so there is no list to keep up to
//! date.

use std::cell::Cell;

use serde::de::value::{Error, MapDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

/// A key with the tables that contain it, the outermost first. Tables are keys, too.
pub type Key = Vec<&'static str>;

/// All keys of `T`, in the order of its fields.
pub fn of<T: DeserializeOwned>() -> Vec<Key> {
    let mut all = Vec::new();
    below::<T>(&mut Vec::new(), &mut all);
    all
}

fn below<T: DeserializeOwned>(table: &mut Key, all: &mut Vec<Key>) {
    let found = Cell::new(None);
    // An error in each case: nobody is given a value.
    let _ = T::deserialize(Question { table, found: &found });
    for name in found.get().unwrap_or_default() {
        table.push(name);
        all.push(table.clone());
        below::<T>(table, all);
        table.pop();
    }
}

/// Asks which keys the table at `table` has.
struct Question<'a> {
    table: &'a [&'static str],
    found: &'a Cell<Option<&'static [&'static str]>>,
}

impl<'de> Deserializer<'de> for Question<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("only asked"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.table.split_first() {
            None => {
                self.found.set(Some(fields));
                self.deserialize_any(visitor)
            }
            Some((name, table)) => {
                let inner = std::iter::once((*name, Question { table, ..self }));
                visitor.visit_map(MapDeserializer::new(inner))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Question<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        first: u8,
        inner: Option<Inner>,
        list: Vec<Inner>,
        text: String,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        deep: Wrapped,
        last: bool,
    }

    #[derive(Deserialize)]
    struct Wrapped(#[allow(dead_code)] Deepest);

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Deepest {
        here: f64,
    }

    #[test]
    fn keys_are_those_of_all_tables() {
        let keys: Vec<String> = of::<Outer>().iter().map(|key| key.join(".")).collect();
        let expected = ["first", "inner", "inner.deep", "inner.deep.here", "inner.last", "list", "text"];
        assert_eq!(keys, expected);
    }
}
