// SPDX-License-Identifier: GPL-2.0-or-later
//! The part of Python's pickle format (protocol 4) required for a table of arrays: values, containers and calls.

/// A Python object.
pub enum Object<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `float`.
    Float(f64),
    /// `str`.
    Text(&'a str),
    /// `list`.
    List(Vec<Object<'a>>),
    /// `dict` with text keys.
    Dict(Vec<(&'a str, Object<'a>)>),
    /// The result of calling `name` of `module`.
    Call(&'a str, &'a str, Vec<Object<'a>>),
}

impl Object<'_> {
    /// A `numpy.ndarray` of `float64` with one dimension.
    pub fn vector<'a>(values: impl IntoIterator<Item = f64>) -> Object<'a> {
        Object::numpy(values.into_iter().map(Object::Float).collect(), "float64")
    }

    /// A `numpy.ndarray` of `float64` with two dimensions.
    pub fn matrix<'a, R: IntoIterator<Item = f64>>(rows: impl IntoIterator<Item = R>) -> Object<'a> {
        let row = |row: R| Object::List(row.into_iter().map(Object::Float).collect());
        Object::numpy(rows.into_iter().map(row).collect(), "float64")
    }

    /// A `numpy.ndarray` from lists.
    pub fn numpy<'a>(list: Vec<Object<'a>>, dtype: &'a str) -> Object<'a> {
        Object::Call("numpy", "array", vec![Object::List(list), Object::Text(dtype)])
    }

    /// The pickle of the object.
    pub fn dump(&self) -> Vec<u8> {
        let mut out = vec![0x80, 4];
        self.push(&mut out);
        out.push(b'.');
        out
    }

    fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(b'N'),
            Self::Bool(flag) => out.push(if *flag { 0x88 } else { 0x89 }),
            Self::Int(int) => {
                out.extend([0x8a, 8]);
                out.extend(int.to_le_bytes());
            }
            Self::Float(float) => {
                out.push(b'G');
                out.extend(float.to_be_bytes());
            }
            Self::Text(text) => push_text(text, out),
            Self::List(list) => {
                out.extend(b"](");
                list.iter().for_each(|item| item.push(out));
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.extend(b"}(");
                for (key, value) in entries {
                    push_text(key, out);
                    value.push(out);
                }
                out.push(b'u');
            }
            Self::Call(module, name, arguments) => {
                push_text(module, out);
                push_text(name, out);
                out.extend([0x93, b'(']);
                arguments.iter().for_each(|argument| argument.push(out));
                out.extend(b"tR");
            }
        }
    }
}

/// Appends a text with its length in eight bytes.
fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(0x8d);
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
