//! Reads the fields of a request, whichever way they came.

use std::borrow::Cow;

use crate::descriptor::{Field, Operation, Spelling, Wire, known, unknown};
use crate::error::Error;
use crate::kinds::{FieldType, Given};
use crate::table::{FIELDS, Request};
use crate::value::Value;

/// Takes fields one after the other.
#[derive(Debug)]
pub struct Reader {
    operation: Operation,
    wire: Wire,
    /// Paths of the fields that have a value.
    seen: Vec<&'static str>,
    request: Request,
}

impl Reader {
    pub fn new(operation: Operation, wire: Wire) -> Self {
        let request = Request { spelling: Spelling::of(wire), ..Request::default() };
        Self { operation, wire, seen: Vec::new(), request }
    }

    /// Takes a field under the name that the caller gave it. Null is a field that was left out; in
    /// JSON an object holds the fields of a group.
    ///
    /// # Errors
    /// Where there is no such field, it is given twice, or its value is not what it must be.
    pub fn take(&mut self, name: &str, value: Value) -> Result<(), Error> {
        // JSON nests: a path at the top of an object would be a second way to say the same.
        let is_path = self.wire == Wire::Json && name.contains('.');
        match self.find(name).filter(|_| !is_path) {
            Some(field) => self.take_field(field, name, value),
            None => self.take_group(name, value),
        }
    }

    fn find(&self, name: &str) -> Option<&'static Field> {
        let mut fields = known(FIELDS, self.operation, self.wire);
        fields.find(|(field, _)| field.is_named(self.wire, name)).map(|(field, _)| field)
    }

    fn take_field(&mut self, field: &'static Field, name: &str, value: Value) -> Result<(), Error> {
        if value == Value::Null {
            return Ok(());
        }
        if self.seen.contains(&field.path) {
            return Err(Error::malformed(self.twice(field, name)));
        }
        self.request.set(Given { field, name }, value)?;
        self.seen.push(field.path);
        self.request.spelling.note(field, name);
        Ok(())
    }

    /// Takes the fields of an object.
    ///
    /// # Errors
    /// As [`take`](Self::take), and where the value is no object.
    pub fn take_object(&mut self, what: &str, value: Value) -> Result<(), Error> {
        match value {
            Value::Null => Ok(()),
            Value::Object(fields) => {
                fields.into_iter().try_for_each(|(name, value)| self.take(&name, value))
            }
            value => Err(Error::malformed(format!("{what} is {value}, and must be an object"))),
        }
    }

    pub fn finish(self) -> Request {
        self.request
    }

    fn take_group(&mut self, name: &str, value: Value) -> Result<(), Error> {
        let (operation, wire) = (self.operation, self.wire);
        let unknown = |name: &str| unknown(FIELDS, operation, wire, name);
        let is_group = |(field, _): (&Field, _)| {
            field.path.split_once('.').is_some_and(|(group, _)| group == name)
        };
        if wire != Wire::Json || !known(FIELDS, operation, wire).any(is_group) {
            return Err(unknown(name));
        }
        match value {
            Value::Null => Ok(()),
            Value::Object(fields) => fields.into_iter().try_for_each(|(field, value)| {
                let path = format!("{name}.{field}");
                let field = self.find(&path).ok_or_else(|| unknown(&path))?;
                self.take_field(field, &path, value)
            }),
            value => Err(Error::malformed(format!("{name} is {value}, and must be an object"))),
        }
    }

    fn twice(&self, field: &Field, name: &str) -> String {
        match self.request.name(field) {
            before if before != name => {
                format!("{name} is given, and so is {before}, which is the same field")
            }
            _ => format!("{name} is given twice"),
        }
    }
}

/// Reads all fields of a request.
///
/// # Errors
/// As [`Reader::take`].
pub fn read<N: AsRef<str>>(
    operation: Operation,
    wire: Wire,
    fields: impl IntoIterator<Item = (N, Value)>,
) -> Result<Request, Error> {
    let mut reader = Reader::new(operation, wire);
    fields.into_iter().try_for_each(|(name, value)| reader.take(name.as_ref(), value))?;
    Ok(reader.finish())
}

/// Reads the value of a flag, for a parser of command lines that names the flag itself.
///
/// # Errors
/// In words that follow the flag and its value: what it must be.
pub fn read_flag<T: FieldType>(field: &'static Field, text: &str) -> Result<T, String> {
    let name = field.name_on(Wire::Flag).unwrap_or(Cow::Borrowed(field.path));
    T::read(Given { field, name: &name }, Value::from(text)).map_err(|error| {
        let must = format!("must be {}", field.kind);
        if error.detail.ends_with(&must) { must } else { error.detail }
    })
}
