// SPDX-License-Identifier: GPL-2.0-or-later
//! LAMMPS data files, as read by `read_data` and written by `write_data`, in `units metal`, or in `units real` if the
//! title line of `write_data` declares them.
//!
//! Supported are the atom styles `atomic` and `charge` (charges are ignored); box bounds with tilt factors or general
//! vectors (`avec`, `bvec`, `cvec`, `abc origin`); type labels, masses and velocities. A section `Atoms` without a style
//! is rejected if its lines can be of a style with molecules. Positions are not unwrapped: image flags are checked but
//! not applied. A data file does not contain the periodicity, so all directions are periodic.
use super::text::{Collected, Lines, MAX_TYPES, integer, mass, parse_error, real, scaled, set_once, triple};
use super::{Error, masses};
use crate::structure::{AtomId, Cell, Element, Structure, Vec3, element_from_symbol, standard_mass};
use std::io::{BufRead, Write};
use std::path::Path;

/// Writes a file for `read_data` with `units metal` and `atom_style atomic`. Numbers have full precision. Element symbols
/// are comments in the section `Masses`. Velocities are written if the structure has any. A cell that is not in LAMMPS's
/// frame is rotated ([`Structure::to_lammps_frame`]). Fixed atoms are listed in comments, since the format has no field
/// for them.
///
/// # Errors
/// [`Error::Frame`] if the structure cannot be rotated into LAMMPS's frame; [`Error::Write`] if writing fails.
pub fn write(structure: &Structure, out: impl Write) -> Result<(), Error> {
    write_in("metal", 1.0, structure, out)
}

/// As [`write()`], in the LAMMPS units `units`, whose unit of velocity is `speed` Å/ps.
///
/// # Errors
/// As [`write()`].
pub fn write_in(units: &str, speed: f64, structure: &Structure, mut out: impl Write) -> Result<(), Error> {
    let (structure, _) = structure.to_lammps_frame()?;
    let Cell { origin, vectors: [a, b, c], pbc } = structure.cell;
    let flag = |periodic| if periodic { 'p' } else { 'f' };
    let flags = pbc.map(flag);
    writeln!(out, "LAMMPS data file, units {units}, boundary {} {} {}", flags[0], flags[1], flags[2])?;
    for fixed in &structure.fixed {
        // LAMMPS reads lines of up to 254 characters. A range of ids above 2⁵³ has up to 39.
        let ranges = fixed.ranges();
        let per_line = if ranges.iter().all(|range| range.len() <= 25) { 8 } else { 5 };
        for ids in ranges.chunks(per_line) {
            writeln!(out, "# fixed along {}: {}", fixed.axes(), ids.join(" "))?;
        }
    }
    writeln!(out, "\n{} atoms\n{} atom types\n", structure.len(), structure.elements.len())?;
    for (k, (axis, edge)) in [("x", a[0]), ("y", b[1]), ("z", c[2])].into_iter().enumerate() {
        writeln!(out, "{:?} {:?} {axis}lo {axis}hi", origin[k], origin[k] + edge)?;
    }
    let tilts = [b[0], c[0], c[1]];
    if tilts != [0.0; 3] {
        writeln!(out, "{:?} {:?} {:?} xy xz yz", tilts[0], tilts[1], tilts[2])?;
    }
    writeln!(out, "\nMasses\n")?;
    for (ty, (element, mass)) in (1..).zip(structure.elements.iter().zip(structure.type_masses())) {
        writeln!(out, "{ty} {mass:?} # {}", element.symbol())?;
    }
    writeln!(out, "\nAtoms # atomic\n")?;
    for i in 0..structure.len() {
        let [x, y, z] = structure.position(i);
        writeln!(out, "{} {} {x:?} {y:?} {z:?}", structure.ids[i], structure.types[i])?;
    }
    if let Some(velocities) = &structure.velocities {
        writeln!(out, "\nVelocities\n")?;
        for (id, v) in structure.ids.iter().zip(velocities.rows()) {
            writeln!(out, "{id} {:?} {:?} {:?}", v[0] / speed, v[1] / speed, v[2] / speed)?;
        }
    }
    Ok(())
}

/// The content of the header.
#[derive(Default)]
struct Header {
    atoms: Option<u64>,
    types: Option<usize>,
    /// Lower and upper bound along each axis.
    bounds: [Option<(f64, f64)>; 3],
    tilts: Option<Vec3>,
    vectors: [Option<Vec3>; 3],
    origin: Option<Vec3>,
}

impl Header {
    /// Parses a header line. Returns `false` if it is not one.
    fn take(&mut self, line: &str) -> Result<bool, String> {
        let tokens: Vec<&str> = line.split_whitespace().collect();
        let words =
            tokens.iter().position(|t| t.starts_with(|c: char| c.is_ascii_alphabetic())).unwrap_or(tokens.len());
        if words == 0 {
            return Ok(false);
        }
        let numbers = &mut tokens[..words].iter().copied();
        match tokens[words..] {
            ["atoms"] => {
                let atoms = integer(numbers.next(), "the number of atoms")?;
                set_once(&mut self.atoms, atoms, "the number of atoms")?;
            }
            ["atom", "types"] => {
                let types = integer(numbers.next(), "the number of atom types")?;
                if types > MAX_TYPES {
                    return Err(format!("the file has {types} atom types; at most {MAX_TYPES} are supported"));
                }
                set_once(&mut self.types, types, "the number of atom types")?;
            }
            [lo @ ("xlo" | "ylo" | "zlo"), hi] if hi.as_bytes()[0] == lo.as_bytes()[0] && hi.ends_with("hi") => {
                let axis = usize::from(lo.as_bytes()[0] - b'x');
                let (low, high) = (real(numbers.next(), lo)?, real(numbers.next(), hi)?);
                if high <= low {
                    return Err(format!("the box has {lo} {low} and {hi} {high}: the upper bound must be larger"));
                }
                set_once(&mut self.bounds[axis], (low, high), &format!("{lo} {hi}"))?;
            }
            ["xy", "xz", "yz"] => {
                set_once(&mut self.tilts, triple(numbers, ["xy", "xz", "yz"])?, "xy xz yz")?;
            }
            [name @ ("avec" | "bvec" | "cvec")] => {
                set_once(&mut self.vectors[usize::from(name.as_bytes()[0] - b'a')], triple(numbers, [name; 3])?, name)?;
            }
            ["abc", "origin"] => set_once(&mut self.origin, triple(numbers, ["the origin"; 3])?, "abc origin")?,
            // Other counts, for example of bonds, are ignored.
            _ if words > 0 && tokens[..words].iter().all(|t| t.parse::<f64>().is_ok()) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn cell(&self) -> Result<Cell, String> {
        if self.vectors.iter().any(Option::is_some) && self.bounds.iter().any(Option::is_some) {
            return Err("the header gives the box twice, as \"xlo xhi\" and as \"avec\": remove one of them".to_owned());
        }
        if let [Some(a), Some(b), Some(c)] = self.vectors {
            return Ok(Cell { origin: self.origin.unwrap_or([0.0; 3]), vectors: [a, b, c], pbc: [true; 3] });
        }
        let [Some(x), Some(y), Some(z)] = self.bounds else {
            return Err("the header does not give all of \"xlo xhi\", \"ylo yhi\" and \"zlo zhi\"".to_owned());
        };
        Ok(Cell::from_lammps([x.0, y.0, z.0], [x.1, y.1, z.1], self.tilts.unwrap_or([0.0; 3]), [true; 3]))
    }
}

/// Sections that are ignored.
const SKIPPED: [&str; 23] = [
    "Bond Type Labels",
    "Angle Type Labels",
    "Dihedral Type Labels",
    "Improper Type Labels",
    "Bonds",
    "Angles",
    "Dihedrals",
    "Impropers",
    "Pair Coeffs",
    "PairIJ Coeffs",
    "Bond Coeffs",
    "Angle Coeffs",
    "Dihedral Coeffs",
    "Improper Coeffs",
    "BondBond Coeffs",
    "BondAngle Coeffs",
    "MiddleBondTorsion Coeffs",
    "EndBondTorsion Coeffs",
    "AngleTorsion Coeffs",
    "AngleAngleTorsion Coeffs",
    "BondBond13 Coeffs",
    "AngleAngle Coeffs",
    "Bodies",
];

#[derive(Clone, Copy, PartialEq)]
enum Section {
    Header,
    Labels,
    Masses,
    Atoms,
    Velocities,
    Skipped,
}

#[derive(Clone, Copy)]
enum Style {
    Atomic,
    Charge,
}

/// The possible styles of a section Atoms without a style and with six or nine columns.
#[derive(Clone, Copy)]
struct Unnamed {
    count: usize,
    /// Whether all lines so far can be of style charge (id, type, charge).
    charge: bool,
    /// Whether all lines so far can be of style bond, angle or molecular (id, molecule, type).
    molecule: bool,
}

impl Unnamed {
    fn message(self) -> String {
        format!(
            "the section Atoms is without a style, and its {} columns can be of style charge (id type q x y z) or \
             molecular (id molecule type x y z). For style charge, change the heading to \"Atoms # charge\". Otherwise \
             set atom_style atomic in LAMMPS and write the data file again",
            self.count
        )
    }
}

#[derive(Clone, Default)]
struct Type {
    label: Option<String>,
    mass: Option<f64>,
    comment: Option<String>,
}

/// The element whose symbol is this label or comment.
fn symbol(text: &Option<String>) -> Option<Element> {
    text.as_deref().and_then(element_from_symbol)
}

/// Reads a data file. `path` is used in error messages only; `hint` lists the element of each type.
///
/// Without `hint` the element of a type is taken from its type label, else from the comment after its mass (`# Al`),
/// else from a standard atomic weight within 0.05 u of its mass. The masses are those of the file. A mass that is that of
/// another element is an error.
///
/// # Errors
/// [`Error`], with the line.
pub fn read(reader: impl BufRead, path: &Path, hint: Option<&[Element]>) -> Result<Structure, Error> {
    read_with_warnings(reader, path, hint, &mut Vec::new())
}

/// As [`read`], and appends warnings about unusual content.
pub(super) fn read_with_warnings(
    reader: impl BufRead,
    path: &Path,
    hint: Option<&[Element]>,
    warnings: &mut Vec<String>,
) -> Result<Structure, Error> {
    let mut lines = Lines::new(reader, path);
    let mut file = DataFile::default();
    // The first line is a title.
    let speed = match lines.next()? {
        None => return Err(lines.error("the file is empty")),
        Some(title) => velocity_unit(title),
    };
    file.speed = speed.map_err(|message| lines.error(message))?;
    let mut section = Section::Header;
    let mut names: Vec<String> = Vec::new();
    while let Some(line) = lines.next()? {
        let (content, comment) = match line.split_once('#') {
            Some((content, comment)) => (content.trim(), Some(comment.trim())),
            None => (line.trim(), None),
        };
        if content.is_empty() {
            continue;
        }
        let result = if content.starts_with(|c: char| c.is_ascii_alphabetic()) {
            file.open(content, comment, section).and_then(|new| {
                section = new;
                let name = content.split_whitespace().collect::<Vec<_>>().join(" ");
                if names.contains(&name) {
                    return Err(format!("the section {name:?} occurs twice: remove one of them"));
                }
                names.push(name);
                Ok(())
            })
        } else {
            file.line(section, content, comment)
        };
        let number = lines.number;
        result.map_err(|message| parse_error(path, number, message))?;
        if section == Section::Atoms && file.atoms.ids.len() > file.atoms.lines.len() {
            file.atoms.lines.push(number);
        }
        if section == Section::Velocities && file.velocities.len() > file.velocity_lines.len() {
            file.velocity_lines.push(number);
        }
    }
    file.finish(path, lines.number, hint, warnings)
}

/// The unit of velocity in Å/ps for a file with this title, as written by `write_data` (`units = metal` at the end) or by
/// [`write_in`].
fn velocity_unit(title: &str) -> Result<f64, String> {
    let mut words = title.split([' ', '=', ',']).filter(|word| !word.is_empty());
    let units = words.find(|word| *word == "units").and_then(|_| words.next());
    match units.filter(|_| title.starts_with("LAMMPS data file")) {
        None | Some("metal") => Ok(1.0),
        // Å/fs
        Some("real") => Ok(1000.0),
        Some(other) => Err(format!("units {other} are not supported, only metal and real")),
    }
}

#[derive(Default)]
struct DataFile {
    /// Unit of velocity, Å/ps.
    speed: f64,
    header: Header,
    style: Option<Style>,
    unnamed: Option<Unnamed>,
    types: Vec<Type>,
    atoms: Collected,
    velocities: Vec<(AtomId, Vec3)>,
    velocity_lines: Vec<u64>,
}

impl DataFile {
    /// Begins a section.
    fn open(&mut self, content: &str, comment: Option<&str>, current: Section) -> Result<Section, String> {
        let name = content.split_whitespace().collect::<Vec<_>>().join(" ");
        if current == Section::Header {
            let types = self.header.types.unwrap_or(0);
            self.types.resize(types, Type::default());
        }
        match name.as_str() {
            "Atom Type Labels" => Ok(Section::Labels),
            "Masses" => Ok(Section::Masses),
            "Velocities" => Ok(Section::Velocities),
            "Atoms" => {
                self.style = match comment {
                    None | Some("") => None,
                    Some("atomic") => Some(Style::Atomic),
                    Some("charge") => Some(Style::Charge),
                    Some(other) => {
                        return Err(format!(
                            "atom style {other:?} is not supported, only atomic and charge: set atom_style atomic in \
                                            LAMMPS and write the data file again"
                        ));
                    }
                };
                Ok(Section::Atoms)
            }
            _ if SKIPPED.contains(&name.as_str()) => Ok(Section::Skipped),
            _ => Err(format!("{name:?} is not a section of an atomic LAMMPS data file")),
        }
    }

    /// Parses a line of a section.
    fn line(&mut self, section: Section, content: &str, comment: Option<&str>) -> Result<(), String> {
        match section {
            Section::Header => {
                if self.header.take(content)? {
                    Ok(())
                } else {
                    Err(format!("{content:?} is not a header line of a LAMMPS data file"))
                }
            }
            Section::Skipped => Ok(()),
            Section::Labels => {
                let mut tokens = content.split_whitespace();
                let ty = self.type_number(tokens.next())?;
                let label = tokens.next().ok_or("the type label is missing")?;
                if let Some(other) = self.types.iter().position(|t| t.label.as_deref() == Some(label)) {
                    return Err(format!("the label {label:?} is already used for type {}", other + 1));
                }
                set_once(&mut self.types[ty as usize - 1].label, label.to_owned(), &format!("the label of type {ty}"))
            }
            Section::Masses => {
                let mut tokens = content.split_whitespace();
                let ty = self.type_number(tokens.next())?;
                let mass = mass(tokens.next()).map_err(|message| format!("type {ty}: {message}"))?;
                let entry = &mut self.types[ty as usize - 1];
                set_once(&mut entry.mass, mass, &format!("the mass of type {ty}"))?;
                entry.comment = comment.and_then(|c| c.split_whitespace().next()).map(str::to_owned);
                Ok(())
            }
            Section::Atoms => self.atom(content),
            Section::Velocities => {
                let mut tokens = content.split_whitespace();
                let id = integer(tokens.next(), "the atom id")?;
                self.velocities.push((id, triple(&mut tokens, ["vx", "vy", "vz"])?));
                Ok(())
            }
        }
    }

    fn atom(&mut self, content: &str) -> Result<(), String> {
        let count = content.split_whitespace().count();
        let style = match (self.style, count) {
            (Some(style), _) => style,
            (None, 5 | 8) => Style::Atomic,
            (None, 6 | 9) => {
                self.unnamed = Some(Unnamed { count, charge: true, molecule: true });
                Style::Charge
            }
            _ => {
                return Err(format!(
                    "a line of Atoms has {count} columns, which is neither atom style atomic nor charge: set atom_style \
                     atomic in LAMMPS and write the data file again"
                ));
            }
        };
        self.style = Some(style);
        let (name, expected) = match style {
            Style::Atomic => ("atomic", 5),
            Style::Charge => ("charge", 6),
        };
        if let Some(mut unnamed) = self.unnamed {
            let [second, third] = [1, 2].map(|at| content.split_whitespace().nth(at));
            unnamed.charge &= self.type_number(second).is_ok() && real(third, "the charge").is_ok();
            unnamed.molecule &= self.type_number(third).is_ok();
            self.unnamed = Some(unnamed);
            if !unnamed.charge && unnamed.molecule {
                return Err(unnamed.message());
            }
        }
        if count != expected && count != expected + 3 {
            return Err(format!(
                "a line of Atoms has {count} columns; atom style {name} has {expected}, or {} with \
                                image flags",
                expected + 3
            ));
        }
        let announced = self.header.atoms.ok_or("the header does not give the number of atoms")?;
        if self.atoms.ids.len() as u64 >= announced {
            return Err(format!("the section Atoms has more atoms than the {announced} in the header"));
        }
        let mut tokens = content.split_whitespace();
        let id = integer(tokens.next(), "the atom id")?;
        let ty = self.type_number(tokens.next())?;
        if matches!(style, Style::Charge) {
            real(tokens.next(), "the charge")?;
        }
        let position = triple(&mut tokens, ["x", "y", "z"])?;
        if count > expected {
            for what in ["ix", "iy", "iz"] {
                integer::<i32>(tokens.next(), what)?;
            }
        }
        self.atoms.ids.push(id);
        self.atoms.types.push(ty);
        self.atoms.positions.extend(position);
        Ok(())
    }

    /// Parses a type that is given as a number or as a label.
    fn type_number(&self, token: Option<&str>) -> Result<i32, String> {
        let token = token.ok_or("the atom type is missing")?;
        let types = self.types.len();
        match token.parse::<i32>() {
            Ok(ty) if ty >= 1 && ty as usize <= types => Ok(ty),
            Ok(ty) => Err(format!("atom type {ty} is not one of the {types} types in the header")),
            Err(_) => match self.types.iter().position(|t| t.label.as_deref() == Some(token)) {
                Some(place) => Ok(place as i32 + 1),
                None => Err(format!("{token:?} is neither a number nor one of the Atom Type Labels")),
            },
        }
    }

    fn finish(
        mut self,
        path: &Path,
        last: u64,
        hint: Option<&[Element]>,
        warnings: &mut Vec<String>,
    ) -> Result<Structure, Error> {
        let fail = |message: String| parse_error(path, last, message);
        let announced = self.header.atoms.ok_or_else(|| fail("the header does not give the number of atoms".into()))?;
        let cell = self.header.cell().map_err(fail)?;
        cell.check().map_err(|source| Error::Cell { path: path.to_owned(), line: last, source })?;
        let found = self.atoms.len();
        if found as u64 != announced {
            return Err(fail(format!("the file ends after {found} of {announced} atoms")));
        }
        if let (Some(unnamed), Some(&line)) =
            (self.unnamed.filter(|unnamed| unnamed.molecule), self.atoms.lines.first())
        {
            return Err(parse_error(path, line, unnamed.message()));
        }
        let order = self.atoms.by_id(path)?;
        if !self.velocities.is_empty() {
            let mut rows = vec![f64::NAN; 3 * found];
            for ((id, v), &line) in self.velocities.iter().zip(&self.velocity_lines) {
                let place = order
                    .binary_search_by_key(id, |&i| self.atoms.ids[i])
                    .map_err(|_| parse_error(path, line, format!("the velocity of atom {id}, which does not exist")))?;
                let v = scaled(*v, self.speed, "the velocity").map_err(|message| parse_error(path, line, message))?;
                let row = &mut rows[3 * order[place]..][..3];
                if !row[0].is_nan() && *row != v[..] {
                    let message = format!("atom {id} has two velocities: first {row:?}, then {v:?}");
                    return Err(parse_error(path, line, message));
                }
                row.copy_from_slice(&v);
            }
            if let Some(place) = rows.iter().position(|v| v.is_nan()) {
                let id = self.atoms.ids[place / 3];
                return Err(fail(format!("atom {id} has no velocity, but other atoms have one")));
            }
            self.atoms.velocities = rows;
        }
        let elements = self.elements(path, hint)?;
        let masses = self.masses(path, &elements, hint.is_some(), warnings)?;
        Ok(self.atoms.structure(cell, elements, masses))
    }

    fn elements(&self, path: &Path, hint: Option<&[Element]>) -> Result<Vec<Element>, Error> {
        let fail = |message: String| Error::Elements { path: path.to_owned(), message };
        let count = self.types.len();
        if let Some(hint) = hint {
            if hint.len() < count {
                return Err(fail(format!("the file has {count} atom types, but {} element(s) were given", hint.len())));
            }
            return Ok(hint.to_vec());
        }
        let find = |(number, ty): (usize, &Type)| {
            let by_name = symbol(&ty.label).or_else(|| symbol(&ty.comment));
            by_name.or_else(|| ty.mass.and_then(masses::element_of)).ok_or_else(|| {
                let what = match (&ty.label, ty.mass) {
                    (Some(label), _) => format!("its label {label:?} is not an element symbol"),
                    (None, Some(mass)) => format!("no element has its mass of {mass} u"),
                    (None, None) => "it has no label and no mass".to_owned(),
                };
                fail(format!("the element of atom type {} is unknown: {what}", number + 1))
            })
        };
        self.types.iter().enumerate().map(find).collect()
    }

    /// The mass of each type (u), after comparison with its element; `None` for a file without masses.
    fn masses(
        &self,
        path: &Path,
        elements: &[Element],
        hinted: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<f64>>, Error> {
        if self.types.iter().all(|ty| ty.mass.is_none()) {
            return Ok(None);
        }
        let mut all: Vec<f64> = elements.iter().copied().map(standard_mass).collect();
        for (number, ty) in self.types.iter().enumerate() {
            let Some(mass) = ty.mass else { continue };
            let warning = masses::compare(elements[number], mass).map_err(|why| {
                let element = elements[number].symbol();
                let source = match (hinted, &ty.label, &ty.comment) {
                    (true, ..) => format!("is given as {element}"),
                    (_, Some(name), _) if symbol(&ty.label).is_some() => {
                        format!("has the label {name:?}, which is {element}")
                    }
                    (_, _, comment) => {
                        let comment = comment.as_deref().unwrap_or_default();
                        format!("has the comment {comment:?} in Masses, which is {element}")
                    }
                };
                let remedy = if hinted {
                    "give the elements in the order of the types, or correct the section Masses"
                } else {
                    "give the elements in the order of the types (for example Al,Cu), or correct the file"
                };
                let message = format!("atom type {} {source}, but {why}; {remedy}", number + 1);
                Error::Contradiction { path: path.to_owned(), message }
            })?;
            warnings.extend(warning.map(|warning| format!("atom type {}: {warning}", number + 1)));
            all[number] = mass;
        }
        Ok(Some(all))
    }
}
