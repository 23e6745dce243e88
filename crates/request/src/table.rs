//! The table of fields, and the request that it makes.
//!
//! An entry is the field's meaning, its name in [`Request`], its type, its default, and what else
//! [`Field`] says of it. The last part of every path is a name of its own, because a query string
//! and the Open Inference Protocol nest nothing.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

use crate::ImageFormat;
use crate::choices::{Choice, Detail, Method, Placement, Priority, Share, StyleSource};
use crate::descriptor::{Field, Kind, MAX_SAFE_INTEGER, Operation, Spelling};
use crate::error::{Error, Fault};
use crate::kinds::{BlendPart, FieldType, Given};
use crate::value::Value;

/// Most names in a list.
const MAX_NAMES: usize = 1024;
/// Most parts of a blend.
const MAX_PARTS: usize = 16;
/// Most styles of a domain that is added.
const MAX_ADDED_STYLES: u64 = 256;

const MODEL: Kind = Kind::Text { pattern: r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$" };
const DOMAIN: Kind = Kind::Text { pattern: "^[A-Za-z0-9_-][A-Za-z0-9._-]*$" };
const NAMES: Kind = Kind::Texts { max_items: MAX_NAMES };

const ALL: &[Operation] =
    &[Operation::Augment, Operation::Encode, Operation::AddSlide, Operation::AddStyles];
const OF_TILES: &[Operation] = &[Operation::Augment, Operation::Encode, Operation::AddSlide];
const CARRIED: &[Operation] = &[Operation::Augment, Operation::Encode];
const ADD: &[Operation] = &[Operation::AddStyles];

const fn integer(path: &'static str, min: u64, max: u64) -> Field {
    Field::new(path, Kind::Integer { min, max, limit: None })
}

const fn choice<T: Choice>(path: &'static str) -> Field {
    Field::new(path, Kind::Choice { names: T::NAMES })
}

macro_rules! table {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $entry:expr;)*) => {
        /// The fields by their names in [`Request`].
        #[expect(non_upper_case_globals, reason = "each has the name of its field")]
        pub mod field {
            use super::*;

            $($(#[doc = $doc])+ pub const $name: Field =
                $entry.described(concat!($($doc),+).trim_ascii(), || {
                    let default: $type = $default;
                    FieldType::json(&default)
                });)*
        }

        /// Every field.
        pub const FIELDS: &[Field] = &[$(field::$name),*];

        /// A request whose fields are of their types and in their ranges. A field that was left out
        /// has its default.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Request {
            $($(#[doc = $doc])+ pub $name: $type,)*
            /// What the caller called the fields, for errors that are found later.
            pub spelling: Spelling,
        }

        impl Default for Request {
            fn default() -> Self {
                Self { $($name: $default,)* spelling: Spelling::default() }
            }
        }

        impl Request {
            pub(crate) fn set(&mut self, given: Given<'_>, value: Value) -> Result<(), Error> {
                $(if given.field.path == field::$name.path {
                    self.$name = FieldType::read(given, value)?;
                    return Ok(());
                })*
                unreachable!("every field is in the table")
            }

            /// Returns every field with its value as JSON.
            fn values(&self) -> Vec<(Field, Json)> {
                vec![$((field::$name, FieldType::json(&self.$name))),*]
            }
        }
    };
}

table! {
    /// Model to use: NAME or NAME/VERSION. A name alone is its highest version; without it the
    /// server's default is used.
    model: Option<String> = None,
        Field::new("model", MODEL).of(ALL).not_in_oip().flag("model");

    /// Variants of each tile. The server's `--max-variants` sets the most, 64 by default.
    variants: u64 = 1,
        Field::new("variants",
            Kind::Integer { min: 1, max: MAX_SAFE_INTEGER, limit: Some("--max-variants") })
            .fault(Fault::Variants).flag("variants");

    /// The same seed gives the same bytes. Without it the server draws one and returns it in the
    /// provenance; at most 2^53 - 1.
    seed: Option<u64> = None,
        integer("seed", 0, MAX_SAFE_INTEGER).fault(Fault::Seed).flag("seed");

    /// How a variant is made: by the trained model, `vit`, or by a baseline that needs no training.
    method: Method = Method::Vit,
        choice::<Method>("method").flag("method");

    /// Where styles come from: the bundle's `bank`, the other tiles of the request (`batch`), its
    /// `reference` tiles, or the tile itself (`own`).
    style_from: StyleSource = StyleSource::Bank,
        choice::<StyleSource>("style.from").flag("style-from");

    /// Only styles of these domains of the bank. Domains that were added to the bundle are used
    /// only when they are named here, in `style.ids` or in `style.blend`.
    style_domains: Option<Vec<String>> = None,
        Field::new("style.domains", NAMES).flag("domains");

    /// No styles of these domains of the bank.
    style_exclude_domains: Option<Vec<String>> = None,
        Field::new("style.exclude_domains", NAMES).flag("exclude-domains");

    /// Only these styles of the bank, by the ids that `GET /v1/styles` lists.
    style_ids: Option<Vec<String>> = None,
        Field::new("style.ids", NAMES).flag("style-ids");

    /// A mixture of styles of the bank instead of one of them. It excludes `style.domains`,
    /// `style.exclude_domains` and `style.ids`.
    style_blend: Option<Vec<BlendPart>> = None,
        Field::new("style.blend", Kind::Blend { max_items: MAX_PARTS }).fault(Fault::Blend);

    /// How a style is put on: one patch's for every patch (`broadcast`), or patch by patch of a
    /// style tile (`aligned`).
    style_placement: Placement = Placement::Broadcast,
        choice::<Placement>("style.placement").flag("placement");

    /// Which variants have one choice of styles: those of a `tile` each its own, or the n-th
    /// variants of all tiles of a `request`.
    style_share: Share = Share::Tile,
        choice::<Share>("style.share").flag("share");

    /// How wide styles of the bank are drawn: 1 takes them as they are, 0 takes their mean, 2 mixes
    /// them, pushes them from their mean and adds noise along their differences. With the methods
    /// `vit` and `color-match`.
    style_spread: f32 = 1.0,
        Field::new("style.spread", Kind::Number { min: 0.0, max: 3.0 })
            .fault(Fault::Spread).flag("spread");

    /// The slides that the tiles are from: one id of `POST /v1/slides` for all tiles, or one for
    /// each. The change of stain then starts from the slide's stain and not from that of each tile,
    /// which depends on what is in it. With the methods `vit` and `color-match`.
    slide: Option<Vec<String>> = None,
        Field::new("slide", NAMES);

    /// How much of the style is taken: 0 keeps the tile's own look, 1 replaces it.
    strength: f32 = 1.0,
        Field::new("strength", Kind::Number { min: 0.0, max: 1.0 })
            .fault(Fault::Strength).flag("strength");

    /// The least strength: each variant draws its own, between this and `strength`. Without it all
    /// have `strength`.
    strength_from: Option<f32> = None,
        Field::new("strength_from", Kind::Number { min: 0.0, max: 1.0 })
            .fault(Fault::Strength).flag("strength-from");

    /// Where the detail of a variant comes from with the method `vit`: the tile itself, to which
    /// what the style changes is added (`carry`), or the `model`'s reconstruction alone, at the
    /// model's size.
    detail: Detail = Detail::Carry,
        choice::<Detail>("detail").of(CARRIED).flag("detail");

    /// Size of the tiles' pixels in micrometres. Tiles are brought to magnifications that the model
    /// knows, where it says which, before it sees them; variants keep the tile's size. Without it
    /// the model sees every tile at its own.
    mpp: Option<f32> = None,
        Field::new("mpp", Kind::Number { min: 0.01, max: 100.0 }).fault(Fault::Mpp)
            .of(OF_TILES).flag("mpp");

    /// Format of the pictures; without it `Accept` decides, and PNG where it does not say.
    output_format: Option<ImageFormat> = None,
        choice::<ImageFormat>("output.format").not_in_oip().grpc("format").flag("format");

    /// Quality of JPEG and WebP, 1 to 100; at 100 WebP is lossless.
    output_quality: u8 = 90,
        integer("output.quality", 1, 100)
            .fault(Fault::Quality).not_in_oip().grpc("quality").flag("quality");

    /// Answer with one picture: a row for each tile, the original and then its variants. It has at
    /// most the server's --max-pixels pixels.
    output_sheet: bool = false,
        Field::new("output.sheet", Kind::Boolean).not_in_oip().not_in_grpc();

    /// Which of two lines the request waits in: `interactive`, or `bulk` for jobs. While both wait,
    /// of every four tiles encoded three are interactive and one is bulk.
    priority: Priority = Priority::Interactive,
        choice::<Priority>("priority").of(OF_TILES);

    /// Milliseconds until the request fails with `deadline_exceeded`; the server's own limit still
    /// applies.
    timeout_ms: Option<u64> = None,
        integer("timeout_ms", 1, MAX_SAFE_INTEGER).fault(Fault::Timeout).of(OF_TILES);

    /// Name of the domain to add: letters, digits, `.`, `_` and `-`, not beginning with `.`.
    domain: String = String::new(),
        Field::new("domain", DOMAIN).of(ADD).not_in_oip();

    /// Most styles to take from the reference tiles.
    styles: u64 = 16,
        integer("styles", 1, MAX_ADDED_STYLES).fault(Fault::Styles).of(ADD).not_in_oip();
}

impl Request {
    /// Returns what the caller called a field, or would have called it.
    pub fn name(&self, field: &Field) -> Cow<'_, str> {
        self.spelling.name(field)
    }

    /// Returns the request JSON of `POST /v1/augment`, with every field.
    pub fn to_json(&self) -> Json {
        let mut object = Map::new();
        for (field, value) in self.values() {
            if !field.operations.contains(&Operation::Augment) {
                continue;
            }
            let (object, name) = match field.path.split_once('.') {
                None => (&mut object, field.path),
                Some((group, name)) => {
                    let group = object.entry(group).or_insert_with(|| Map::new().into());
                    (group.as_object_mut().expect("a group is an object, made above"), name)
                }
            };
            object.insert(name.to_owned(), value);
        }
        object.into()
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}
