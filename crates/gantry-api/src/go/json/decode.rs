//! A [`serde_json::Value`] into a type, by Go's rules.

use super::JsonError;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::Value;
use std::fmt;

/// Decodes a value. The types follow [`crate`]'s: structs with defaults for every field.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, JsonError> {
    T::deserialize(Node {
        value,
        path: &Path::Root,
    })
    .map_err(|error| JsonError(error.text))
}

/// Where a value stands, from the inside out.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    /// Go names no index.
    Item(&'a Path<'a>),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(outer, key) => write!(f, "{outer}.{key}"),
            Self::Item(outer) => write!(f, "{outer}"),
        }
    }
}

struct Node<'a> {
    value: &'a Value,
    path: &'a Path<'a>,
}

#[derive(Debug)]
struct DecodeError {
    text: String,
    /// The text names the place already.
    placed: bool,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self {
            text: text.to_string(),
            placed: false,
        }
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{found}, expected {expected}"))
    }
}

/// Go's name for the kind of a JSON value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl<'a> Node<'a> {
    /// `json: cannot unmarshal number into Go struct field .Image of type string`
    fn wrong(&self, go_type: &str) -> DecodeError {
        let what = match self.value {
            Value::Number(number) if is_integer(go_type) => format!("number {number}"),
            other => kind(other).to_owned(),
        };
        let place = match self.path {
            Path::Root => "Go value".to_owned(),
            path => format!("Go struct field {path}"),
        };
        DecodeError {
            text: format!("json: cannot unmarshal {what} into {place} of type {go_type}"),
            placed: true,
        }
    }

    /// A visitor's own complaint (a value that its type does not take) as a complaint about this place.
    fn place(&self, error: DecodeError, go_type: &str) -> DecodeError {
        if error.placed {
            error
        } else {
            self.wrong(go_type)
        }
    }
}

fn is_integer(go_type: &str) -> bool {
    go_type.starts_with("int") || go_type.starts_with("uint")
}

macro_rules! integer {
    ($method:ident, $visit:ident, $number:ty, $go:literal) => {
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let number = match self.value {
                Value::Null => Some(0),
                Value::Number(number) => number
                    .as_i64()
                    .map(i128::from)
                    .or(number.as_u64().map(i128::from))
                    .and_then(|wide| <$number>::try_from(wide).ok()),
                _ => None,
            };
            match number {
                Some(number) => visitor.$visit(number),
                None => Err(self.wrong($go)),
            }
        }
    };
}

impl<'de> de::Deserializer<'de> for Node<'_> {
    type Error = DecodeError;

    integer!(deserialize_i8, visit_i8, i8, "int8");
    integer!(deserialize_i16, visit_i16, i16, "int16");
    integer!(deserialize_i32, visit_i32, i32, "int");
    integer!(deserialize_i64, visit_i64, i64, "int64");
    integer!(deserialize_u8, visit_u8, u8, "uint8");
    integer!(deserialize_u16, visit_u16, u16, "uint16");
    integer!(deserialize_u32, visit_u32, u32, "uint");
    integer!(deserialize_u64, visit_u64, u64, "uint64");

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.wrong("bool")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value.as_f64() {
            Some(number) => visitor.visit_f64(number),
            None if self.value.is_null() => visitor.visit_f64(0.0),
            None => Err(self.wrong("float64")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            Value::String(text) => visitor
                .visit_str(text)
                .map_err(|error| self.place(error, "string")),
            _ => Err(self.wrong("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let items: &[Value] = match self.value {
            Value::Null => &[],
            Value::Array(items) => items,
            // The type of the items is not known here; Go's name of the commonest is.
            _ => return Err(self.wrong("[]string")),
        };
        visitor
            .visit_seq(Items {
                items: items.iter(),
                path: Path::Item(self.path),
            })
            .map_err(|error| self.place(error, "[]string"))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_map(Members::default()),
            Value::Object(map) => visitor.visit_map(Members {
                entries: map
                    .iter()
                    .map(|(key, value)| (key.as_str(), value))
                    .collect::<Vec<_>>()
                    .into_iter(),
                next: None,
                path: Some(self.path),
            }),
            _ => Err(self.wrong("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_map(Members::default()),
            Value::Object(map) => {
                let entries = map.iter().filter(|(_, value)| !value.is_null());
                let mut named: Vec<(&str, &Value)> = Vec::with_capacity(map.len());
                for (key, value) in entries {
                    let known = fields
                        .iter()
                        .find(|field| **field == key.as_str())
                        .or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(key)));
                    if let Some(field) = known {
                        // Of two spellings of one key the last counts.
                        named.retain(|(other, _)| other != field);
                        named.push((field, value));
                    }
                }
                visitor.visit_map(Members {
                    entries: named.into_iter(),
                    next: None,
                    path: Some(self.path),
                })
            }
            _ => Err(self.wrong(name)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::String(text) => visitor
                .visit_enum(Name(text))
                .map_err(|error| self.place(error, "string")),
            _ => Err(self.wrong("string")),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            Value::Number(number) => {
                if let Some(number) = number.as_i64() {
                    visitor.visit_i64(number)
                } else if let Some(number) = number.as_u64() {
                    visitor.visit_u64(number)
                } else {
                    self.deserialize_f64(visitor)
                }
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple_struct identifier
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    path: Path<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        match self.items.next() {
            None => Ok(None),
            Some(value) => seed
                .deserialize(Node {
                    value,
                    path: &self.path,
                })
                .map(Some),
        }
    }
}

#[derive(Default)]
struct Members<'a> {
    entries: std::vec::IntoIter<(&'a str, &'a Value)>,
    next: Option<(&'a str, &'a Value)>,
    path: Option<&'a Path<'a>>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        self.next = self.entries.next();
        match self.next {
            None => Ok(None),
            Some((key, _)) => seed.deserialize(key.into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let (Some((key, value)), Some(outer)) = (self.next.take(), self.path) else {
            return Err(de::Error::custom("a value is asked for before its key"));
        };
        seed.deserialize(Node {
            value,
            path: &Path::Key(outer, key),
        })
    }
}

struct Name<'a>(&'a str);

impl<'de> EnumAccess<'de> for Name<'_> {
    type Error = DecodeError;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), DecodeError> {
        let value = seed.deserialize(self.0.into_deserializer())?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Name<'_> {
    type Error = DecodeError;
    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        _seed: T,
    ) -> Result<T::Value, DecodeError> {
        Err(de::Error::custom("a name alone is expected"))
    }
    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, DecodeError> {
        Err(de::Error::custom("a name alone is expected"))
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, DecodeError> {
        Err(de::Error::custom("a name alone is expected"))
    }
}
