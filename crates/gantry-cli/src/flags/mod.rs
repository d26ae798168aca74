//! Flags as data: a command's flags are one struct, declared with [`flags!`]; its doc comments are the
//! help text. The rules of reading are those of Go's pflag, which Docker uses, down to its words.

mod parse;
mod usage;
mod value;

pub(crate) use parse::{Stop, parse};
pub(crate) use usage::options_text;
pub(crate) use value::{Checked, FlagValue, Rule, Strings, csv};

/// One flag as help and parser know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) long: &'static str,
    /// Another long name of it, of old, which the help does not tell.
    pub(crate) old: &'static str,
    pub(crate) short: &'static str,
    /// Lines of a doc comment; an empty line is a line break of the help.
    pub(crate) help: &'static str,
    /// The word for the value in the help.
    pub(crate) kind: &'static str,
    /// May stand without a value.
    pub(crate) switch: bool,
    pub(crate) default: &'static str,
}

/// A struct made by [`flags!`].
pub(crate) trait Flags {
    fn specs(&self) -> &'static [Spec];
    fn set(&mut self, index: usize, text: &str) -> Result<(), String>;
}

/// Declares a struct of flags: `field: Type = "long"`, then optionally `short "l"`, `old "name"`,
/// `kind "word"`, `default "text"`.
macro_rules! flags {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $help:literal])*
                $field:ident : $ty:ty = $long:literal
                $(short $short:literal)? $(old $old:literal)? $(kind $kind:literal)? $(default $default:literal)? ;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $name {
            $( $(#[doc = $help])* pub(crate) $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $( $field: {
                        #[allow(unused_mut, reason = "only flags with a default change it")]
                        let mut value = <$ty>::default();
                        $( $crate::flags::FlagValue::accept(&mut value, $default).ok(); )?
                        value
                    }, )*
                }
            }
        }

        impl $crate::flags::Flags for $name {
            fn specs(&self) -> &'static [$crate::flags::Spec] {
                const SPECS: &[$crate::flags::Spec] = &[
                    $( $crate::flags::Spec {
                        long: $long,
                        old: concat!($($old)?),
                        short: concat!($($short)?),
                        help: concat!($($help, "\n"),*),
                        kind: $crate::flags::first_of(
                            concat!($($kind)?),
                            <$ty as $crate::flags::FlagValue>::KIND,
                        ),
                        switch: <$ty as $crate::flags::FlagValue>::SWITCH,
                        default: concat!($($default)?),
                    }, )*
                ];
                SPECS
            }

            fn set(&mut self, index: usize, text: &str) -> Result<(), String> {
                let mut _at = 0;
                let _ = index;
                $(
                    if index == _at {
                        return $crate::flags::FlagValue::accept(&mut self.$field, text);
                    }
                    _at += 1;
                )*
                Err(text.to_owned())
            }
        }
    };
}
pub(crate) use flags;

/// `word` unless it is empty.
pub(crate) const fn first_of(word: &'static str, other: &'static str) -> &'static str {
    if word.is_empty() { other } else { word }
}

flags! {
    /// For commands that have no flags.
    pub(crate) struct NoFlags {}
}

#[cfg(test)]
mod tests;
