//! The part of Python's pickle that state dicts use, read into plain values.
//!
//! A pickle is a program; this is no interpreter of it. Naming a class or function gives a [`Value::Global`], and
//! calling one gives a [`Value::Call`] that holds the name and the arguments: nothing is looked up and nothing is run.
//! Memory is bounded by the input, since no instruction copies more than it reads.

use std::collections::HashMap;

/// A value's place in a [`Pickle`].
pub(super) type Id = usize;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// In the order of insertion; `OrderedDict` too.
    Dict(Vec<(Id, Id)>),
    /// `module name`, not looked up.
    Global(String),
    /// A call that was not made.
    Call {
        callee: Id,
        arguments: Id,
    },
    /// A reference to something outside the pickle: PyTorch's storages.
    Persistent(Id),
    /// Something that state dicts hold and nobody here needs.
    Opaque,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum PickleError {
    #[error("it ends in the middle of an instruction")]
    Truncated,
    #[error("instruction {opcode:#04x} at byte {at} is not allowed")]
    Opcode { opcode: u8, at: usize },
    #[error("it takes more values than it made")]
    Stack,
    #[error("it recalls value {0}, which it never stored")]
    Memo(u32),
    #[error("a name or text in it is not UTF-8")]
    Text,
    #[error("an integer in it has {0} bytes, and must have 8 or fewer")]
    Integer(usize),
}

/// A pickle that was read. Values refer to each other by [`Id`].
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    pub root: Id,
}

impl Pickle {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        Reader {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
        .run()
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }

    pub(super) fn count(&self, id: Id) -> Option<usize> {
        if let Value::Int(number) = self.get(id) { usize::try_from(*number).ok() } else { None }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) = self.get(id) { Some(items) } else { None }
    }

    pub(super) fn global(&self, id: Id) -> Option<&str> {
        if let Value::Global(name) = self.get(id) { Some(name) } else { None }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Reader<'_> {
    fn run(mut self) -> Result<Pickle, PickleError> {
        loop {
            let at = self.at;
            match self.byte()? {
                b'.' => return Ok(Pickle { root: self.pop()?, values: self.values }),
                0x80 => drop(self.byte()?),
                0x95 => drop(self.take(8)?),
                opcode => {
                    if !(self.constant(opcode)?
                        || self.container(opcode)?
                        || self.reference(opcode)?)
                    {
                        return Err(PickleError::Opcode { opcode, at });
                    }
                }
            }
        }
    }

    /// Instructions that stand for one plain value.
    fn constant(&mut self, opcode: u8) -> Result<bool, PickleError> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            0x8a => {
                let length = self.byte()?.into();
                Value::Int(long(self.take(length)?)?)
            }
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            b'X' => self.text_of_length4()?,
            0x8c => {
                let length = self.byte()?.into();
                Value::Text(text(self.take(length)?)?)
            }
            // Byte strings: numpy scalars in training logs.
            b'B' | b'T' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.take(length)?;
                Value::Opaque
            }
            b'C' | b'U' => {
                let length = self.byte()?.into();
                self.take(length)?;
                Value::Opaque
            }
            _ => return Ok(false),
        };
        self.push(value);
        Ok(true)
    }

    /// Instructions that make and fill tuples, lists and dicts.
    fn container(&mut self, opcode: u8) -> Result<bool, PickleError> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let from = self.stack.len().checked_sub(count).ok_or(PickleError::Stack)?;
                let items = self.stack.split_off(from);
                self.push(Value::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend(vec![key, value])?;
            }
            b'e' | b'u' => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Instructions that recall, name and call.
    fn reference(&mut self, opcode: u8) -> Result<bool, PickleError> {
        match opcode {
            b'q' => {
                let slot = self.byte()?.into();
                self.store(slot)?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.store(slot)?;
            }
            0x94 => self.store(self.memo.len() as u32)?,
            b'h' => {
                let slot = self.byte()?.into();
                self.recall(slot)?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module} {name}")));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = match (&self.values[module], &self.values[name]) {
                    (Value::Text(module), Value::Text(name)) => format!("{module} {name}"),
                    _ => return Err(PickleError::Stack),
                };
                self.push(Value::Global(global));
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let is_dict = matches!(&self.values[callee], Value::Global(name) if name == "collections OrderedDict");
                self.push(if is_dict {
                    Value::Dict(Vec::new())
                } else {
                    Value::Call { callee, arguments }
                });
            }
            // An object's state, such as the `_metadata` of a module's state dict: dropped.
            b'b' => drop(self.pop()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Adds items to the container on top of the stack; of a dict they are keys and values in turn.
    fn extend(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        let top = *self.stack.last().ok_or(PickleError::Stack)?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            Value::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            // A call's result: it was not made, so there is nothing to fill.
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        self.stack.pop().ok_or(PickleError::Stack)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark =
            self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or(PickleError::Stack)?;
        Ok(self.stack.split_off(mark))
    }

    fn store(&mut self, slot: u32) -> Result<(), PickleError> {
        self.memo.insert(slot, *self.stack.last().ok_or(PickleError::Stack)?);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), PickleError> {
        self.stack.push(*self.memo.get(&slot).ok_or(PickleError::Memo(slot))?);
        Ok(())
    }

    fn text_of_length4(&mut self) -> Result<Value, PickleError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        Ok(Value::Text(text(self.take(length)?)?))
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let length = self.bytes[self.at..]
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(PickleError::Truncated)?;
        let line = text(self.take(length)?)?;
        self.at += 1;
        Ok(line)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        Ok(self.take(N)?.try_into().expect("take gives as many bytes as asked"))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], PickleError> {
        let end = self.at.checked_add(count).ok_or(PickleError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(PickleError::Truncated)?;
        self.at = end;
        Ok(taken)
    }
}

fn text(bytes: &[u8]) -> Result<String, PickleError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| PickleError::Text)
}

/// Little-endian two's complement of any length up to eight bytes.
fn long(bytes: &[u8]) -> Result<i64, PickleError> {
    let Some(&last) = bytes.last() else { return Ok(0) };
    if bytes.len() > 8 {
        return Err(PickleError::Integer(bytes.len()));
    }
    let mut wide = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(wide))
}
