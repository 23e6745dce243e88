//! What the table says of a field, and what each transport calls it.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Fault};
use crate::value::clip;

/// The largest whole number up to which JSON carries every one exactly, in all languages: 2^53 - 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// What a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// Tiles in, variants out.
    #[default]
    Augment,
    /// Tiles in, encodings out.
    Encode,
    /// Tiles of one slide in, the slide's context kept.
    AddSlide,
    /// Reference tiles in, a domain of styles kept.
    AddStyles,
}

/// The way a field came, which decides what it is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Nested, by path: `{"style": {"from": "own"}}`.
    #[default]
    Json,
    /// `from=own`, or the path, with a dot or an underscore: `style.from`, `style_from`.
    Query,
    /// Parts of a form, called as in a query.
    Form,
    /// Parameters of the Open Inference Protocol, called as in a query.
    Oip,
    /// Fields of a message of `restain.v1`.
    Grpc,
    /// `--style-from own`.
    Flag,
}

impl Wire {
    /// What a field is called on this wire, in a sentence.
    const fn noun(self) -> &'static str {
        match self {
            Self::Json | Self::Grpc => "field",
            Self::Query => "query parameter",
            Self::Form => "part",
            Self::Oip => "parameter",
            Self::Flag => "option",
        }
    }
}

/// The type of a field, and its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Boolean,
    Integer {
        min: u64,
        max: u64,
        /// The server's option that sets a smaller maximum.
        limit: Option<&'static str>,
    },
    Number {
        min: f64,
        max: f64,
    },
    Text {
        pattern: &'static str,
    },
    Choice {
        names: &'static [&'static str],
    },
    /// A list of names.
    Texts {
        max_items: usize,
    },
    /// A list of styles and domains with a weight each.
    Blend {
        max_items: usize,
    },
}

/// What is allowed, as an error says it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("true or false"),
            Self::Integer { min, limit: Some(option), .. } => {
                write!(f, "a whole number from {min} to the server's {option}")
            }
            Self::Integer { min, max: MAX_SAFE_INTEGER, .. } => write!(
                f,
                "a whole number of at least {min} and at most 2^53 - 1 = {MAX_SAFE_INTEGER}"
            ),
            Self::Integer { min, max, .. } => write!(f, "a whole number from {min} to {max}"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Text { .. } => f.write_str("a text"),
            Self::Choice { names } => write!(f, "one of {}", names.join(", ")),
            Self::Texts { max_items } => {
                write!(f, "names with commas between them or a list of names, at most {max_items}")
            }
            Self::Blend { max_items } => {
                write!(f, "a list of 1 to {max_items} objects with an id or a domain, and a weight")
            }
        }
    }
}

/// One field of a request.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its place in the request JSON: `style.domains`.
    pub path: &'static str,
    pub kind: Kind,
    /// What it means, in a sentence or two.
    pub doc: &'static str,
    /// What has it.
    pub operations: &'static [Operation],
    /// Whether the Open Inference Protocol can express it: its answers are tensors, and its path
    /// names the model.
    pub oip: bool,
    /// Its name in the messages of `restain.v1`, where they have it.
    pub grpc: Option<&'static str>,
    /// The flag of `restain augment`, without its dashes, where there is one.
    pub flag: Option<&'static str>,
    /// What a value of its type is that is out of its range.
    pub fault: Fault,
    /// What leaving it out means, as JSON; null where the server decides.
    pub default: fn() -> serde_json::Value,
}

impl Field {
    pub(crate) const fn new(path: &'static str, kind: Kind) -> Self {
        Self {
            path,
            kind,
            doc: "",
            operations: &[Operation::Augment],
            oip: true,
            grpc: Some(path),
            flag: None,
            fault: Fault::Malformed,
            default: || serde_json::Value::Null,
        }
    }

    pub(crate) const fn of(mut self, operations: &'static [Operation]) -> Self {
        self.operations = operations;
        self
    }

    pub(crate) const fn grpc(mut self, name: &'static str) -> Self {
        self.grpc = Some(name);
        self
    }

    pub(crate) const fn not_in_grpc(mut self) -> Self {
        self.grpc = None;
        self
    }

    pub(crate) const fn not_in_oip(mut self) -> Self {
        self.oip = false;
        self
    }

    pub(crate) const fn flag(mut self, name: &'static str) -> Self {
        self.flag = Some(name);
        self
    }

    pub(crate) const fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    pub(crate) const fn described(
        mut self,
        doc: &'static str,
        default: fn() -> serde_json::Value,
    ) -> Self {
        self.doc = doc;
        self.default = default;
        self
    }

    /// Returns the last part of its path, which names it where nothing is nested.
    pub fn short_name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// Returns the words that it can be, where it is one of some.
    pub fn choices(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Choice { names } => names,
            _ => &[],
        }
    }

    /// Returns what `wire` calls it; nothing where `wire` cannot express it.
    pub fn name_on(&self, wire: Wire) -> Option<Cow<'static, str>> {
        match wire {
            Wire::Json => Some(self.path.into()),
            Wire::Query | Wire::Form => Some(self.short_name().into()),
            Wire::Oip => self.oip.then(|| self.short_name().into()),
            Wire::Grpc => self.grpc.map(Cow::from),
            Wire::Flag => self.flag.map(|name| format!("--{name}").into()),
        }
    }

    /// Whether `name` is this field on `wire`.
    pub fn is_named(&self, wire: Wire, name: &str) -> bool {
        let Some(own) = self.name_on(wire) else { return false };
        let is_flat = matches!(wire, Wire::Query | Wire::Form | Wire::Oip);
        own == name || (is_flat && (self.path == name || self.path.replace('.', "_") == name))
    }

    /// The error of a value that is not what the field must be.
    pub(crate) fn wrong(&self, fault: Fault, name: &str, value: &impl fmt::Display) -> Error {
        Error::new(fault, format!("{name} is {value}, and must be {}", self.kind))
    }
}

/// The fields that `operation` has on `wire`.
pub(crate) fn known(
    fields: &'static [Field],
    operation: Operation,
    wire: Wire,
) -> impl Iterator<Item = (&'static Field, Cow<'static, str>)> {
    let of_operation = move |field: &&Field| field.operations.contains(&operation);
    fields.iter().filter(of_operation).filter_map(move |field| Some((field, field.name_on(wire)?)))
}

/// The error of a name that is no field's, with the nearest one that is.
pub(crate) fn unknown(
    fields: &'static [Field],
    operation: Operation,
    wire: Wire,
    name: &str,
) -> Error {
    /// As `strsim::jaro_winkler` has it: 1 for the same, and about this for one letter more or
    /// less.
    const LIKE: f64 = 0.8;
    let last = |name: &str| name.rsplit(['.', '-']).next().unwrap_or_default().to_owned();
    let likeness = |known: &str| {
        strsim::jaro_winkler(name, known).max(strsim::jaro_winkler(&last(name), &last(known)))
    };
    let names: Vec<Cow<'static, str>> =
        known(fields, operation, wire).map(|(_, name)| name).collect();
    let scored = names.iter().map(|known| (likeness(known), known));
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > LIKE);
    let nearest = match nearest {
        Some((_, nearest)) => format!(", did you mean `{nearest}`?"),
        None => ".".to_owned(),
    };
    Error::malformed(format!(
        "there is no {} `{}`{nearest} Known are: {}",
        wire.noun(),
        clip(name),
        names.join(", ")
    ))
}

/// What the caller called the fields that it gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spelling {
    wire: Wire,
    /// Names that are not the wire's first choice, by path.
    others: Vec<(&'static str, String)>,
}

impl Spelling {
    /// The spelling of a wire, without names that a caller chose otherwise.
    pub fn of(wire: Wire) -> Self {
        Self { wire, others: Vec::new() }
    }

    pub(crate) fn note(&mut self, field: &Field, name: &str) {
        if field.name_on(self.wire).as_deref() != Some(name) {
            self.others.push((field.path, name.to_owned()));
        }
    }

    /// Returns what the caller called the field at `path`, or would have called it.
    pub fn name(&self, field: &Field) -> Cow<'_, str> {
        let other = self.others.iter().find(|(path, _)| *path == field.path);
        other
            .map(|(_, name)| Cow::from(name))
            .or_else(|| field.name_on(self.wire))
            .unwrap_or(Cow::Borrowed(field.path))
    }
}
