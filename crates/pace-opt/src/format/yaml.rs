// SPDX-License-Identifier: GPL-2.0-or-later
//! A YAML document as a tree, reduced to what potential files require.

use crate::error::{Error, Result};
use saphyr_parser::{Event, Parser};
use std::borrow::Cow;
use std::collections::HashMap;

/// Largest depth of nesting.
const MAX_DEPTH: usize = 32;

/// Largest number of nodes to which aliases may expand; without a limit a small file could exhaust the memory.
const MAX_COPIED: usize = 10_000_000;

/// A node of the document. Text borrows from the input.
#[derive(Clone, Debug)]
pub(crate) enum Node<'a> {
    Scalar(Cow<'a, str>),
    Seq(Vec<Node<'a>>),
    Map(Vec<(Node<'a>, Node<'a>)>),
}

/// A collection under construction, one per level of nesting.
enum Open<'a> {
    Seq(Vec<Node<'a>>),
    Map(Vec<(Node<'a>, Node<'a>)>, Option<Node<'a>>),
}

/// Parses the first document of a text. Aliases are replaced by copies of the anchored nodes.
pub(crate) fn parse(text: &str) -> Result<Node<'_>> {
    let deep = || Error::bad(format!("YAML: nested deeper than {MAX_DEPTH} levels"));
    // Each with the number of its anchor; 0 for none.
    let mut stack: Vec<(Open, usize)> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut copied = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Error::bad(format!("YAML: {e}")))?;
        let (done, anchor) = match event {
            Event::Scalar(s, _, anchor, _) => (Node::Scalar(s), anchor),
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                if stack.len() >= MAX_DEPTH {
                    return Err(deep());
                }
                let open = if matches!(event, Event::SequenceStart(..)) {
                    Open::Seq(Vec::new())
                } else {
                    Open::Map(Vec::new(), None)
                };
                stack.push((open, anchor));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some((Open::Seq(v), anchor)) => (Node::Seq(v), anchor),
                Some((Open::Map(v, _), anchor)) => (Node::Map(v), anchor),
                None => return Err(Error::bad("YAML: unbalanced end")),
            },
            Event::Alias(anchor) => {
                let line = span.start.line();
                let node = anchors.get(&anchor).ok_or_else(|| {
                    Error::bad(format!("YAML: the alias in line {line} refers to a value that contains it"))
                })?;
                let (nodes, depth) = node.extent();
                copied += nodes;
                if copied > MAX_COPIED {
                    return Err(Error::Unsupported(format!(
                        "YAML aliases that expand to more than {MAX_COPIED} values (line {line})"
                    )));
                }
                if stack.len() + depth > MAX_DEPTH {
                    return Err(deep());
                }
                (node.clone(), 0)
            }
            Event::DocumentEnd | Event::StreamEnd => break,
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, done.clone());
        }
        match stack.last_mut() {
            None => return Ok(done),
            Some((Open::Seq(v), _)) => v.push(done),
            Some((Open::Map(v, key), _)) => match key.take() {
                None => *key = Some(done),
                Some(k) => v.push((k, done)),
            },
        }
    }
    Err(Error::bad("YAML: the file is empty or ends early"))
}

impl<'a> Node<'a> {
    /// Number of nodes, itself included, and levels of nesting.
    fn extent(&self) -> (usize, usize) {
        let sum = |(nodes, depth): (usize, usize), n: &Node| {
            let inner = n.extent();
            (nodes + inner.0, depth.max(inner.1))
        };
        let (nodes, depth) = match self {
            Node::Scalar(_) => return (1, 0),
            Node::Seq(v) => v.iter().fold((0, 0), sum),
            Node::Map(v) => v.iter().flat_map(|(k, n)| [k, n]).fold((0, 0), sum),
        };
        (nodes + 1, depth + 1)
    }

    /// Value of a key of a mapping, if present.
    pub(crate) fn find(&self, key: &str) -> Option<&Node<'a>> {
        match self {
            Node::Map(v) => v.iter().find(|(k, _)| matches!(k, Node::Scalar(s) if s == key)).map(|(_, n)| n),
            _ => None,
        }
    }

    /// Value of a required key.
    pub(crate) fn get(&self, key: &str) -> Result<&Node<'a>> {
        self.find(key).ok_or_else(|| Error::bad(format!("`{key}` is missing")))
    }

    pub(crate) fn seq(&self) -> Result<&[Node<'a>]> {
        match self {
            Node::Seq(v) => Ok(v),
            _ => Err(Error::bad("a list is expected")),
        }
    }

    pub(crate) fn map(&self) -> Result<&[(Node<'a>, Node<'a>)]> {
        match self {
            Node::Map(v) => Ok(v),
            _ => Err(Error::bad("a mapping is expected")),
        }
    }

    pub(crate) fn str(&self) -> Result<&str> {
        match self {
            Node::Scalar(s) => Ok(s),
            _ => Err(Error::bad("a single value is expected")),
        }
    }

    pub(crate) fn f64(&self) -> Result<f64> {
        let s = self.str()?;
        match s.trim().parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(v),
            _ => Err(Error::bad(format!("`{s}` is not a finite number"))),
        }
    }

    pub(crate) fn int(&self) -> Result<i64> {
        let s = self.str()?;
        s.trim().parse().map_err(|_| Error::bad(format!("`{s}` is not a whole number")))
    }

    /// A whole number from 0 to `max`, which is a limit of this evaluator.
    pub(crate) fn usize(&self, max: usize) -> Result<usize> {
        let v = self.int()?;
        let size = usize::try_from(v).map_err(|_| Error::bad(format!("{v} is negative")))?;
        if size > max {
            return Err(Error::Unsupported(format!("{v}, at most {max} is possible")));
        }
        Ok(size)
    }

    /// Value of a required key: a whole number from 0 to `max`, which is a limit of this evaluator.
    pub(crate) fn size(&self, key: &str, max: usize) -> Result<usize> {
        self.get(key)?.usize(max).context(|| key.into())
    }

    pub(crate) fn bool(&self) -> Result<bool> {
        match self.str()? {
            "true" | "True" | "TRUE" | "yes" | "on" => Ok(true),
            "false" | "False" | "FALSE" | "no" | "off" => Ok(false),
            other => Err(Error::bad(format!("`{other}` is not true or false"))),
        }
    }

    pub(crate) fn floats(&self) -> Result<Vec<f64>> {
        self.seq()?.iter().map(Node::f64).collect()
    }

    pub(crate) fn ints(&self) -> Result<Vec<i64>> {
        self.seq()?.iter().map(Node::int).collect()
    }

    /// Whole numbers from `min` to `max`, minus `shift`.
    pub(crate) fn bytes(&self, min: i64, max: i64, shift: i64) -> Result<Vec<u8>> {
        self.ints()?
            .into_iter()
            .map(|v| {
                if v < min || v > max {
                    return Err(Error::bad(format!("{v} is out of range: {min} to {max} is possible")));
                }
                Ok((v - shift) as u8)
            })
            .collect()
    }
}

/// Adds the place in the file to an error.
pub(crate) trait Context<T> {
    fn context(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| match e {
            Error::Malformed(m) => Error::Malformed(format!("{}: {m}", place())),
            Error::Unsupported(m) => Error::Unsupported(format!("{}: {m}", place())),
            e => e,
        })
    }
}
