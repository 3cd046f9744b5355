// SPDX-License-Identifier: GPL-2.0-or-later
//! Common parts of the readers: numbered lines, validated numbers, and the collection of atoms.
use super::{Error, Frame, LineEnd, masses, read_line};
use crate::structure::{
    AtomId, Cell, Element, FixedAtoms, Structure, Vec3, element_from_symbol, nonstandard_masses, standard_mass,
};
use ndarray::{Array1, Array2};
use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

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
        let end = read_line(&mut self.reader, &mut self.buffer);
        let end = end.map_err(|source| Error::Read { path: self.path.to_owned(), source })?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if end == LineEnd::TooLong {
            return Err(self.error("the line is longer than 2^20 bytes: this is not a structure file"));
        }
        if std::str::from_utf8(&self.buffer).is_err() {
            if self.buffer.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()) {
                return Err(self.error("the line contains binary data: this is not a text file"));
            }
            // In Latin-1, each byte is the code point of its character.
            self.buffer = self.buffer.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes();
        }
        // The buffer is valid UTF-8 here.
        Ok(Some(std::str::from_utf8(&self.buffer).unwrap_or_default().trim_end()))
    }

    /// An error at the line that was read last.
    pub fn error(&self, message: impl Into<String>) -> Error {
        parse_error(self.path, self.number, message)
    }

    /// Checks at the end of the file that its last frame was selected. `found` is the number of frames, and `empty` the
    /// message for a file without frames.
    pub fn check_last_frame(&self, frame: Frame, found: usize, empty: &str) -> Result<(), Error> {
        match frame {
            _ if found == 0 => Err(self.error(empty)),
            Frame::Nth(wanted) => Err(Error::NoFrame { path: self.path.to_owned(), found, wanted }),
            Frame::First | Frame::Last => Ok(()),
        }
    }
}

/// An error at a line.
pub(super) fn parse_error(path: &Path, line: u64, message: impl Into<String>) -> Error {
    Error::Parse { path: path.to_owned(), line, message: message.into() }
}

/// The lines of one frame, stored as text until the frame is selected.
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

    /// The lines with their numbers in the file.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &str)> {
        (self.first..).zip(self.text.lines())
    }
}

/// Parses a token as a finite number. `what` is the subject of the error message.
pub(super) fn real(token: Option<&str>, what: &str) -> Result<f64, String> {
    let token = token.ok_or_else(|| format!("{what} is missing"))?;
    match token.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(format!("{what} is {token}, not a finite number")),
        Err(_) => Err(format!("{what} must be a number, not {token:?}")),
    }
}

/// Parses a token as an integer. `what` is the subject of the error message.
pub(super) fn integer<T: std::str::FromStr>(token: Option<&str>, what: &str) -> Result<T, String> {
    let token = token.ok_or_else(|| format!("{what} is missing"))?;
    token.parse().map_err(|_| format!("{what} must be an integer (in range), not {token:?}"))
}

/// Parses three tokens as finite numbers.
pub(super) fn triple<'a>(tokens: &mut impl Iterator<Item = &'a str>, what: [&str; 3]) -> Result<Vec3, String> {
    Ok([real(tokens.next(), what[0])?, real(tokens.next(), what[1])?, real(tokens.next(), what[2])?])
}

/// Multiplies numbers of the file by a unit factor. The result must be finite.
pub(super) fn scaled(values: Vec3, factor: f64, what: &str) -> Result<Vec3, String> {
    let scaled = values.map(|x| x * factor);
    if scaled.iter().all(|x| x.is_finite()) { Ok(scaled) } else { Err(format!("{what} {values:?} is too large")) }
}

/// The atoms read so far.
#[derive(Default)]
pub(super) struct Collected {
    pub ids: Vec<AtomId>,
    pub types: Vec<i32>,
    pub positions: Vec<f64>,
    pub velocities: Vec<f64>,
    /// Axes along which each atom is fixed; empty if the file has no such data.
    pub fixed: Vec<[bool; 3]>,
    /// Line number of each atom.
    pub lines: Vec<u64>,
}

impl Collected {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Indices of the atoms in ascending order of their ids.
    ///
    /// # Errors
    /// At the line of an id that is not positive or occurs twice.
    pub fn by_id(&self, path: &Path) -> Result<Vec<usize>, Error> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by_key(|&i| (self.ids[i], i));
        if let Some(&i) = order.first()
            && self.ids[i] < 1
        {
            let message = format!("atom id {} is not positive: ids must be 1 or more", self.ids[i]);
            return Err(parse_error(path, self.lines[i], message));
        }
        for pair in order.windows(2) {
            if self.ids[pair[0]] == self.ids[pair[1]] {
                let message = format!(
                    "atom id {} occurs also in line {}: ids must be unique",
                    self.ids[pair[1]], self.lines[pair[0]]
                );
                return Err(parse_error(path, self.lines[pair[1]], message));
            }
        }
        Ok(order)
    }

    /// The structure. `masses` are those of the types (u), if the file has any.
    pub fn structure(self, cell: Cell, elements: Vec<Element>, masses: Option<Vec<f64>>) -> Structure {
        let n = self.ids.len();
        let table = |rows: Vec<f64>| Array2::from_shape_vec((n, 3), rows).ok();
        Structure {
            cell,
            masses: masses.and_then(|masses| nonstandard_masses(masses, &elements)),
            elements,
            types: Array1::from_vec(self.types),
            fixed: fixed_atoms(&self.ids, &self.fixed),
            ids: Array1::from_vec(self.ids),
            positions: table(self.positions).unwrap_or_else(|| Array2::zeros((n, 3))),
            velocities: if self.velocities.is_empty() { None } else { table(self.velocities) },
        }
    }
}

/// The fixed atoms, grouped by their fixed axes.
fn fixed_atoms(ids: &[AtomId], fixed: &[[bool; 3]]) -> Vec<FixedAtoms> {
    let mut found: Vec<FixedAtoms> = Vec::new();
    for (&id, &axes) in ids.iter().zip(fixed).filter(|(_, axes)| **axes != [false; 3]) {
        match found.iter_mut().find(|fixed| fixed.axes == axes) {
            Some(fixed) => fixed.ids.push(id),
            None => found.push(FixedAtoms { axes, ids: vec![id] }),
        }
    }
    found
}

/// Largest number of atom types in a file, to limit the memory used for an invalid header.
pub(super) const MAX_TYPES: usize = 100_000;

/// Numbering of elements as types, in the order of the hint or of first occurrence. Atoms of one element with different
/// masses have different types, since LAMMPS has one mass for each type.
pub(super) struct TypeTable<'h> {
    hint: Option<&'h [Element]>,
    pub elements: Vec<Element>,
    /// The mass of each type, if an atom of the type has a mass.
    masses: Vec<Option<f64>>,
    /// The type of each combination of element and mass (as bits).
    types: HashMap<(Element, Option<u64>), i32>,
    /// Warnings about unusual masses.
    pub warnings: Vec<String>,
    /// Symbol, mass and type of the previous atom.
    last: (String, Option<f64>, i32),
}

impl<'h> TypeTable<'h> {
    pub fn new(hint: Option<&'h [Element]>) -> Self {
        let elements = hint.map(<[_]>::to_vec).unwrap_or_default();
        Self {
            hint,
            masses: vec![None; elements.len()],
            elements,
            types: HashMap::new(),
            warnings: Vec::new(),
            last: (String::new(), None, 0),
        }
    }

    /// The type of an atom with this element symbol and, if the file has masses, this mass (u).
    pub fn type_of(&mut self, symbol: &str, mass: Option<f64>) -> Result<i32, String> {
        if symbol == self.last.0 && mass == self.last.1 {
            return Ok(self.last.2);
        }
        let element = element_from_symbol(symbol).ok_or_else(|| format!("{symbol:?} is not a chemical element"))?;
        let ty = self.type_of_element(element, mass)?;
        self.last = (symbol.to_owned(), mass, ty);
        Ok(ty)
    }

    /// As [`TypeTable::type_of`], for an element.
    pub fn type_of_element(&mut self, element: Element, mass: Option<f64>) -> Result<i32, String> {
        let key = (element, mass.map(f64::to_bits));
        if let Some(&ty) = self.types.get(&key) {
            return Ok(ty);
        }
        let place = match self.hint {
            Some(hint) => self.place_in_hint(hint, element, mass)?,
            None if self.elements.len() == MAX_TYPES => {
                return Err(format!(
                    "the atoms have more than {MAX_TYPES} different masses, and LAMMPS requires one type for each: use \
                     the same mass for all atoms of an element"
                ));
            }
            None => {
                self.elements.push(element);
                self.masses.push(None);
                self.elements.len() - 1
            }
        };
        if let Some(mass) = mass {
            let warning =
                masses::compare(element, mass).map_err(|why| format!("{why}: correct its mass or its element"))?;
            self.warnings.extend(warning);
        }
        self.masses[place] = mass;
        let ty = place as i32 + 1;
        self.types.insert(key, ty);
        Ok(ty)
    }

    /// The index of the first type of the hint with this element and without a mass.
    fn place_in_hint(&self, hint: &[Element], element: Element, mass: Option<f64>) -> Result<usize, String> {
        let mut of_element = (0..hint.len()).filter(|&place| hint[place] == element);
        if let Some(place) = of_element.clone().find(|&place| self.masses[place].is_none()) {
            return Ok(place);
        }
        let (symbol, given) = (element.symbol(), hint.iter().map(|e| e.symbol()).collect::<Vec<_>>().join(", "));
        Err(match (of_element.next().and_then(|place| self.masses[place]), mass) {
            (Some(other), Some(mass)) => format!(
                "{symbol} has the mass {mass} u here and {other} u before, which requires a type for each: list \
                 {symbol} once for each mass (the given elements are {given})"
            ),
            _ => format!("element {symbol} is not among the given elements {given}"),
        })
    }

    /// The mass of each type (u), or the standard one for a type without atoms; `None` if the file has no masses.
    pub fn masses(&self) -> Option<Vec<f64>> {
        let types = self.masses.iter().zip(&self.elements);
        let all = types.map(|(mass, element)| mass.unwrap_or_else(|| standard_mass(*element))).collect();
        self.masses.iter().any(Option::is_some).then_some(all)
    }
}

/// Parses a token as a mass (u).
pub(super) fn mass(token: Option<&str>) -> Result<f64, String> {
    let mass = real(token, "the mass")?;
    if (1e-6..=1e6).contains(&mass) {
        Ok(mass)
    } else {
        Err(format!("the mass is {mass} u, but must be between 1e-6 and 1e6 u"))
    }
}

/// Stores a value that a file must not give twice with different values.
pub(super) fn set_once<T: PartialEq + std::fmt::Debug>(
    slot: &mut Option<T>,
    value: T,
    what: &str,
) -> Result<(), String> {
    match slot {
        Some(other) if *other != value => {
            Err(format!("{what} is given twice: first {other:?}, then {value:?}; remove one of them"))
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}
