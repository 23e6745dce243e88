//! Fields that are one of a few words.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ImageFormat;

/// A type whose values each have a name.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every value with its name.
    const NAMED: &'static [(Self, &'static str)];
    /// The names alone, for the table.
    const NAMES: &'static [&'static str];

    /// Returns the value of a name.
    fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }

    /// Returns the value's name.
    fn name(self) -> &'static str {
        let named = Self::NAMED.iter().find(|(value, _)| *value == self);
        named.expect("every value is listed with its name").1
    }
}

macro_rules! choices {
    ($($type:ident { $($value:ident = $name:literal,)* })*) => {$(
        impl Choice for $type {
            const NAMED: &'static [(Self, &'static str)] = &[$((Self::$value, $name)),*];
            const NAMES: &'static [&'static str] = &[$($name),*];
        }

        // A value that is added without a name does not compile.
        const _: fn($type) = |value| match value { $($type::$value => {})* };
    )*};
}

choices! {
    Method {
        Vit = "vit", ColorMatch = "color-match", HedJitter = "hed-jitter", Identity = "identity",
    }
    StyleSource { Bank = "bank", Batch = "batch", Reference = "reference", Own = "own", }
    Placement { Broadcast = "broadcast", Aligned = "aligned", }
    Detail { Carry = "carry", Model = "model", }
    Share { Tile = "tile", Request = "request", }
    Priority { Interactive = "interactive", Bulk = "bulk", }
    ImageFormat { Png = "png", Jpeg = "jpeg", Webp = "webp", }
}

/// How a variant is made: the trained model, or one of the baselines that need no training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The model's anatomy of the tile with another style.
    #[default]
    Vit,
    /// Each channel's mean and standard deviation become those of the tile that the style was taken
    /// from.
    ColorMatch,
    /// A random change of each stain's density; takes no style.
    HedJitter,
    /// The tile itself.
    Identity,
}

/// Where styles come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StyleSource {
    /// The bundle's style bank: a domain with equal chances, then one of its styles.
    #[default]
    Bank,
    /// Another tile of the same request.
    Batch,
    /// One of the reference tiles of the request.
    Reference,
    /// The tile itself.
    Own,
}

/// How a style is put on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The characteristics of one patch, for every patch.
    #[default]
    Broadcast,
    /// The characteristics of each patch of the style tile, for the patch in the same place. Needs
    /// a style tile.
    Aligned,
}

/// Where the detail of a variant comes from, with the method `vit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// The tile itself, to which what the style changes is added, at the tile's own size.
    #[default]
    Carry,
    /// The model's reconstruction, at the model's size.
    Model,
}

/// Which variants have one choice of styles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Each tile has its own choice of styles.
    #[default]
    Tile,
    /// The n-th variants of all tiles have one style.
    Request,
}

/// Which of two lines a request waits in. Neither can starve: while both are waiting, of every four
/// tiles encoded three are interactive and one is bulk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A person waits for the answer.
    #[default]
    Interactive,
    /// A job over a whole data set.
    Bulk,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Choice + Serialize>() {
        for (value, name) in T::NAMED {
            assert_eq!(serde_json::json!(value), *name);
            assert!(T::named(name) == Some(*value) && value.name() == *name);
        }
        assert!(T::NAMED.iter().map(|(_, name)| name).eq(T::NAMES) && T::named("").is_none());
    }

    #[test]
    fn a_name_is_the_one_that_answers_have() {
        check::<Method>();
        check::<StyleSource>();
        check::<Placement>();
        check::<Detail>();
        check::<Share>();
        check::<Priority>();
        check::<ImageFormat>();
    }
}
