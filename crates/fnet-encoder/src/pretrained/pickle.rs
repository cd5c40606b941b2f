//! The part of Python's pickle format that a file of tensors needs, read as data: nothing is ever called.
//!
//! The opcodes are those of Python's `pickletools`. A global is only a name here; what PyTorch's rebuilding
//! functions would make is kept as the call's name and arguments. Everything lies in one arena, so hostile
//! nesting or cycles cost no stack, and memory is a small multiple of the file's length.

use std::collections::HashMap;

/// A value on the machine's stack; anything larger is in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// `None`, a float, or anything else that no tensor needs.
    Other,
    Int(i64),
    /// Bytes of the file: a string or byte string.
    Text(u32, u32),
    /// A module and a name.
    Global((u32, u32), (u32, u32)),
    /// A tuple or list in the arena.
    Sequence(usize),
    /// A dictionary in the arena: keys and values, alternating.
    Dict(usize),
    /// The arguments of a persistent id: where PyTorch names a storage.
    Persistent(usize),
    /// A global called with a sequence: its place in `calls`.
    Call(usize),
}

/// What a pickle holds.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    arena: Vec<Vec<Value>>,
    calls: Vec<(Value, Value)>,
    top: Value,
}

impl<'a> Pickle<'a> {
    /// Reads a whole pickle.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        debug_assert!(u32::try_from(bytes.len()).is_ok());
        let mut machine = Machine {
            pickle: Self { bytes, arena: Vec::new(), calls: Vec::new(), top: Value::Other },
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        machine.run()?;
        Ok(machine.pickle)
    }

    /// The value at the top.
    pub fn top(&self) -> Value {
        self.top
    }

    /// A string, if the value is one in UTF-8.
    pub fn text(&self, value: Value) -> Option<&'a str> {
        let Value::Text(start, end) = value else { return None };
        std::str::from_utf8(&self.bytes[start as usize..end as usize]).ok()
    }

    /// The items of a tuple or list, or the arguments of a persistent id.
    pub fn items(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Sequence(at) | Value::Persistent(at) => Some(&self.arena[at]),
            _ => None,
        }
    }

    /// Keys and values of a dictionary.
    pub fn entries(&self, value: Value) -> Option<impl Iterator<Item = (Value, Value)>> {
        match value {
            Value::Dict(at) => Some(self.arena[at].as_chunks::<2>().0.iter().map(|[k, v]| (*k, *v))),
            _ => None,
        }
    }

    /// Module, name and arguments of a call.
    pub fn call(&self, value: Value) -> Option<(&'a str, &'a str, &[Value])> {
        let Value::Call(at) = value else { return None };
        let (global, arguments) = self.calls[at];
        let (module, name) = self.global(global)?;
        Some((module, name, self.items(arguments)?))
    }

    /// Module and name of a global.
    pub fn global(&self, value: Value) -> Option<(&'a str, &'a str)> {
        let Value::Global(module, name) = value else { return None };
        Some((self.text(Value::Text(module.0, module.1))?, self.text(Value::Text(name.0, name.1))?))
    }
}

struct Machine<'a> {
    pickle: Pickle<'a>,
    at: usize,
    stack: Vec<Value>,
    /// Stack heights of the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<(), String> {
        loop {
            let opcode = self.take(1)?.0;
            match self.pickle.bytes[opcode] {
                0x80 => drop(self.take(1)?),                   // PROTO
                0x95 => drop(self.take(8)?),                   // FRAME
                b'(' => self.marks.push(self.stack.len()),     // MARK
                b'N' | 0x88 | 0x89 => self.push(Value::Other), // NONE, NEWTRUE, NEWFALSE
                b'G' => {
                    self.take(8)?; // BINFLOAT
                    self.push(Value::Other);
                }
                b'J' => self.integer(4, true)?,  // BININT
                b'K' => self.integer(1, false)?, // BININT1
                b'M' => self.integer(2, false)?, // BININT2
                0x8a => {
                    let len = self.number(1)?; // LONG1
                    self.integer(len, true)?;
                }
                b'X' | b'T' | b'B' => self.string(4)?, // BINUNICODE, BINSTRING, BINBYTES
                0x8c | b'U' | b'C' => self.string(1)?, // SHORT_ of the three
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?); // GLOBAL
                    self.push(Value::Global(module, name));
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    // STACK_GLOBAL
                    (Value::Text(a, b), Value::Text(c, d)) => self.push(Value::Global((c, d), (a, b))),
                    _ => return Err("names a global by something that is no string".into()),
                },
                b')' | b']' => self.sequence(Vec::new()), // EMPTY_TUPLE, EMPTY_LIST
                opcode @ 0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84); // TUPLE1, TUPLE2, TUPLE3
                    let items = self.pop_many(count)?;
                    self.sequence(items);
                }
                b't' | b'l' => {
                    let items = self.pop_to_mark()?; // TUPLE, LIST
                    self.sequence(items);
                }
                b'}' => self.dict(Vec::new()), // EMPTY_DICT
                b'd' => {
                    let items = self.pop_to_mark()?; // DICT
                    self.dict(items);
                }
                b'a' => {
                    let items = self.pop_many(1)?; // APPEND
                    self.extend(items)?;
                }
                b'e' | b'u' => {
                    let items = self.pop_to_mark()?; // APPENDS, SETITEMS
                    self.extend(items)?;
                }
                b's' => {
                    let items = self.pop_many(2)?; // SETITEM
                    self.extend(items)?;
                }
                b'q' => self.remember(1)?, // BINPUT
                b'r' => self.remember(4)?, // LONG_BINPUT
                0x94 => {
                    let value = self.last()?; // MEMOIZE
                    self.memo.insert(self.memo.len() as u32, value);
                }
                b'h' => self.recall(1)?, // BINGET
                b'j' => self.recall(4)?, // LONG_BINGET
                b'Q' => {
                    let Value::Sequence(at) = self.pop()? else {
                        // BINPERSID
                        return Err("names a storage by something that is no tuple".into());
                    };
                    self.push(Value::Persistent(at));
                }
                b'R' => self.reduce()?, // REDUCE
                b'b' => {
                    self.pop()?; // BUILD: attributes that no tensor needs
                    self.last()?;
                }
                b'0' => drop(self.pop()?), // POP
                b'.' => {
                    self.pickle.top = self.pop()?; // STOP
                    return Ok(());
                }
                other => {
                    return Err(format!("holds the opcode {other:#04x}, which no file of tensors needs"));
                }
            }
        }
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, global) = (self.pop()?, self.pop()?);
        match self.pickle.global(global) {
            Some(("collections", "OrderedDict")) => self.dict(Vec::new()),
            Some(("torch._utils", "_rebuild_tensor_v2" | "_rebuild_parameter")) => {
                self.pickle.calls.push((global, arguments));
                self.push(Value::Call(self.pickle.calls.len() - 1));
            }
            Some((module, name)) => {
                return Err(format!("wants to call {module}.{name}, which is no part of a tensor"));
            }
            None => return Err("wants to call something that has no name".into()),
        }
        Ok(())
    }

    /// The place of the next bytes.
    fn take(&mut self, len: usize) -> Result<(usize, usize), String> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.pickle.bytes.len());
        let end = end.ok_or("ends in the middle")?;
        Ok((std::mem::replace(&mut self.at, end), end))
    }

    /// The same, as values keep it.
    fn place(&mut self, len: usize) -> Result<(u32, u32), String> {
        let (start, end) = self.take(len)?;
        Ok((start as u32, end as u32)) // no pickle of gigabytes comes here
    }

    /// An unsigned number of so many bytes.
    fn number(&mut self, len: usize) -> Result<usize, String> {
        let (start, end) = self.take(len)?;
        Ok(self.pickle.bytes[start..end].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }

    /// An integer, in two's complement if signed.
    fn integer(&mut self, len: usize, has_sign: bool) -> Result<(), String> {
        if len > 8 {
            return Err("holds an integer of more than 64 bits".into());
        }
        let number = self.number(len)? as i64;
        let signed = if has_sign && (1..8).contains(&len) {
            number << (64 - 8 * len) >> (64 - 8 * len)
        } else {
            number
        };
        self.push(Value::Int(signed));
        Ok(())
    }

    fn string(&mut self, length_bytes: usize) -> Result<(), String> {
        let len = self.number(length_bytes)?;
        let (start, end) = self.place(len)?;
        self.push(Value::Text(start, end));
        Ok(())
    }

    /// Bytes up to the end of a line, which is skipped.
    fn line(&mut self) -> Result<(u32, u32), String> {
        let rest = &self.pickle.bytes[self.at..];
        let len = rest.iter().position(|b| *b == b'\n').ok_or("ends in the middle")?;
        let line = self.place(len)?;
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn last(&self) -> Result<Value, String> {
        self.stack[self.floor()..].last().copied().ok_or("takes a value where there is none".into())
    }

    fn pop(&mut self) -> Result<Value, String> {
        let value = self.last()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
        Ok(self.stack.split_off(start.ok_or("takes a value where there is none")?))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or("takes values to a mark where there is none")?;
        Ok(self.stack.split_off(mark))
    }

    fn sequence(&mut self, items: Vec<Value>) {
        self.pickle.arena.push(items);
        self.push(Value::Sequence(self.pickle.arena.len() - 1));
    }

    fn dict(&mut self, items: Vec<Value>) {
        self.pickle.arena.push(items);
        self.push(Value::Dict(self.pickle.arena.len() - 1));
    }

    fn extend(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.last()? {
            Value::Sequence(at) | Value::Dict(at) => self.pickle.arena[at].extend(items),
            _ => return Err("adds to something that holds nothing".into()),
        }
        Ok(())
    }

    fn remember(&mut self, len: usize) -> Result<(), String> {
        let (key, value) = (self.number(len)? as u32, self.last()?);
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, len: usize) -> Result<(), String> {
        let key = self.number(len)? as u32;
        let value = self.memo.get(&key).copied().ok_or("recalls what it never named")?;
        self.push(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn reads_what_python_writes() {
        // pickle.dumps({"a": (1, [300, -2], None)}, protocol=2)
        let bytes = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01]q\x02(M,\x01J\xfe\xff\xff\xffeN\x87q\x03s.";
        let pickle = Pickle::read(bytes).unwrap();
        let [(key, value)] = pickle.entries(pickle.top()).unwrap().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!(pickle.text(key), Some("a"));
        let [first, list, none] = *pickle.items(value).unwrap() else { panic!() };
        assert_eq!((first, none), (Value::Int(1), Value::Other));
        assert_eq!(pickle.items(list).unwrap(), [Value::Int(300), Value::Int(-2)]);
    }

    #[test]
    fn integers_have_signs_where_the_format_says() {
        // LONG1 of -1, 255, -2 in two bytes and 0; BININT1 and BININT2.
        let bytes = b"\x80\x02](\x8a\x01\xff\x8a\x02\xff\x00\x8a\x02\xfe\xff\x8a\x00K\xffM\xff\xffe.";
        let pickle = Pickle::read(bytes).unwrap();
        let expected = [-1, 255, -2, 0, 255, 65_535].map(Value::Int);
        assert_eq!(pickle.items(pickle.top()).unwrap(), expected);
    }

    #[test]
    fn nothing_is_called() {
        // os.system("true"), as an attacker would write it.
        let error = Pickle::read(b"cos\nsystem\n(X\x04\x00\x00\x00truetR.").map(|_| ()).unwrap_err();
        assert!(error.contains("wants to call os.system"), "{error}");
    }

    #[test]
    fn any_sequence_of_opcodes_is_read_or_refused() {
        const OPCODES: &[u8] = b"()]}NKMJXUcQRSTabdeuslqrhjtG0.\x80\x85\x86\x87\x88\x8a\x8c\x93\x94\x95\n";
        let mut read = 0;
        for seed in 0..50_000 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let len = random.random_range(0..24);
            let mut bytes: Vec<u8> = Vec::new();
            for _ in 0..len {
                match random.random_range(0..8) {
                    0 => bytes.push(random.random_range(0..4)),
                    1 => bytes.extend(b"ccollections\nOrderedDict\n)R"),
                    _ => bytes.push(OPCODES[random.random_range(0..OPCODES.len())]),
                }
            }
            bytes.push(b'.');
            if let Ok(pickle) = Pickle::read(&bytes) {
                read += 1;
                let top = pickle.top();
                let _ = (pickle.text(top), pickle.items(top), pickle.call(top), pickle.global(top));
                pickle.entries(top).into_iter().flatten().for_each(drop);
            }
        }
        assert!(read > 1_000, "{read} were read");
    }
}
