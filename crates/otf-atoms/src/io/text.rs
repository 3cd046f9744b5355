// SPDX-License-Identifier: GPL-2.0-or-later
//! What the readers share: numbered lines, checked numbers, atoms as they are collected.
use super::{Error, masses};
use crate::structure::{
    Cell, Element, FixedAtoms, Structure, Vec3, element_from_symbol, standard_mass, unless_standard,
};
use ndarray::{Array1, Array2};
use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;

/// A longer line is an error: it is no structure file, and it must not fill the memory.
const LONGEST_LINE: u64 = 1 << 20;

/// Lines of a file with their numbers.
pub(super) struct Lines<'p, R> {
    reader: R,
    buffer: Vec<u8>,
    pub path: &'p Path,
    /// Number of the line that was read last, from 1.
    pub number: u64,
}

impl<'p, R: BufRead> Lines<'p, R> {
    pub fn new(reader: R, path: &'p Path) -> Self {
        Self { reader, buffer: Vec::new(), path, number: 0 }
    }

    /// The next line without its end, or `None` at the end of the file.
    pub fn next(&mut self) -> Result<Option<&str>, Error> {
        self.buffer.clear();
        let read = (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|source| Error::Read { path: self.path.to_owned(), source })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read as u64 == LONGEST_LINE {
            return Err(self.error("the line is longer than a million characters: this is no structure file"));
        }
        if std::str::from_utf8(&self.buffer).is_err() {
            if self.buffer.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()) {
                return Err(self.error("the line is not text"));
            }
            // Latin-1, of which each byte is the number of its character.
            self.buffer = self.buffer.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes();
        }
        // Text by now.
        Ok(Some(std::str::from_utf8(&self.buffer).unwrap_or_default().trim_end()))
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        parse_error(self.path, self.number, message)
    }
}

pub(super) fn parse_error(path: &Path, line: u64, message: impl Into<String>) -> Error {
    Error::Parse { path: path.to_owned(), line, message: message.into() }
}

/// The lines of one frame, kept as text until it is known that this frame is wanted.
#[derive(Default)]
pub(super) struct FrameText {
    pub text: String,
    /// Number of its first line.
    pub first: u64,
}

impl FrameText {
    pub fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Its lines with their numbers in the file.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &str)> {
        (self.first..).zip(self.text.lines())
    }
}

/// A token as a finite number; the message tells what is wrong otherwise.
pub(super) fn real(token: Option<&str>, what: &str) -> Result<f64, String> {
    let token = token.ok_or_else(|| format!("{what} is missing"))?;
    match token.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(format!("{what} is {token}, not a finite number")),
        Err(_) => Err(format!("{what} should be a number, not {token:?}")),
    }
}

/// A token as a whole number of the wanted kind.
pub(super) fn integer<T: std::str::FromStr>(token: Option<&str>, what: &str) -> Result<T, String> {
    let token = token.ok_or_else(|| format!("{what} is missing"))?;
    token.parse().map_err(|_| format!("{what} should be a whole number (within range), not {token:?}"))
}

/// Three finite numbers.
pub(super) fn triple<'a>(tokens: &mut impl Iterator<Item = &'a str>, what: [&str; 3]) -> Result<Vec3, String> {
    Ok([real(tokens.next(), what[0])?, real(tokens.next(), what[1])?, real(tokens.next(), what[2])?])
}

/// Numbers of the file in other units, which may have become too large.
pub(super) fn scaled(values: Vec3, factor: f64, what: &str) -> Result<Vec3, String> {
    let scaled = values.map(|x| x * factor);
    if scaled.iter().all(|x| x.is_finite()) { Ok(scaled) } else { Err(format!("{what} {values:?} is too large")) }
}

/// Atoms as they come in.
#[derive(Default)]
pub(super) struct Collected {
    pub ids: Vec<i32>,
    pub types: Vec<i32>,
    pub positions: Vec<f64>,
    pub velocities: Vec<f64>,
    /// Axes along which each atom is fixed; empty where the file does not say.
    pub fixed: Vec<[bool; 3]>,
    /// Line of each atom.
    pub lines: Vec<u64>,
}

impl Collected {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Places of the ids in ascending order; an error at the line of an id that is not positive or comes twice.
    pub fn by_id(&self, path: &Path) -> Result<Vec<usize>, Error> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by_key(|&i| (self.ids[i], i));
        if let Some(&i) = order.first()
            && self.ids[i] < 1
        {
            let message = format!("atom id {} is not positive: ids count from 1", self.ids[i]);
            return Err(parse_error(path, self.lines[i], message));
        }
        for pair in order.windows(2) {
            if self.ids[pair[0]] == self.ids[pair[1]] {
                let message = format!("atom id {} was used in line {} already", self.ids[pair[1]], self.lines[pair[0]]);
                return Err(parse_error(path, self.lines[pair[1]], message));
            }
        }
        Ok(order)
    }

    /// `masses` are those of the types, where the file has any.
    pub fn structure(self, cell: Cell, elements: Vec<Element>, masses: Option<Vec<f64>>) -> Structure {
        let n = self.ids.len();
        let table = |rows: Vec<f64>| Array2::from_shape_vec((n, 3), rows).ok();
        Structure {
            cell,
            masses: masses.and_then(|masses| unless_standard(masses, &elements)),
            elements,
            types: Array1::from_vec(self.types),
            fixed: fixed_atoms(&self.ids, &self.fixed),
            ids: Array1::from_vec(self.ids),
            positions: table(self.positions).unwrap_or_else(|| Array2::zeros((n, 3))),
            velocities: if self.velocities.is_empty() { None } else { table(self.velocities) },
        }
    }
}

/// The atoms that are fixed, by the axes along which they are.
fn fixed_atoms(ids: &[i32], fixed: &[[bool; 3]]) -> Vec<FixedAtoms> {
    let mut found: Vec<FixedAtoms> = Vec::new();
    for (&id, &axes) in ids.iter().zip(fixed).filter(|(_, axes)| **axes != [false; 3]) {
        match found.iter_mut().find(|fixed| fixed.axes == axes) {
            Some(fixed) => fixed.ids.push(id),
            None => found.push(FixedAtoms { axes, ids: vec![id] }),
        }
    }
    found
}

/// Most atom types in a file. No potential has more than the elements; the limit keeps a broken file small.
pub(super) const MOST_TYPES: usize = 100_000;

/// Numbers elements as types: in the order of the hint, or as they appear. Atoms of one element that have different masses
/// are of different types, since LAMMPS has one mass for each type.
pub(super) struct TypeTable<'h> {
    hint: Option<&'h [Element]>,
    pub elements: Vec<Element>,
    /// The mass of each type, where an atom has told it.
    masses: Vec<Option<f64>>,
    /// The type of each element and mass that has come.
    known: HashMap<(Element, Option<u64>), i32>,
    /// What a user should know of the masses.
    pub notes: Vec<String>,
    last: (String, Option<f64>, i32),
}

impl<'h> TypeTable<'h> {
    pub fn new(hint: Option<&'h [Element]>) -> Self {
        let elements = hint.map(<[_]>::to_vec).unwrap_or_default();
        Self {
            hint,
            masses: vec![None; elements.len()],
            elements,
            known: HashMap::new(),
            notes: Vec::new(),
            last: (String::new(), None, 0),
        }
    }

    /// The type of an atom of this element and, where the file has masses, of this mass.
    pub fn type_of(&mut self, symbol: &str, mass: Option<f64>) -> Result<i32, String> {
        if symbol == self.last.0 && mass == self.last.1 {
            return Ok(self.last.2);
        }
        let element = element_from_symbol(symbol).ok_or_else(|| format!("{symbol:?} is not a chemical element"))?;
        let ty = self.type_of_element(element, mass)?;
        self.last = (symbol.to_owned(), mass, ty);
        Ok(ty)
    }

    pub fn type_of_element(&mut self, element: Element, mass: Option<f64>) -> Result<i32, String> {
        let key = (element, mass.map(f64::to_bits));
        if let Some(&ty) = self.known.get(&key) {
            return Ok(ty);
        }
        let place = match self.hint {
            Some(hint) => self.given(hint, element, mass)?,
            None if self.elements.len() == MOST_TYPES => {
                return Err(format!(
                    "the atoms have more than {MOST_TYPES} different masses, and LAMMPS needs one type for each: give \
                     atoms of one element the same mass"
                ));
            }
            None => {
                self.elements.push(element);
                self.masses.push(None);
                self.elements.len() - 1
            }
        };
        if let Some(mass) = mass {
            let said =
                masses::compare(element, mass).map_err(|why| format!("{why}: correct its mass or its element"))?;
            self.notes.extend(said);
        }
        self.masses[place] = mass;
        let ty = place as i32 + 1;
        self.known.insert(key, ty);
        Ok(ty)
    }

    /// The first of the given types that is of this element and has no mass yet.
    fn given(&self, hint: &[Element], element: Element, mass: Option<f64>) -> Result<usize, String> {
        let mut of_element = (0..hint.len()).filter(|&place| hint[place] == element);
        if let Some(place) = of_element.clone().find(|&place| self.masses[place].is_none()) {
            return Ok(place);
        }
        let (symbol, known) = (element.symbol(), hint.iter().map(|e| e.symbol()).collect::<Vec<_>>().join(", "));
        Err(match (of_element.next().and_then(|place| self.masses[place]), mass) {
            (Some(other), Some(mass)) => format!(
                "{symbol} has the mass {mass} u here and {other} u before, which takes one type for each: the given \
                 elements {known} have fewer of {symbol}"
            ),
            _ => format!("element {symbol} is not among the given elements {known}"),
        })
    }

    /// The mass of each type, if the file has any: the standard one where no atom has told it.
    pub fn masses(&self) -> Option<Vec<f64>> {
        let told = self.masses.iter().zip(&self.elements);
        let all = told.map(|(mass, element)| mass.unwrap_or_else(|| standard_mass(*element))).collect();
        self.masses.iter().any(Option::is_some).then_some(all)
    }
}

/// A token as a mass.
pub(super) fn mass(token: Option<&str>) -> Result<f64, String> {
    let mass = real(token, "the mass")?;
    if (1e-6..=1e6).contains(&mass) {
        Ok(mass)
    } else {
        Err(format!("the mass is {mass} u, not between 1e-6 and 1e6 u"))
    }
}

/// Notes a value that a file gives once.
pub(super) fn once<T: PartialEq + std::fmt::Debug>(slot: &mut Option<T>, value: T, what: &str) -> Result<(), String> {
    match slot {
        Some(other) if *other != value => {
            Err(format!("{what} is given twice: {other:?} before, and {value:?} here; remove one of them"))
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}
