// SPDX-License-Identifier: GPL-2.0-or-later
//! A YAML document as a tree, with only what potential files need.

use crate::error::{Error, Result};
use saphyr_parser::{Event, Parser};
use std::borrow::Cow;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 32;

/// A node of the document. Text borrows from the input.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    Scalar(Cow<'a, str>),
    Seq(Vec<Node<'a>>),
    Map(Vec<(Node<'a>, Node<'a>)>),
}

/// What is being built at one level of nesting.
enum Open<'a> {
    Seq(Vec<Node<'a>>),
    Map(Vec<(Node<'a>, Node<'a>)>, Option<Node<'a>>),
}

/// Parses the first document of a text. Aliases are refused: they can make a small file huge.
pub(crate) fn parse(text: &str) -> Result<Node<'_>> {
    let mut stack: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Error::bad(format!("YAML: {e}")))?;
        let done = match event {
            Event::Scalar(s, ..) => Node::Scalar(s),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if stack.len() >= MAX_DEPTH {
                    return Err(Error::bad(format!("YAML: nested deeper than {MAX_DEPTH} levels")));
                }
                stack.push(if matches!(event, Event::SequenceStart(..)) {
                    Open::Seq(Vec::new())
                } else {
                    Open::Map(Vec::new(), None)
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open::Seq(v)) => Node::Seq(v),
                Some(Open::Map(v, _)) => Node::Map(v),
                None => return Err(Error::bad("YAML: unbalanced end")),
            },
            Event::Alias(_) => {
                return Err(Error::Unsupported(format!("YAML alias in line {}", span.start.line())));
            }
            Event::DocumentEnd | Event::StreamEnd => break,
            _ => continue,
        };
        match stack.last_mut() {
            None => return Ok(done),
            Some(Open::Seq(v)) => v.push(done),
            Some(Open::Map(v, key)) => match key.take() {
                None => *key = Some(done),
                Some(k) => v.push((k, done)),
            },
        }
    }
    Err(Error::bad("YAML: the file is empty or ends early"))
}

impl<'a> Node<'a> {
    /// Value of a key of a mapping, if it is there.
    pub(crate) fn find(&self, key: &str) -> Option<&Node<'a>> {
        match self {
            Node::Map(v) => v.iter().find(|(k, _)| matches!(k, Node::Scalar(s) if s == key)).map(|(_, n)| n),
            _ => None,
        }
    }

    /// Value of a key that must be there.
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

    pub(crate) fn usize(&self, most: usize) -> Result<usize> {
        let v = self.int()?;
        usize::try_from(v)
            .ok()
            .filter(|v| *v <= most)
            .ok_or_else(|| Error::bad(format!("{v} is out of range: 0 to {most} is possible")))
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

    /// Whole numbers between `least` and `most`, less `shift`.
    pub(crate) fn bytes(&self, least: i64, most: i64, shift: i64) -> Result<Vec<u8>> {
        self.ints()?
            .into_iter()
            .map(|v| {
                if v < least || v > most {
                    return Err(Error::bad(format!("{v} is out of range: {least} to {most} is possible")));
                }
                Ok((v - shift) as u8)
            })
            .collect()
    }
}

/// Adds the place to an error.
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
