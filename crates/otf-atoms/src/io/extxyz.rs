// SPDX-License-Identifier: GPL-2.0-or-later
//! Extended XYZ, as ASE and libAtoms define it.
//!
//! Per-atom columns that mean something here: `species` (or `Z`), `pos`, `id` (or `ids`), and velocities as
//! `momenta` (ASE's units, with `masses` or the standard atomic weights), `velocities` (or `vel`; Å/ps) or `velo`
//! (libAtoms: Å/fs), and `move_mask`, one flag for each atom or one for each of its axes: atoms that may not move are fixed.
//! Atoms of one element with different `masses` become atoms of different types. The comment line's `Origin`, which OVITO
//! knows too, is the corner of the cell. Other columns and
//! keys are skipped.
//!
//! Names are read in any letters, but the exact one goes first: `Lattice` before `lattice`, `forces` before `force`,
//! `momenta` before velocities, as in ASE. Two values of one key, or two columns of the same rank, are an error that
//! names both; where `species` and `Z` are both there, they must agree.
mod results;

pub use results::{Results, read_results};

use super::text::{Collected, FrameText, Lines, TypeTable, integer, mass, parse_error, real, scaled};
use super::{Error, Frame};
use crate::structure::{Cell, Element, Structure, Vec3, standard_mass};
use ndarray::{ArrayView1, ArrayView2};
use std::io::{BufRead, Write};
use std::path::Path;

/// One of ASE's velocity units, Å (eV/u)^(1/2), in Å/ps: `1000 ase.units.fs` with the CODATA 2014 constants that ASE
/// uses.
pub const ASE_VELOCITY: f64 = 98.226_947_884_640_64;

/// A column to be written beside the standard ones.
#[derive(Debug, Clone)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its numbers, one row for each atom.
    pub data: ColumnData<'a>,
}

/// The numbers of a column.
#[derive(Debug, Clone)]
pub enum ColumnData<'a> {
    /// `R`: real numbers; shape (n).
    Real(ArrayView1<'a, f64>),
    /// `R` with several numbers for each atom; shape (n, k).
    RealRows(ArrayView2<'a, f64>),
    /// `I`: whole numbers; shape (n).
    Integer(ArrayView1<'a, i32>),
    /// `I` with several numbers for each atom; shape (n).
    IntegerTriples(&'a [[i32; 3]]),
    /// `L`: true or false; shape (n).
    Logical(&'a [bool]),
}

/// A value of the comment line.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A real number.
    Real(f64),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Bool(bool),
}

impl<'a> Column<'a> {
    /// A column of real numbers.
    #[must_use]
    pub fn real(name: &'a str, data: &'a [f64]) -> Self {
        Self { name, data: ColumnData::Real(data.into()) }
    }

    /// A column of whole numbers.
    #[must_use]
    pub fn integer(name: &'a str, data: &'a [i32]) -> Self {
        Self { name, data: ColumnData::Integer(data.into()) }
    }
}

impl ColumnData<'_> {
    /// Number of rows, and numbers in each.
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Real(data) => (data.len(), 1),
            Self::RealRows(data) => data.dim(),
            Self::Integer(data) => (data.len(), 1),
            Self::IntegerTriples(data) => (data.len(), 3),
            Self::Logical(data) => (data.len(), 1),
        }
    }
}

/// Writes one frame that ASE, OVITO and quippy read. Numbers keep every bit.
///
/// Velocities become `momenta` in ASE's units. Masses become a column `masses`, unless they are the standard atomic weights:
/// ASE's may differ from those in the eighth digit, and so may the velocities that it computes. Ids become a column `id`
/// unless they are 1 to n in order.
///
/// # Errors
/// [`Error::Write`]; [`Error::Column`] if a name has a character that the format uses (space, colon, `=`, quotes), or
/// a column does not have one row for each atom.
pub fn write(
    out: &mut impl Write,
    structure: &Structure,
    columns: &[Column<'_>],
    info: &[(&str, Value)],
) -> Result<(), Error> {
    let n = structure.len();
    for name in columns.iter().map(|c| c.name).chain(info.iter().map(|i| i.0)) {
        let bad = |c: char| c.is_whitespace() || c.is_control() || ":=\"'{}[]\\,".contains(c);
        if name.is_empty() || name.contains(bad) {
            let message = "names are made of letters, digits and underscores".to_owned();
            return Err(Error::Column { name: name.to_owned(), message });
        }
    }
    if let Some(column) = columns.iter().find(|column| column.data.shape().0 != n) {
        let message = format!("it has {} rows for {n} atoms", column.data.shape().0);
        return Err(Error::Column { name: column.name.to_owned(), message });
    }

    let cell = &structure.cell;
    writeln!(out, "{n}")?;
    let lattice: Vec<String> = cell.vectors.iter().flatten().map(|x| format!("{x:?}")).collect();
    write!(out, "Lattice=\"{}\"", lattice.join(" "))?;
    if cell.origin != [0.0; 3] {
        write!(out, " Origin=\"{:?} {:?} {:?}\"", cell.origin[0], cell.origin[1], cell.origin[2])?;
    }
    write!(out, " Properties=species:S:1:pos:R:3")?;
    let with_ids = structure.ids.iter().zip(1..).any(|(&id, place)| id != place);
    if with_ids {
        write!(out, ":id:I:1")?;
    }
    if structure.masses.is_some() {
        write!(out, ":masses:R:1")?;
    }
    if structure.velocities.is_some() {
        write!(out, ":momenta:R:3")?;
    }
    let mut fixed = std::collections::HashMap::new();
    for atoms in &structure.fixed {
        fixed.extend(atoms.ids.iter().map(|id| (*id, atoms.axes)));
    }
    // ASE has one flag for `FixAtoms`, three for `FixCartesian`.
    let flags = if fixed.values().all(|axes| *axes == [true; 3]) { 1 } else { 3 };
    if !fixed.is_empty() {
        write!(out, ":move_mask:L:{flags}")?;
    }
    for column in columns {
        let kind = match column.data {
            ColumnData::Real(_) | ColumnData::RealRows(_) => 'R',
            ColumnData::Integer(_) | ColumnData::IntegerTriples(_) => 'I',
            ColumnData::Logical(_) => 'L',
        };
        write!(out, ":{}:{kind}:{}", column.name, column.data.shape().1)?;
    }
    let flag = |periodic| if periodic { 'T' } else { 'F' };
    write!(out, " pbc=\"{} {} {}\"", flag(cell.pbc[0]), flag(cell.pbc[1]), flag(cell.pbc[2]))?;
    for (key, value) in info {
        match value {
            Value::Text(text) => {
                // A line break would end the comment line.
                let text = text.replace(['\n', '\r'], " ").replace('\\', "\\\\").replace('"', "\\\"");
                write!(out, " {key}=\"{text}\"")?;
            }
            Value::Real(x) => write!(out, " {key}={x:?}")?,
            Value::Integer(i) => write!(out, " {key}={i}")?,
            Value::Bool(b) => write!(out, " {key}={}", flag(*b))?,
        }
    }
    writeln!(out)?;

    for i in 0..n {
        let element = structure.element(i);
        let [x, y, z] = structure.position(i);
        write!(out, "{} {x:?} {y:?} {z:?}", element.symbol())?;
        if with_ids {
            write!(out, " {}", structure.ids[i])?;
        }
        if structure.masses.is_some() {
            write!(out, " {:?}", structure.mass(i))?;
        }
        if let Some(velocities) = &structure.velocities {
            let mass = structure.mass(i);
            for k in 0..3 {
                write!(out, " {:?}", velocities[[i, k]] / ASE_VELOCITY * mass)?;
            }
        }
        if !fixed.is_empty() {
            let axes = fixed.get(&structure.ids[i]).copied().unwrap_or_default();
            axes[..flags].iter().try_for_each(|fixed| write!(out, " {}", flag(!fixed)))?;
        }
        for column in columns {
            match &column.data {
                ColumnData::Real(data) => write!(out, " {:?}", data[i])?,
                ColumnData::RealRows(data) => data.row(i).iter().try_for_each(|x| write!(out, " {x:?}"))?,
                ColumnData::Integer(data) => write!(out, " {}", data[i])?,
                ColumnData::IntegerTriples(data) => data[i].iter().try_for_each(|x| write!(out, " {x}"))?,
                ColumnData::Logical(data) => write!(out, " {}", flag(data[i]))?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Reads one frame. `path` is only for the messages.
///
/// # Errors
/// [`Error`], with the line.
pub fn read(reader: impl BufRead, path: &Path, hint: Option<&[Element]>, frame: Frame) -> Result<Structure, Error> {
    read_noting(reader, path, hint, frame, &mut Vec::new())
}

/// As [`read`], with what a user should know of the file.
pub(super) fn read_noting(
    reader: impl BufRead,
    path: &Path,
    hint: Option<&[Element]>,
    frame: Frame,
    notes: &mut Vec<String>,
) -> Result<Structure, Error> {
    let mut lines = Lines::new(reader, path);
    let mut text = FrameText::default();
    let mut found = 0;
    while next_frame(&mut lines, &mut text)? {
        found += 1;
        if frame == Frame::First || frame == Frame::Nth(found - 1) {
            return parse(&text, path, hint, notes);
        }
    }
    match frame {
        Frame::Nth(wanted) if found > 0 => Err(Error::NoFrame { path: path.to_owned(), found, wanted }),
        _ if found == 0 => Err(lines.error("the file is empty: an extended XYZ file starts with the number of atoms")),
        _ => parse(&text, path, hint, notes),
    }
}

/// Takes the text of the next frame; false at the end of the file. The last frame's text stays.
fn next_frame<R: BufRead>(lines: &mut Lines<'_, R>, frame: &mut FrameText) -> Result<bool, Error> {
    let count = loop {
        match lines.next()? {
            None => return Ok(false),
            Some("") => {}
            Some(line) => break integer::<u64>(Some(line.trim()), "the number of atoms"),
        }
    };
    let count = count.map_err(|message| lines.error(message))?;
    frame.text.clear();
    frame.first = lines.number + 1;
    for k in 0..=count {
        match lines.next()? {
            Some(line) => frame.push(line),
            None => {
                let message = format!("the file ends after {} of {count} atoms of this frame", k.saturating_sub(1));
                return Err(lines.error(message));
            }
        }
    }
    Ok(true)
}

/// Where each column that matters starts.
struct Columns {
    species: Option<usize>,
    number: Option<usize>,
    position: usize,
    id: Option<usize>,
    mass: Option<usize>,
    momentum: Option<usize>,
    /// Start, and the factor to Å/ps.
    velocity: Option<(usize, f64)>,
    force: Option<usize>,
    /// Start, and number of flags.
    mobile: Option<(usize, usize)>,
    total: usize,
}

/// One entry of Properties.
struct Property<'p> {
    name: &'p str,
    kind: &'p str,
    width: usize,
    /// Its first column.
    at: usize,
}

impl Columns {
    fn parse(properties: &str) -> Result<Self, String> {
        let mut list: Vec<Property<'_>> = Vec::new();
        let mut total = 0;
        let mut parts = properties.split(':');
        while let Some(name) = parts.next() {
            let (kind, width) = (parts.next(), parts.next());
            let (Some(kind), Some(width)) = (kind, width) else {
                return Err(format!("Properties {properties:?} is not a list of name:kind:columns"));
            };
            let width: usize = integer(Some(width), "the number of columns in Properties")?;
            if width == 0 || width > 10_000 || total > 100_000 {
                return Err(format!("Properties gives {name} an impossible number of columns, {width}"));
            }
            list.push(Property { name, kind, width, at: total });
            total += width;
        }
        let column = |names: &[&str], kind, width| Ok::<_, String>(find(&list, names, kind, width)?.map(|p| p.at));
        let (species, number) = (column(&["species", "symbols"], "S", 1)?, column(&["Z", "numbers"], "I", 1)?);
        let (Some(position), true) = (column(&["pos", "positions"], "R", 3)?, species.or(number).is_some()) else {
            return Err(format!("Properties {properties:?} lacks pos or species"));
        };
        let momentum = column(&["momenta"], "R", 3)?;
        let velocity = match momentum {
            Some(_) => None,
            // libAtoms has Å/fs in `velo`.
            None => one_of(list.iter().filter(|p| p.is_one_of(&["velocities", "vel", "velo"])), "R", 3)?
                .map(|p| (p.at, if p.is_one_of(&["velo"]) { 1000.0 } else { 1.0 })),
        };
        let mobile = match list.iter().find(|p| p.is_one_of(&["move_mask"])).map(|p| (p.kind, p.width)) {
            // ASE's and libAtoms'.
            Some((kind @ ("L" | "I"), width @ (1 | 3))) => {
                one_of(list.iter().filter(|p| p.is_one_of(&["move_mask"])), kind, width)?.map(|p| (p.at, width))
            }
            Some((kind, width)) => {
                return Err(format!(
                    "Properties has move_mask:{kind}:{width}; it should be move_mask:L:1 or move_mask:L:3"
                ));
            }
            None => None,
        };
        Ok(Self {
            species,
            number,
            position,
            id: column(&["id", "ids"], "I", 1)?,
            mass: column(&["masses", "mass"], "R", 1)?,
            momentum,
            velocity,
            force: column(&["forces", "force"], "R", 3)?,
            mobile,
            total,
        })
    }
}

impl Property<'_> {
    /// Whether it has one of these names, in any letters.
    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.eq_ignore_ascii_case(name))
    }
}

/// The column with the first of these names, which is the standard one; else with one of them in any letters.
fn find<'l, 'p>(
    list: &'l [Property<'p>],
    names: &[&str],
    kind: &str,
    width: usize,
) -> Result<Option<&'l Property<'p>>, String> {
    match one_of(list.iter().filter(|p| p.name == names[0]), kind, width)? {
        None => one_of(list.iter().filter(|p| p.is_one_of(names)), kind, width),
        exact => Ok(exact),
    }
}

/// The only one of these columns, of that kind; `None` if there is none.
fn one_of<'l, 'p>(
    mut found: impl Iterator<Item = &'l Property<'p>>,
    kind: &str,
    width: usize,
) -> Result<Option<&'l Property<'p>>, String> {
    let text = |p: &Property<'_>| format!("{}:{}:{}", p.name, p.kind, p.width);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if one.kind == kind && one.width == width => Ok(Some(one)),
        (Some(one), None) => Err(format!("Properties has {}; it should be {}:{kind}:{width}", text(one), one.name)),
        (Some(one), Some(other)) => Err(format!(
            "Properties has both {} and {}, which mean the same: remove or rename one of them",
            text(one),
            text(other)
        )),
    }
}

/// The `key=value` pairs of a comment line.
struct Comment(Vec<(String, String)>);

impl Comment {
    fn parse(line: &str) -> Result<Self, String> {
        Ok(Self(comment_keys(line)?))
    }

    /// The value of a key: of the exact name if it is there, as ASE reads it, else of the same name in other letters.
    fn value(&self, name: &str) -> Result<Option<&str>, String> {
        let exact = self.0.iter().any(|(key, _)| key == name);
        let mut found: Option<&(String, String)> = None;
        for pair @ (key, value) in &self.0 {
            if if exact { key != name } else { !key.eq_ignore_ascii_case(name) } {
                continue;
            }
            if let Some((first, other)) = found
                && other != value
            {
                return Err(format!(
                    "the comment line has both {first}={other:?} and {key}={value:?}: remove one of them"
                ));
            }
            found = Some(pair);
        }
        Ok(found.map(|(_, value)| value.as_str()))
    }

    fn columns(&self) -> Result<Columns, String> {
        Columns::parse(self.value("Properties")?.unwrap_or("species:S:1:pos:R:3"))
    }

    fn cell(&self) -> Result<Cell, String> {
        parse_cell(self.value("Lattice")?, self.value("pbc")?, self.value("Origin")?).map(complete)
    }
}

fn parse(
    frame: &FrameText,
    path: &Path,
    hint: Option<&[Element]>,
    notes: &mut Vec<String>,
) -> Result<Structure, Error> {
    let mut lines = frame.lines();
    let (header_line, header) = lines.next().unwrap_or((frame.first, ""));
    let fail = |message: String| parse_error(path, header_line, message);
    let comment = Comment::parse(header).map_err(fail)?;
    let (columns, cell) = (comment.columns().map_err(fail)?, comment.cell().map_err(fail)?);
    cell.check().map_err(|source| Error::Cell { path: path.to_owned(), line: header_line, source })?;

    let mut table = TypeTable::new(hint);
    let mut atoms = Collected::default();
    let mut tokens: Vec<&str> = Vec::new();
    for (number, line) in lines {
        tokens.clear();
        tokens.extend(line.split_whitespace());
        let place = atoms.len();
        read_atom(&tokens, &columns, &mut table, &mut atoms)
            .map_err(|message| parse_error(path, number, format!("atom {} of this frame: {message}", place + 1)))?;
        atoms.lines.push(number);
    }
    if columns.id.is_some() {
        atoms.by_id(path)?;
    } else {
        let count = i32::try_from(atoms.types.len()).map_err(|_| fail("more than 2^31 atoms".to_owned()))?;
        atoms.ids = (1..=count).collect();
    }
    let masses = table.masses();
    notes.append(&mut table.notes);
    Ok(atoms.structure(cell, table.elements, masses))
}

fn read_atom(
    tokens: &[&str],
    columns: &Columns,
    table: &mut TypeTable<'_>,
    atoms: &mut Collected,
) -> Result<(), String> {
    if tokens.len() != columns.total {
        return Err(format!("{} columns, but Properties announces {}", tokens.len(), columns.total));
    }
    let triple = |at: usize, what: [&str; 3]| -> Result<Vec3, String> {
        Ok([
            real(Some(tokens[at]), what[0])?,
            real(Some(tokens[at + 1]), what[1])?,
            real(Some(tokens[at + 2]), what[2])?,
        ])
    };
    let mass = columns.mass.map(|at| mass(Some(tokens[at]))).transpose()?;
    let ty = match (columns.species, columns.number) {
        (Some(at), number) => {
            let ty = table.type_of(tokens[at], mass)?;
            if let Some(number) = number {
                let (number, named) =
                    (integer::<u32>(Some(tokens[number]), "the atomic number")?, table.elements[ty as usize - 1]);
                if named.atomic_number() != number {
                    let right = named.atomic_number();
                    return Err(format!("its species is {}, which is Z = {right}, but its Z is {number}", tokens[at]));
                }
            }
            ty
        }
        (None, Some(at)) => {
            let number: u32 = integer(Some(tokens[at]), "the atomic number")?;
            let element = Element::iter().find(|e| e.atomic_number() == number);
            table.type_of_element(element.ok_or_else(|| format!("{number} is not an atomic number"))?, mass)?
        }
        (None, None) => return Err("no species".to_owned()),
    };
    let position = triple(columns.position, ["x", "y", "z"])?;
    if let Some(at) = columns.momentum {
        let mass = mass.unwrap_or_else(|| standard_mass(table.elements[ty as usize - 1]));
        let momentum = triple(at, ["px", "py", "pz"])?;
        atoms.velocities.extend(scaled(momentum, ASE_VELOCITY / mass, "the momentum")?);
    } else if let Some((at, factor)) = columns.velocity {
        atoms.velocities.extend(scaled(triple(at, ["vx", "vy", "vz"])?, factor, "the velocity")?);
    }
    if let Some((at, width)) = columns.mobile {
        let mobile =
            tokens[at..at + width].iter().map(|token| flag(token, "move_mask")).collect::<Result<Vec<_>, _>>()?;
        atoms.fixed.push(std::array::from_fn(|axis| !mobile[axis.min(width - 1)]));
    }
    if let Some(at) = columns.id {
        atoms.ids.push(integer(Some(tokens[at]), "the id")?);
    }
    atoms.types.push(ty);
    atoms.positions.extend(position);
    Ok(())
}

fn flag(token: &str, what: &str) -> Result<bool, String> {
    match token.to_ascii_lowercase().as_str() {
        "t" | "true" | "1" => Ok(true),
        "f" | "false" | "0" => Ok(false),
        _ => Err(format!("{what} has {token:?}, which is neither T nor F")),
    }
}

fn parse_cell(lattice: Option<&str>, pbc: Option<&str>, origin: Option<&str>) -> Result<Cell, String> {
    let numbers = |text: &str, what: &str| -> Result<Vec<f64>, String> {
        let tokens = text.split(|c: char| c.is_whitespace() || "[],".contains(c)).filter(|token| !token.is_empty());
        tokens.map(|token| real(Some(token), what)).collect()
    };
    let pbc_is_given = pbc.is_some();
    let pbc = match pbc {
        None => [true; 3],
        Some(text) => {
            let tokens = text.split(|c: char| c.is_whitespace() || "[],".contains(c)).filter(|t| !t.is_empty());
            let flags: Result<Vec<bool>, String> = tokens.map(|token| flag(token, "pbc")).collect();
            match flags?[..] {
                // One for all, as in ASE.
                [all] => [all; 3],
                [a, b, c] => [a, b, c],
                ref others => return Err(format!("pbc has {} flags instead of 3", others.len())),
            }
        }
    };
    let m: [f64; 9] = match lattice {
        Some(lattice) => numbers(lattice, "a number of Lattice")?
            .try_into()
            .map_err(|m: Vec<f64>| format!("Lattice has {} numbers instead of 9", m.len()))?,
        // As ASE has it.
        None if pbc_is_given && pbc == [false; 3] => [0.0; 9],
        None => {
            return Err(
                "the comment line has no Lattice: a structure needs a cell. Add Lattice=\"ax ay az bx by bz cx cy \
                    cz\", or pbc=\"F F F\" if it does not repeat"
                    .to_owned(),
            );
        }
    };
    let origin = match origin {
        None => [0.0; 3],
        Some(text) => numbers(text, "a number of Origin")?
            .try_into()
            .map_err(|o: Vec<f64>| format!("Origin has {} numbers instead of 3", o.len()))?,
    };
    Ok(Cell { origin, vectors: [[m[0], m[1], m[2]], [m[3], m[4], m[5]], [m[6], m[7], m[8]]], pbc })
}

/// Gives directions that do not repeat and have no vector (ASE writes slabs so) one of 1 Å, perpendicular to the
/// others: any will do, since nothing depends on the extent of a cell along them.
fn complete(mut cell: Cell) -> Cell {
    use crate::vector::{cross, norm};
    for _ in 0..3 {
        let missing = (0..3).find(|&k| !cell.pbc[k] && cell.vectors[k] == [0.0; 3]);
        let Some(k) = missing else { break };
        let (a, b) = (cell.vectors[(k + 1) % 3], cell.vectors[(k + 2) % 3]);
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let normal = match (a == [0.0; 3], b == [0.0; 3]) {
            (false, false) => cross(a, b),
            (true, true) => axes[k],
            (one, _) => {
                let known = if one { b } else { a };
                let of = |axis| norm(cross(known, axis));
                let best = axes.into_iter().max_by(|&p, &q| of(p).total_cmp(&of(q))).unwrap_or(axes[0]);
                // Right-handed: with b known for c's sake the order of the product turns.
                if one { cross(best, known) } else { cross(known, best) }
            }
        };
        let length = norm(normal);
        if !(length > 0.0 && length.is_finite()) {
            break;
        }
        cell.vectors[k] = normal.map(|x| x / length);
    }
    cell
}

/// The `key=value` pairs of a comment line. Values are bare, in quotes, or in brackets or braces; a key alone is true.
fn comment_keys(line: &str) -> Result<Vec<(String, String)>, String> {
    let mut keys = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(keys);
        }
        let mut key = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            key = quoted(&mut chars, '"')?;
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
                key.push(c);
            }
        }
        while chars.next_if(|c| *c == ' ').is_some() {}
        if chars.next_if_eq(&'=').is_none() {
            keys.push((key, "T".to_owned()));
            continue;
        }
        while chars.next_if(|c| *c == ' ').is_some() {}
        let value = match chars.peek() {
            Some(&quote @ ('"' | '\'')) => {
                chars.next();
                quoted(&mut chars, quote)?
            }
            Some(&open @ ('[' | '{')) => bracketed(&mut chars, open)?,
            _ => {
                let mut value = String::new();
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    value.push(c);
                }
                value
            }
        };
        keys.push((key, value));
    }
}

fn quoted(chars: &mut impl Iterator<Item = char>, quote: char) -> Result<String, String> {
    let mut value = String::new();
    loop {
        match chars.next() {
            None => return Err(format!("the comment line has an open quote before {value:?}")),
            Some(c) if c == quote => return Ok(value),
            Some('\\') => value.extend(chars.next()),
            Some(c) => value.push(c),
        }
    }
}

fn bracketed(chars: &mut impl Iterator<Item = char>, open: char) -> Result<String, String> {
    let close = if open == '[' { ']' } else { '}' };
    let mut value = String::new();
    let mut depth = 0_usize;
    for c in chars {
        if c == open {
            depth += 1;
            if depth == 1 {
                continue;
            }
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Ok(value);
            }
        }
        value.push(c);
    }
    Err(format!("the comment line has an open {open:?} before {value:?}"))
}
