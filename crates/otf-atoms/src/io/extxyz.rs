// SPDX-License-Identifier: GPL-2.0-or-later
//! Extended XYZ, as defined by ASE and libAtoms.
//!
//! The following columns are read; other columns are ignored:
//!
//! - `species` or `Z`: the element. If both are present, they must agree.
//! - `pos`: the position, Å.
//! - `id` or `ids`: the id, as integers (`I`) or as text (`S`).
//! - `masses`: the mass, u. Atoms of one element with different masses become different types.
//! - `momenta` (ASE's units, with `masses` or the standard atomic weights), `velocities` or `vel` (Å/ps), or `velo`
//!   (libAtoms: Å/fs): the velocity.
//! - `move_mask`: one flag for each atom or for each of its axes. Atoms that may not move are fixed.
//!
//! The keys `Lattice`, `pbc` and `Origin` (the corner of the cell, as in OVITO) are read; other keys are ignored.
//!
//! Names are case-insensitive, but the exact name takes precedence: `Lattice` over `lattice`, `forces` over `force`, and
//! `momenta` over velocities, as in ASE. Different values of one key, or two columns of the same precedence, are an error.
mod results;

pub use results::{
    Labelled, Results, for_each_labelled, for_each_labelled_in, for_each_result, for_each_result_in, read_results,
};

use super::text::{Collected, FrameText, Lines, TypeTable, integer, mass, parse_error, real, scaled};
use super::{Error, Frame};
use crate::structure::{AtomId, Cell, Element, Structure, Vec3, standard_mass};
use ndarray::{ArrayView1, ArrayView2};
use std::io::{BufRead, Write};
use std::path::Path;

/// ASE's unit of velocity, (eV/u)^(1/2), in Å/ps: `1000 ase.units.fs` with the CODATA 2014 constants that ASE uses.
pub const ASE_VELOCITY: f64 = 98.226_947_884_640_64;

/// An additional column to be written.
#[derive(Debug, Clone)]
pub struct Column<'a> {
    /// The name.
    pub name: &'a str,
    /// The data, one row for each atom.
    pub data: ColumnData<'a>,
}

/// The data of a column.
#[derive(Debug, Clone)]
pub enum ColumnData<'a> {
    /// `R`: real numbers; shape (n).
    Real(ArrayView1<'a, f64>),
    /// `R` with several numbers for each atom; shape (n, k).
    RealRows(ArrayView2<'a, f64>),
    /// `I`: integers; shape (n). `S` (text) if one does not fit in 32 bits, because ASE reads `I` as `int32`.
    Integer(ArrayView1<'a, i64>),
    /// `I` with three integers for each atom; shape (n, 3).
    IntegerTriples(&'a [[i32; 3]]),
    /// `L`: booleans; shape (n).
    Logical(&'a [bool]),
}

/// A value in the comment line.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A real number.
    Real(f64),
    /// An integer.
    Integer(i64),
    /// A boolean.
    Bool(bool),
}

impl<'a> Column<'a> {
    /// A column of real numbers.
    #[must_use]
    pub fn real(name: &'a str, data: &'a [f64]) -> Self {
        Self { name, data: ColumnData::Real(data.into()) }
    }

    /// A column of integers.
    #[must_use]
    pub fn integer(name: &'a str, data: &'a [i64]) -> Self {
        Self { name, data: ColumnData::Integer(data.into()) }
    }
}

impl ColumnData<'_> {
    /// Number of rows and of columns.
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

/// Writes one frame that can be read by ASE, OVITO and quippy. Numbers are written with full precision.
///
/// Velocities are written as `momenta` in ASE's units. Masses are written as the column `masses` unless they are the
/// standard atomic weights; ASE's weights can differ from those in the eighth digit, and so can its velocities. Ids are
/// written as the column `id` unless they are 1 to n in order, as text if one does not fit in 32 bits. `info` are additional keys of the comment line.
///
/// # Errors
/// [`Error::Write`] if writing fails; [`Error::Column`] if a name is empty or contains a character reserved by the format
/// (whitespace, colon, `=`, quotes, brackets, backslash, comma), or if a column does not have one row for each atom.
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
            let message = "names must consist of letters, digits and underscores".to_owned();
            return Err(Error::Column { name: name.to_owned(), message });
        }
    }
    if let Some(column) = columns.iter().find(|column| column.data.shape().0 != n) {
        let message = format!("the column has {} rows for {n} atoms", column.data.shape().0);
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
        write!(out, ":id:{}:1", integer_kind(structure.ids.view()))?;
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
    // ASE writes one flag for `FixAtoms` and three for `FixCartesian`.
    let flags = if fixed.values().all(|axes| *axes == [true; 3]) { 1 } else { 3 };
    if !fixed.is_empty() {
        write!(out, ":move_mask:L:{flags}")?;
    }
    for column in columns {
        let kind = match column.data {
            ColumnData::Real(_) | ColumnData::RealRows(_) => 'R',
            ColumnData::Integer(data) => integer_kind(data),
            ColumnData::IntegerTriples(_) => 'I',
            ColumnData::Logical(_) => 'L',
        };
        write!(out, ":{}:{kind}:{}", column.name, column.data.shape().1)?;
    }
    let flag = |periodic| if periodic { 'T' } else { 'F' };
    write!(out, " pbc=\"{} {} {}\"", flag(cell.pbc[0]), flag(cell.pbc[1]), flag(cell.pbc[2]))?;
    for (key, value) in info {
        match value {
            Value::Text(text) => {
                // The comment is a single line.
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

/// The kind of a column of integers. ASE reads `I` as `int32`, and `S` as text of any length.
fn integer_kind(integers: ArrayView1<'_, i64>) -> char {
    if integers.iter().all(|&integer| i32::try_from(integer).is_ok()) { 'I' } else { 'S' }
}

/// Reads one frame. `path` is used in error messages only; `hint` lists the elements in the order of the types.
///
/// # Errors
/// [`Error`], with the line.
pub fn read(reader: impl BufRead, path: &Path, hint: Option<&[Element]>, frame: Frame) -> Result<Structure, Error> {
    read_with_warnings(reader, path, hint, frame, &mut Vec::new())
}

/// As [`read`], and appends warnings about unusual content.
pub(super) fn read_with_warnings(
    reader: impl BufRead,
    path: &Path,
    hint: Option<&[Element]>,
    frame: Frame,
    warnings: &mut Vec<String>,
) -> Result<Structure, Error> {
    let mut lines = Lines::new(reader, path);
    let mut text = FrameText::default();
    let mut found = 0;
    while next_frame(&mut lines, &mut text)? {
        found += 1;
        if frame.is_index(found - 1) {
            return parse(&text, path, hint, warnings);
        }
    }
    lines.check_last_frame(frame, found, "the file is empty: an extended XYZ file starts with the number of atoms")?;
    parse(&text, path, hint, warnings)
}

/// Passes all frames to `use_frame`.
pub(super) fn for_each_frame<E: From<Error>>(
    reader: impl BufRead,
    path: &Path,
    hint: Option<&[Element]>,
    mut use_frame: impl FnMut(Structure) -> Result<(), E>,
) -> Result<(), E> {
    let mut lines = Lines::new(reader, path);
    let mut text = FrameText::default();
    while next_frame(&mut lines, &mut text)? {
        use_frame(parse(&text, path, hint, &mut Vec::new())?)?;
    }
    Ok(())
}

/// Replaces `frame` with the text of the next frame. Returns `false` at the end of the file, where `frame` is unchanged.
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

/// Index of the first token of each column that is read.
struct Columns {
    species: Option<usize>,
    number: Option<usize>,
    position: usize,
    id: Option<usize>,
    mass: Option<usize>,
    momentum: Option<usize>,
    /// Index of the first token, and the factor to Å/ps.
    velocity: Option<(usize, f64)>,
    force: Option<usize>,
    /// Index of the token, and whether it is a real number.
    mask: Option<(usize, bool)>,
    /// Index of the first token, and the number of flags.
    mobile: Option<(usize, usize)>,
    total: usize,
}

/// An entry of Properties.
struct Property<'p> {
    name: &'p str,
    kind: &'p str,
    width: usize,
    /// Index of its first token.
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
                return Err(format!("the number of columns of {name} in Properties, {width}, is out of range"));
            }
            list.push(Property { name, kind, width, at: total });
            total += width;
        }
        let column = |names: &[&str], kind, width| Ok::<_, String>(find(&list, names, kind, width)?.map(|p| p.at));
        let (species, number) = (column(&["species", "symbols"], "S", 1)?, column(&["Z", "numbers"], "I", 1)?);
        let (Some(position), true) = (column(&["pos", "positions"], "R", 3)?, species.or(number).is_some()) else {
            return Err(format!("Properties {properties:?} has no pos:R:3, or neither species:S:1 nor Z:I:1"));
        };
        let momentum = column(&["momenta"], "R", 3)?;
        let velocity = match momentum {
            Some(_) => None,
            // The unit of `velo` is Å/fs in libAtoms.
            None => one_of(list.iter().filter(|p| p.is_one_of(&["velocities", "vel", "velo"])), "R", 3)?
                .map(|p| (p.at, if p.is_one_of(&["velo"]) { 1000.0 } else { 1.0 })),
        };
        let mobile = match list.iter().find(|p| p.is_one_of(&["move_mask"])).map(|p| (p.kind, p.width)) {
            // ASE writes L, libAtoms I.
            Some((kind @ ("L" | "I"), width @ (1 | 3))) => {
                one_of(list.iter().filter(|p| p.is_one_of(&["move_mask"])), kind, width)?.map(|p| (p.at, width))
            }
            Some((kind, width)) => {
                return Err(format!(
                    "Properties has move_mask:{kind}:{width}; it must be move_mask:L:1 or move_mask:L:3"
                ));
            }
            None => None,
        };
        // Ids above 2³¹ are written as text.
        let first = list.iter().find(|p| p.name == "id").or_else(|| list.iter().find(|p| p.is_one_of(&["id", "ids"])));
        let id_kind = first.filter(|p| p.kind == "S").map_or("I", |p| p.kind);
        Ok(Self {
            species,
            number,
            position,
            id: column(&["id", "ids"], id_kind, 1)?,
            mass: column(&["masses", "mass"], "R", 1)?,
            momentum,
            velocity,
            force: column(&["forces", "force"], "R", 3)?,
            mask: list.iter().find(|p| p.name == "force_mask").map(|p| (p.at, p.kind == "R" && p.width == 1)),
            mobile,
            total,
        })
    }
}

impl Property<'_> {
    /// Whether it has one of these names, case-insensitive.
    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.eq_ignore_ascii_case(name))
    }
}

/// The column whose name equals the first of `names` exactly, else the one with any of them, case-insensitive.
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

/// The only one of these columns; `None` if there is none.
///
/// # Errors
/// If there are several, or if its kind or width is not the required one.
fn one_of<'l, 'p>(
    mut found: impl Iterator<Item = &'l Property<'p>>,
    kind: &str,
    width: usize,
) -> Result<Option<&'l Property<'p>>, String> {
    let text = |p: &Property<'_>| format!("{}:{}:{}", p.name, p.kind, p.width);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if one.kind == kind && one.width == width => Ok(Some(one)),
        (Some(one), None) => Err(format!("Properties has {}; it must be {}:{kind}:{width}", text(one), one.name)),
        (Some(one), Some(other)) => Err(format!(
            "Properties has both {} and {}, which have the same meaning: remove or rename one of them",
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

    /// The value of a key: that of the exact name if present, as in ASE, else that of the name in other case.
    ///
    /// # Errors
    /// If there are several with different values.
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

pub(super) fn parse(
    frame: &FrameText,
    path: &Path,
    hint: Option<&[Element]>,
    warnings: &mut Vec<String>,
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
        atoms.ids = (1..=atoms.types.len() as AtomId).collect();
    }
    let masses = table.masses();
    warnings.append(&mut table.warnings);
    Ok(atoms.structure(cell, table.elements, masses))
}

fn read_atom(
    tokens: &[&str],
    columns: &Columns,
    table: &mut TypeTable<'_>,
    atoms: &mut Collected,
) -> Result<(), String> {
    if tokens.len() != columns.total {
        return Err(format!("the line has {} columns, but Properties defines {}", tokens.len(), columns.total));
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
                let (number, element) =
                    (integer::<u32>(Some(tokens[number]), "the atomic number")?, table.elements[ty as usize - 1]);
                if element.atomic_number() != number {
                    let expected = element.atomic_number();
                    return Err(format!("its species is {} (Z = {expected}), but its Z is {number}", tokens[at]));
                }
            }
            ty
        }
        (None, Some(at)) => {
            let number: u32 = integer(Some(tokens[at]), "the atomic number")?;
            let element = Element::iter().find(|e| e.atomic_number() == number);
            table.type_of_element(element.ok_or_else(|| format!("{number} is not an atomic number"))?, mass)?
        }
        (None, None) => return Err("the species is missing".to_owned()),
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
        _ => Err(format!("{what} has {token:?}; it must be T or F")),
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
                // One flag for all directions, as in ASE.
                [all] => [all; 3],
                [a, b, c] => [a, b, c],
                ref flags => return Err(format!("pbc has {} flags instead of 3", flags.len())),
            }
        }
    };
    let m: [f64; 9] = match lattice {
        Some(lattice) => numbers(lattice, "a number of Lattice")?
            .try_into()
            .map_err(|m: Vec<f64>| format!("Lattice has {} numbers instead of 9", m.len()))?,
        // As in ASE.
        None if pbc_is_given && pbc == [false; 3] => [0.0; 9],
        None => {
            return Err(
                "the comment line has no Lattice, which is required for a periodic structure. Add Lattice=\"ax ay az bx \
                    by bz cx cy cz\", or pbc=\"F F F\" for a non-periodic structure"
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

/// Replaces zero vectors of non-periodic directions, as ASE writes for slabs, by vectors of 1 Å perpendicular to the
/// others. Nothing depends on the extent of the cell along them.
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
            (a_missing, _) => {
                let present = if a_missing { b } else { a };
                let length = |axis| norm(cross(present, axis));
                let best = axes.into_iter().max_by(|&p, &q| length(p).total_cmp(&length(q))).unwrap_or(axes[0]);
                // The order of the factors makes the cell right-handed.
                if a_missing { cross(best, present) } else { cross(present, best) }
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

/// The `key=value` pairs of a comment line. Values are bare, in quotes, or in brackets or braces; a key without a value
/// is `T`.
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
            None => return Err(format!("the comment line has an unclosed quote before {value:?}")),
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
    Err(format!("the comment line has an unclosed {open:?} before {value:?}"))
}
