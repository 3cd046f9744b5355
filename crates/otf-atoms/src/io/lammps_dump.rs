// SPDX-License-Identifier: GPL-2.0-or-later
//! Text dumps of LAMMPS (`dump atom`, `dump custom`), in `units metal` or `real`.
//!
//! The columns `id`, `type`, `element`, `mass`, `vx vy vz` are read, and the position from the first of `x y z`,
//! `xu yu zu`, `xs ys zs`, `xsu ysu zsu` that is present. Boxes can be orthogonal, triclinic or general triclinic.
//!
//! LAMMPS writes `element` as C for all atoms without `dump_modify element`. In such a dump, given elements of the types
//! take precedence over the column.
use super::text::{Collected, FrameText, Lines, TypeTable, integer, mass, parse_error, real, scaled, set_once, triple};
use super::{Error, Frame, masses};
use crate::structure::{AtomId, Cell, Element, Structure, Vec3, standard_mass};
use std::io::BufRead;
use std::path::Path;

/// Reads one frame. `path` is used in error messages only; `hint` lists the element of each type and is required unless
/// the dump has a column `element` or `mass`.
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
    let (mut text, mut index) = (FrameText::default(), 0);
    // The unit of velocity is known when a frame is complete.
    let mut wanted = None;
    let (found, speed) = divide(&mut lines, &mut text, |text, speed| {
        if frame.is_index(index) {
            wanted = Some(parse(text, path, hint, speed, warnings)?);
        }
        index += 1;
        Ok::<_, Error>(wanted.is_none())
    })?;
    if let Some(wanted) = wanted {
        return Ok(wanted);
    }
    lines.check_last_frame(frame, found, "the dump has no frame")?;
    parse(&text, path, hint, speed, warnings)
}

/// Passes all frames to `use_frame`.
pub(super) fn for_each_frame<E: From<Error>>(
    reader: impl BufRead,
    path: &Path,
    hint: Option<&[Element]>,
    mut use_frame: impl FnMut(Structure) -> Result<(), E>,
) -> Result<(), E> {
    let mut lines = Lines::new(reader, path);
    divide(&mut lines, &mut FrameText::default(), |text, speed| {
        use_frame(parse(text, path, hint, speed, &mut Vec::new())?)?;
        Ok::<_, E>(true)
    })?;
    Ok(())
}

/// Reads the text of one frame after the other into `text`, and passes it and the unit of velocity in Å/ps to `use_frame`, until that
/// returns `false`. Returns the number of frames and the unit of velocity.
fn divide<R: BufRead, E: From<Error>>(
    lines: &mut Lines<'_, R>,
    text: &mut FrameText,
    mut use_frame: impl FnMut(&FrameText, f64) -> Result<bool, E>,
) -> Result<(usize, f64), E> {
    let mut found = 0_usize;
    let mut speed = 1.0;
    loop {
        let number = lines.number + 1;
        let line = lines.next()?;
        let item = line.and_then(|line| line.strip_prefix("ITEM:")).map(str::trim);
        match item {
            // These precede TIMESTEP (UNITS once in a file), so they are not part of the text of a frame.
            Some("TIME") => {
                lines.next()?;
                continue;
            }
            Some("UNITS") => {
                speed = match lines.next()? {
                    Some("metal") => 1.0,
                    // Å/fs
                    Some("real") => 1000.0,
                    other => {
                        let message = format!("units {} are not supported, only metal and real", other.unwrap_or(""));
                        return Err(lines.error(message).into());
                    }
                };
                continue;
            }
            _ => {}
        }
        let starts = item == Some("TIMESTEP");
        if (line.is_none() || starts) && found > 0 && !use_frame(text, speed)? {
            return Ok((found, speed));
        }
        let Some(line) = line else { return Ok((found, speed)) };
        if starts {
            found += 1;
            text.text.clear();
            text.first = number;
        } else if found == 0 && !line.is_empty() {
            let message = format!("a LAMMPS dump must start with \"ITEM: TIMESTEP\", not with {line:?}");
            return Err(lines.error(message).into());
        } else if found == 0 {
            continue;
        }
        text.push(line);
    }
}

/// Data of a frame besides its structure, in the order of its atoms.
#[derive(Default)]
pub(super) struct Extra {
    /// Name of the column of `values`.
    pub column: &'static str,
    /// Image flags; empty without columns `ix iy iz`.
    pub images: Vec<[i32; 3]>,
    /// Numbers of the column, of which some may not be finite; empty without the column.
    pub values: Vec<f64>,
}

/// Parses the text of a frame. `speed` is the unit of velocity in Å/ps.
fn parse(
    frame: &FrameText,
    path: &Path,
    hint: Option<&[Element]>,
    speed: f64,
    warnings: &mut Vec<String>,
) -> Result<Structure, Error> {
    parse_with(frame, path, hint, speed, warnings, &mut Extra::default())
}

/// As [`parse`], and also reads `extra`.
pub(super) fn parse_with(
    frame: &FrameText,
    path: &Path,
    hint: Option<&[Element]>,
    speed: f64,
    warnings: &mut Vec<String>,
    extra: &mut Extra,
) -> Result<Structure, Error> {
    let mut lines = frame.lines();
    let mut last = frame.first;
    let mut count: Option<u64> = None;
    let mut cell: Option<Cell> = None;
    while let Some((number, line)) = lines.next() {
        last = number;
        let fail = |message: String| parse_error(path, number, message);
        let Some(item) = line.strip_prefix("ITEM:").map(str::trim) else {
            if line.trim().is_empty() {
                continue;
            }
            return Err(fail(format!("expected a line that starts with \"ITEM:\", found {line:?}")));
        };
        let mut value = |what: &str| {
            let (_, line) = lines.next().ok_or_else(|| fail(format!("the file ends before {what}")))?;
            Ok::<_, Error>(line.trim())
        };
        if item == "TIMESTEP" {
            value("the time step")?;
        } else if item == "NUMBER OF ATOMS" {
            let text = value("the number of atoms")?;
            let number = integer(Some(text), "the number of atoms").map_err(fail)?;
            set_once(&mut count, number, "the number of atoms").map_err(fail)?;
        } else if let Some(kind) = item.strip_prefix("BOX BOUNDS") {
            let rows = [value("the box")?, value("the box")?, value("the box")?];
            let new = parse_box(kind, rows).map_err(fail)?;
            new.check().map_err(|source| Error::Cell { path: path.to_owned(), line: number, source })?;
            set_once(&mut cell, new, "the box").map_err(fail)?;
        } else if let Some(names) = item.strip_prefix("ATOMS") {
            let count = count.ok_or_else(|| fail("no \"ITEM: NUMBER OF ATOMS\" before the atoms".into()))?;
            let cell = cell.ok_or_else(|| fail("no \"ITEM: BOX BOUNDS\" before the atoms".into()))?;
            let columns = Columns::parse(names, extra.column).map_err(fail)?;
            let atoms = read_atoms(&mut lines, number, path, count, &cell, &columns, speed, extra)?;
            return atoms.structure(path, hint, cell, warnings);
        } else {
            return Err(fail(format!("\"ITEM: {item}\" is not supported")));
        }
    }
    Err(parse_error(path, last, "the frame has no \"ITEM: ATOMS\": the file is truncated"))
}

fn parse_box(kind: &str, rows: [&str; 3]) -> Result<Cell, String> {
    let words: Vec<&str> = kind.split_whitespace().collect();
    let (shape, flags) = match words.as_slice() {
        ["xy", "xz", "yz", flags @ ..] => ("triclinic", flags),
        ["abc", "origin", flags @ ..] => ("general", flags),
        flags => ("orthogonal", flags),
    };
    let pbc = match *flags {
        // Very old dumps have no flags.
        [] => [true; 3],
        [x, y, z] => [x, y, z].map(|flag| flag.starts_with('p')),
        _ => return Err(format!("BOX BOUNDS has {} boundary flags instead of 3", flags.len())),
    };
    let width = match shape {
        "orthogonal" => 2,
        "triclinic" => 3,
        _ => 4,
    };
    let mut numbers = [[0.0; 4]; 3];
    for (row, line) in numbers.iter_mut().zip(rows) {
        let mut tokens = line.split_whitespace();
        for slot in row.iter_mut().take(width) {
            *slot = real(tokens.next(), "a number of the box")?;
        }
        if tokens.next().is_some() {
            return Err(format!("a line of the box has more than {width} numbers"));
        }
    }
    if shape == "general" {
        let vectors = numbers.map(|row| [row[0], row[1], row[2]]);
        return Ok(Cell { origin: numbers.map(|row| row[3]), vectors, pbc });
    }
    let (mut lo, mut hi) = (numbers.map(|row| row[0]), numbers.map(|row| row[1]));
    let [xy, xz, yz] = if shape == "triclinic" { numbers.map(|row| row[2]) } else { [0.0; 3] };
    // The dump contains the bounding box of the tilted box (LAMMPS manual, Howto triclinic).
    let shifts = [0.0, xy, xz, xy + xz];
    lo[0] -= shifts.into_iter().fold(0.0, f64::min);
    hi[0] -= shifts.into_iter().fold(0.0, f64::max);
    lo[1] -= yz.min(0.0);
    hi[1] -= yz.max(0.0);
    if (0..3).any(|k| hi[k] <= lo[k]) {
        return Err(format!("the box has no volume: lower bounds {lo:?}, upper bounds {hi:?}"));
    }
    Ok(Cell::from_lammps(lo, hi, [xy, xz, yz], pbc))
}

struct Columns {
    id: Option<usize>,
    ty: Option<usize>,
    element: Option<usize>,
    mass: Option<usize>,
    position: [usize; 3],
    scaled: bool,
    velocity: Option<[usize; 3]>,
    /// Image flags and the additional column; only if there is one.
    images: Option<[usize; 3]>,
    value: Option<usize>,
    total: usize,
}

impl Columns {
    fn parse(names: &str, extra: &str) -> Result<Self, String> {
        let names: Vec<&str> = names.split_whitespace().collect();
        let find = |name: &str| names.iter().position(|&other| other == name);
        let three = |a: &str, b: &str, c: &str| Some([find(a)?, find(b)?, find(c)?]);
        let plain = three("x", "y", "z").or_else(|| three("xu", "yu", "zu"));
        let scaled = || three("xs", "ys", "zs").or_else(|| three("xsu", "ysu", "zsu"));
        let (position, scaled) = match plain {
            Some(position) => (position, false),
            None => (scaled().ok_or("the dump has none of x y z, xu yu zu, xs ys zs, xsu ysu zsu")?, true),
        };
        let (ty, element) = (find("type"), find("element"));
        if ty.or(element).is_none() {
            return Err("the dump has neither a column type nor a column element".to_owned());
        }
        let velocity = three("vx", "vy", "vz");
        // Both are read together, for trajectories.
        let images = three("ix", "iy", "iz").filter(|_| !extra.is_empty());
        Ok(Self {
            id: find("id"),
            ty,
            element,
            mass: find("mass"),
            position,
            scaled,
            velocity,
            images,
            value: find(extra),
            total: names.len(),
        })
    }
}

/// The atoms of a frame, before their types are assigned.
#[derive(Default)]
struct Atoms {
    /// The atoms, without types.
    collected: Collected,
    /// The type of each atom in the file; empty without a column `type`.
    types: Vec<i32>,
    /// The index of each atom's element in `named`, from 1; empty without a column `element`.
    elements: Vec<i32>,
    /// The different elements of the column `element`.
    named: Vec<Element>,
    /// The mass of each atom; empty without a column `mass`.
    masses: Vec<f64>,
}

#[allow(clippy::too_many_arguments, reason = "one caller")]
fn read_atoms<'a>(
    lines: &mut impl Iterator<Item = (u64, &'a str)>,
    first: u64,
    path: &Path,
    count: u64,
    cell: &Cell,
    columns: &Columns,
    speed: f64,
    extra: &mut Extra,
) -> Result<Atoms, Error> {
    let mut table = TypeTable::new(None);
    let mut atoms = Atoms::default();
    let mut last = first;
    let mut tokens: Vec<&str> = Vec::new();
    for (number, line) in lines {
        tokens.clear();
        tokens.extend(line.split_whitespace());
        if tokens.is_empty() {
            continue;
        }
        last = number;
        let mut read = || -> Result<(), String> {
            let collected = &mut atoms.collected;
            if collected.len() as u64 >= count {
                return Err(format!("the frame has more atoms than the {count} in its header"));
            }
            if tokens.len() != columns.total {
                return Err(format!("the line has {} columns instead of {}", tokens.len(), columns.total));
            }
            let pick = |at: [usize; 3], what| triple(&mut at.map(|k| tokens[k]).into_iter(), what);
            let mut position: Vec3 = pick(columns.position, ["x", "y", "z"])?;
            if columns.scaled {
                position = cell.cartesian(position);
                if !position.iter().all(|x| x.is_finite()) {
                    return Err("the scaled coordinates are too large".to_owned());
                }
            }
            if let Some(at) = columns.velocity {
                collected.velocities.extend(scaled(pick(at, ["vx", "vy", "vz"])?, speed, "the velocity")?);
            }
            if let Some(at) = columns.ty {
                let ty = integer(Some(tokens[at]), "the type")?;
                if ty < 1 {
                    return Err(format!("atom type {ty} is not positive: types must be 1 or more"));
                }
                atoms.types.push(ty);
            }
            if let Some(at) = columns.element {
                atoms.elements.push(table.type_of(tokens[at], None)?);
            }
            if let Some(at) = columns.mass {
                atoms.masses.push(mass(Some(tokens[at]))?);
            }
            if let Some([x, y, z]) = columns.images {
                let flag = |at: usize| integer(Some(tokens[at]), "an image flag");
                extra.images.push([flag(x)?, flag(y)?, flag(z)?]);
            }
            if let Some(at) = columns.value {
                // γ of an atom may be infinite.
                let value = tokens[at]
                    .parse()
                    .map_err(|_| format!("{} must be a number, not {:?}", extra.column, tokens[at]))?;
                extra.values.push(value);
            }
            collected.ids.push(match columns.id {
                Some(at) => integer(Some(tokens[at]), "the id")?,
                None => collected.len() as AtomId + 1,
            });
            collected.positions.extend(position);
            Ok(())
        };
        read().map_err(|message| parse_error(path, number, message))?;
        atoms.collected.lines.push(number);
    }
    let found = atoms.collected.len();
    if found as u64 != count {
        return Err(parse_error(path, last, format!("the frame ends after {found} of {count} atoms")));
    }
    atoms.collected.by_id(path)?;
    atoms.named = table.elements;
    Ok(atoms)
}

impl Atoms {
    fn structure(
        mut self,
        path: &Path,
        hint: Option<&[Element]>,
        cell: Cell,
        warnings: &mut Vec<String>,
    ) -> Result<Structure, Error> {
        let (types, elements) = self.assign_types(path, hint, warnings)?;
        let masses = self.type_masses(path, &types, &elements, warnings)?;
        self.collected.types = types;
        Ok(self.collected.structure(cell, elements, masses))
    }

    /// The type of each atom, and the element of each type.
    fn assign_types(
        &self,
        path: &Path,
        hint: Option<&[Element]>,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<i32>, Vec<Element>), Error> {
        let highest = self.types.iter().copied().max().unwrap_or(0);
        // LAMMPS writes C for all atoms without `dump_modify element`.
        let default = self.named == [Element::C] && !self.types.is_empty();
        match hint {
            Some(hint) if self.named.is_empty() || default => {
                if (hint.len() as i64) < i64::from(highest) {
                    let message =
                        format!("the dump has atom types up to {highest}, but {} element(s) were given", hint.len());
                    return Err(Error::Elements { path: path.to_owned(), message });
                }
                Ok((self.types.clone(), hint.to_vec()))
            }
            Some(hint) => {
                let element = |&named: &i32| self.named[named as usize - 1];
                let own = |(named, &ty): (&i32, &i32)| hint.get(ty as usize - 1) == Some(&element(named));
                if !self.types.is_empty() && self.elements.iter().zip(&self.types).all(own) {
                    return Ok((self.types.clone(), hint.to_vec()));
                }
                let mut table = TypeTable::new(Some(hint));
                let number = |(named, &line): (&i32, &u64)| {
                    table.type_of_element(element(named), None).map_err(|message| parse_error(path, line, message))
                };
                let types = self.elements.iter().zip(&self.collected.lines).map(number).collect::<Result<_, _>>()?;
                Ok((types, hint.to_vec()))
            }
            None if self.named.is_empty() => Ok((self.types.clone(), self.elements_by_mass(path, highest)?)),
            None => {
                let several = self.types.iter().any(|&ty| ty != self.types[0]);
                if default && several {
                    warnings.push(format!(
                        "all atoms are C in the column element, as LAMMPS writes without dump_modify element, but the \
                         types are numbered up to {highest}: give the elements of the types (for example Al,Cu) unless \
                         all are carbon"
                    ));
                }
                Ok(match elements_of_types(&self.types, &self.elements, &self.named) {
                    Some(elements) => (self.types.clone(), elements),
                    None => (self.elements.clone(), self.named.clone()),
                })
            }
        }
    }

    /// The element of each type of a dump without a column `element`, identified by the masses.
    fn elements_by_mass(&self, path: &Path, highest: i32) -> Result<Vec<Element>, Error> {
        let fail = |message: String| Error::Elements { path: path.to_owned(), message };
        if self.masses.is_empty() {
            return Err(fail(format!("the dump has atom types up to {highest} and no column element")));
        }
        let mut found: Vec<Option<f64>> = vec![None; self.types.len().min(highest as usize)];
        for (&ty, &mass) in self.types.iter().zip(&self.masses) {
            // If a type is larger than the number of atoms, some smaller type has no atoms, which is an error below.
            if let Some(type_mass) = found.get_mut(ty as usize - 1) {
                *type_mass = Some(mass);
            }
        }
        let of_type = |(ty, mass): (usize, &Option<f64>)| {
            let mass = mass.ok_or_else(|| {
                fail(format!("the element of type {} is unknown: the dump has no atom of this type", ty + 1))
            })?;
            masses::element_of(mass).ok_or_else(|| fail(format!("no element has the mass {mass} u of type {}", ty + 1)))
        };
        found.iter().enumerate().map(of_type).collect()
    }

    /// The mass of each type (u), after comparison with its element; `None` for a dump without masses.
    fn type_masses(
        &self,
        path: &Path,
        types: &[i32],
        elements: &[Element],
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<f64>>, Error> {
        if self.masses.is_empty() {
            return Ok(None);
        }
        let mut found: Vec<Option<f64>> = vec![None; elements.len()];
        for ((&ty, &mass), &line) in types.iter().zip(&self.masses).zip(&self.collected.lines) {
            let (type_mass, element) = (&mut found[ty as usize - 1], elements[ty as usize - 1]);
            let message = match *type_mass {
                Some(other) if other == mass => continue,
                Some(other) => {
                    format!("atoms of type {ty} have masses of {other} and {mass} u, but LAMMPS has one for each type")
                }
                None => match masses::compare(element, mass) {
                    Ok(warning) => {
                        warnings.extend(warning.map(|warning| format!("atom type {ty}: {warning}")));
                        *type_mass = Some(mass);
                        continue;
                    }
                    Err(why) => format!(
                        "atom type {ty} is {}, but {why}: give the elements in the order of the types",
                        element.symbol()
                    ),
                },
            };
            return Err(parse_error(path, line, message));
        }
        let of_type = |(mass, element): (Option<f64>, &Element)| mass.unwrap_or_else(|| standard_mass(*element));
        Ok(Some(found.into_iter().zip(elements).map(of_type).collect()))
    }
}

/// The element of each type of the file; `None` if a type does not occur or has several elements.
fn elements_of_types(file_types: &[i32], types: &[i32], elements: &[Element]) -> Option<Vec<Element>> {
    let highest = usize::try_from(*file_types.iter().max()?).ok()?;
    // The limit bounds the allocation; there are 118 elements.
    if file_types.len() != types.len() || highest > 118 {
        return None;
    }
    let mut found = vec![None; highest];
    for (&file_type, &ty) in file_types.iter().zip(types) {
        let slot = found.get_mut(usize::try_from(file_type).ok()?.checked_sub(1)?)?;
        let element = elements[ty as usize - 1];
        if *slot.get_or_insert(element) != element {
            return None;
        }
    }
    found.into_iter().collect()
}
