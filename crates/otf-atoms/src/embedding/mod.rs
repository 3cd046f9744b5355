// SPDX-License-Identifier: GPL-2.0-or-later
//! Cutting the neighbourhood of an atom into a small periodic cell that density functional theory can afford.
//!
//! A cut-out has a **core** of radius R around its centre, whose forces are trusted (`force_mask` 1), and a
//! **buffer** of thickness δ around that, which is only there to give the core its environment (`force_mask` 0).
//! With δ at least the potential's cutoff, every core atom sees exactly the neighbours that it has in the parent, and
//! no periodic image of the new cell: the potential's extrapolation grades of the core are the same in both, to
//! rounding; the forces, which also depend on what the neighbours see, are with twice the cutoff. With a smaller buffer they are
//! not, and the further out in the core the less.
//!
//! A cut-out's total energy and stress mean nothing for the parent: their weight in a fit is 0.
//!
//! Two shapes:
//!
//! - [`Shape::Sphere`]: everything nearer than R + δ, in the middle of a cubic cell of edge 2 (R + δ) + ε, with
//!   vacuum in the corners. ε starts at [`EmbeddingConfig::gap`] and grows until no two atoms are too close across
//!   the cell's faces and the edge is above twice the cutoff.
//! - [`Shape::Cube`]: everything in the cube of edge 2 (R + δ) + ε, with no vacuum. Atoms that are too close to an
//!   image across the new faces are removed, the outermost first, but never one that the core needs (within the
//!   smaller of buffer and twice the cutoff of a core atom); if two such atoms face each other, the cube grows instead.
//!
//! What "too close" means: see [`EmbeddingConfig::min_distance`] and [`EmbeddingConfig::boundary_scale`].
//!
//! ```
//! use otf_atoms::embedding::{EmbeddingConfig, EmbeddingExtractor};
//! use otf_atoms::structure::{Cell, Element, Structure};
//! use ndarray::{Array1, Array2};
//!
//! // Simple cubic polonium, 3.35 Å, 6 × 6 × 6 cells.
//! let positions = Array2::from_shape_fn((216, 3), |(i, k)| 3.35 * (i / 6_usize.pow(k as u32) % 6) as f64);
//! let bulk = Structure {
//!     cell: Cell::orthorhombic([20.1; 3], [true; 3]),
//!     elements: vec![Element::Po],
//!     masses: None,
//!     types: Array1::ones(216),
//!     ids: (1..=216).collect(),
//!     fixed: Vec::new(),
//!     positions,
//!     velocities: None,
//! };
//! let config = EmbeddingConfig { radius: 4.0, ..EmbeddingConfig::default() };
//! let extractor = EmbeddingExtractor::new(&config, 4.5)?;
//! let cluster = extractor.extract_cluster(&bulk, 0)?;
//! // The centre and its six neighbours are the core.
//! assert_eq!(cluster.force_mask.iter().sum::<f64>(), 7.0);
//! assert_eq!(cluster.source_ids[cluster.center], 1);
//! # Ok::<(), otf_atoms::embedding::Error>(())
//! ```
mod config;
mod mask;
mod novelty;
mod select;
mod shape;
mod validate;

pub use config::{EmbeddingConfig, Shape};
pub use novelty::{DEFAULT_THRESHOLD, Environment, Known, Novelty};
pub use select::{Region, Selected, image_count, near, select};
pub use validate::PairLimits;

use crate::structure::{Cell, DegenerateCell, Element, Structure, StructureError, Vec3};
use crate::vector::{dot, sub};
use ndarray::{Array1, Array2};
use std::collections::HashMap;

/// Offsets are compared with radii and box faces to this tolerance, Å: an atom within it counts as outside (on the
/// lower face of a cube: as inside, and on the upper one as outside). A crystal
/// puts whole shells of atoms on a round radius; rounding (1e-12 Å in a cell of micrometres) must not let some of them
/// in and leave others out, nor let the answer depend on the number of ranks.
const EDGE: f64 = 1e-8;

/// Distances closer than this are the same shell when atoms are put in order, Å: much more than rounding and much
/// less than any physical difference.
const SAME_SHELL: f64 = 1e-6;

/// Room that the box gets above twice the cutoff, Å. It must be larger, not equal.
const BOX_MARGIN: f64 = 1e-3;

/// How much larger than 2 (R + δ) + ε a cube may grow and still be full of atoms, Å. Larger than any distance between
/// neighbours that [`EmbeddingConfig::boundary_scale`] asks for in common metals; beyond it, a thin gap opens.
const CUBE_GROWTH: f64 = 3.0;

/// Why there is no cut-out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used.
    #[error("embedding.{field} is {value}: {message}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        message: String,
    },
    /// Nothing around the centre.
    #[error(
        "atom {id} has no other atom within {reach} Å: there is nothing to cut out. The simulation may have \
             exploded; the last valid frame before is the one to look at"
    )]
    Empty {
        /// The centre.
        id: i32,
        /// Radius + buffer, Å.
        reach: f64,
    },
    /// Coordinates that are NaN, infinite, or beyond 1e9 Å.
    #[error(
        "atom {id} is at {offset:?} Å from the centre: its coordinates are not finite, or absurd. The frame is \
             broken; use the last valid one before it"
    )]
    NotFinite {
        /// The atom.
        id: i32,
        /// Its offset from the centre, Å.
        offset: Vec3,
    },
    /// The centre is not among the atoms.
    #[error("the centre, atom {id}, is not among the {found} selected atoms")]
    NoCenter {
        /// The centre.
        id: i32,
        /// Number of atoms.
        found: usize,
    },
    /// An index beyond the atoms.
    #[error("there is no atom at index {index} among {atoms} atoms")]
    NoSuchAtom {
        /// The index, from 0.
        index: usize,
        /// Number of atoms.
        atoms: usize,
    },
    /// The same image of the same atom twice.
    #[error("image {image:?} of atom {id} was selected twice: give each rank's own atoms once, without ghosts")]
    Duplicate {
        /// The atom.
        id: i32,
        /// Its image.
        image: [i32; 3],
    },
    /// A type that has no element.
    #[error("atom {id} has type {ty}, but only {types} element(s) are given")]
    Type {
        /// The atom.
        id: i32,
        /// Its type.
        ty: i32,
        /// Number of elements.
        types: usize,
    },
    /// Too many atoms for DFT.
    #[error("the cut-out around atom {id} has {found} atoms, more than max_atoms = {limit}: {}",
            fit_advice(*fits, *buffer))]
    TooMany {
        /// The centre.
        id: i32,
        /// Number of atoms.
        found: usize,
        /// The limit.
        limit: usize,
        /// The buffer, Å.
        buffer: f64,
        /// The largest radius that would fit with the same buffer, Å; `None` if the buffer alone is too large.
        fits: Option<f64>,
    },
    /// Two atoms overlap in the parent already.
    #[error(
        "atoms {a} and {b} are {distance:.4} Å apart, closer than the limit of {limit} Å, in the structure that \
             is cut: the frame is broken (use the last valid one before it), or min_distance is too large"
    )]
    Overlap {
        /// One atom.
        a: i32,
        /// The other.
        b: i32,
        /// Their distance, Å.
        distance: f64,
        /// The smallest distance allowed, Å.
        limit: f64,
    },
    /// The box is so small that atoms would see their own images.
    #[error("a cube of edge {edge} Å is not larger than twice the cutoff, {needed} Å, so atoms would interact with \
             themselves: radius + buffer must be above {} Å (now {} Å)", needed / 2.0, edge / 2.0)]
    BoxTooSmall {
        /// The edge, Å.
        edge: f64,
        /// Twice the cutoff, Å.
        needed: f64,
    },
    /// The cell is so small that an absurd number of images would have to be looked at.
    #[error(
        "a region that reaches {reach} Å holds about {images:.0} periodic images of each atom of a cell of \
             {volume:.3e} Å³: the cell or the radius is wrong"
    )]
    TooManyImages {
        /// How far the region reaches, Å.
        reach: f64,
        /// Images of each atom.
        images: f64,
        /// Volume of the cell, Å³.
        volume: f64,
    },
    /// The cell spans no volume.
    #[error(transparent)]
    Cell(#[from] DegenerateCell),
    /// The structure is not consistent.
    #[error(transparent)]
    Structure(#[from] StructureError),
}

fn fit_advice(fits: Option<f64>, buffer: f64) -> String {
    match fits {
        Some(radius) => format!("a radius of {radius:.2} Å would fit with the buffer of {buffer} Å"),
        None => format!("no radius fits with a buffer of {buffer} Å; raise max_atoms or give a smaller buffer"),
    }
}

/// A cut-out: a small periodic structure and where its atoms come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The atoms in their new, cubic and fully periodic cell, the centre in its middle, in the order of their
    /// distance from the centre; ids are 1 to n.
    pub structure: Structure,
    /// 1 for core atoms, 0 for buffer atoms; shape (n).
    pub force_mask: Vec<f64>,
    /// Identity of each atom in the parent; an atom is there once for each of its images; shape (n).
    pub source_ids: Vec<i32>,
    /// Which image of the parent's atom each is; shape (n, 3).
    pub source_images: Vec<[i32; 3]>,
    /// Distance of each atom from the centre, Å; shape (n).
    pub distances: Vec<f64>,
    /// Index of the centre.
    pub center: usize,
    /// The shape.
    pub shape: Shape,
    /// Radius of the core, Å.
    pub radius: f64,
    /// Thickness of the buffer, Å.
    pub buffer: f64,
    /// Cutoff of the potential that the cell was made for, Å.
    pub cutoff: f64,
    /// Number of atoms that it should not exceed.
    pub max_atoms: usize,
    /// Atoms of the parent that were left out because they would overlap across the new faces.
    pub removed: usize,
    /// Smallest distance between two atoms of the cut-out, images included, Å.
    pub min_distance: f64,
}

/// A cluster, and what its parent frame says of the same atoms.
#[derive(Debug, Clone)]
pub struct CutOut {
    /// The cluster.
    pub cluster: Cluster,
    /// Where the centre is in the parent, Å.
    pub center: Vec3,
    /// The parent's atoms around the centre that the cluster was built from.
    pub surroundings: Vec<Selected>,
    /// γ of each atom in the parent; length n. `None` where it is not known. Of the running simulation it is as
    /// old as the last poll.
    pub gamma: Option<Vec<f64>>,
    /// Force on each atom in the parent, eV/Å; length n. `None` where it is not known by itself: in the last valid frame,
    /// and under a Langevin thermostat, which adds to it. NaN for an atom that is fixed, whose force is taken away.
    pub forces: Option<Vec<Vec3>>,
}

impl Cluster {
    /// Edge of the cubic cell, Å.
    #[must_use]
    pub fn edge(&self) -> f64 {
        self.structure.cell.vectors[0][0]
    }

    /// Number of core atoms.
    #[must_use]
    pub fn core_len(&self) -> usize {
        self.force_mask.iter().filter(|&&mask| mask > 0.0).count()
    }

    /// Whether it has more atoms than it should: see [`EmbeddingExtractor::build_fitting`].
    #[must_use]
    pub fn is_oversized(&self) -> bool {
        self.structure.len() > self.max_atoms
    }

    /// Whether every core atom sees exactly the environment that it has in the parent.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.buffer >= self.cutoff
    }

    /// Number of neighbours within the cutoff that an atom has in the parent or in the cut-out, but not in both at the same
    /// place. `parent` is what the cut-out was built from.
    ///
    /// Atoms at the cutoff itself, where they contribute nothing, are not counted: rounding puts them inside or outside.
    ///
    /// # Panics
    /// If there is no atom at `index`.
    #[must_use]
    pub fn changed_neighbours(&self, index: usize, parent: &[Selected]) -> usize {
        // More than rounding and less than any physical difference, Å.
        const SAME_PLACE: f64 = 1e-9;
        let key = (self.source_ids[index], self.source_images[index]);
        let Some(own) = parent.iter().find(|atom| (atom.id, atom.image) == key) else { return usize::MAX };
        let within = |offset: Vec3| {
            let distance = dot(offset, offset).sqrt();
            (distance < self.cutoff + EDGE).then_some(distance < self.cutoff - EDGE)
        };
        // By identity in the parent: the offset, and whether the neighbour counts.
        let mut there: HashMap<(i32, [i32; 3]), (Vec3, bool)> = parent
            .iter()
            .filter(|atom| (atom.id, atom.image) != key)
            .filter_map(|atom| {
                let offset = sub(atom.offset, own.offset);
                within(offset).map(|counts| ((atom.id, atom.image), (offset, counts)))
            })
            .collect();
        let region = Region::Sphere { radius: self.cutoff + EDGE };
        let structure = &self.structure;
        let mut changed = 0;
        for atom in select(structure.atoms(), &structure.cell, structure.position(index), region) {
            let at = atom.id as usize - 1;
            if (at, atom.image) == (index, [0; 3]) {
                continue;
            }
            // An image across the new faces is no neighbour in the parent.
            let real = (atom.image == [0; 3]).then(|| (self.source_ids[at], self.source_images[at]));
            let counts = within(atom.offset) == Some(true);
            match real.and_then(|key| there.remove(&key)) {
                Some((offset, also)) => {
                    let moved = sub(offset, atom.offset);
                    changed += usize::from((counts || also) && dot(moved, moved).sqrt() > SAME_PLACE);
                }
                None => changed += usize::from(counts),
            }
        }
        changed + there.values().filter(|(_, counts)| *counts).count()
    }
}

/// Makes cut-outs, all with the same settings.
#[derive(Debug, Clone)]
pub struct EmbeddingExtractor {
    shape: Shape,
    radius: f64,
    buffer: f64,
    cutoff: f64,
    gap: f64,
    boundary_scale: f64,
    limits: PairLimits,
    max_atoms: usize,
}

impl EmbeddingExtractor {
    /// An extractor for a potential with this cutoff (the largest over all pairs of elements, Å), which is also the
    /// buffer if the settings give none.
    ///
    /// # Errors
    /// [`Error::Config`] for settings out of range; [`Error::BoxTooSmall`] if a cube would not be larger than twice the
    /// cutoff.
    pub fn new(config: &EmbeddingConfig, cutoff: f64) -> Result<Self, Error> {
        config.validate()?;
        if !(cutoff > 0.0 && cutoff < 100.0) {
            let message = "the potential's cutoff must be above 0 and below 100 Å".to_owned();
            return Err(Error::Config { field: "cutoff", value: cutoff.to_string(), message });
        }
        let extractor = Self {
            shape: config.shape,
            radius: config.radius,
            buffer: config.buffer.unwrap_or(cutoff),
            cutoff,
            gap: config.gap,
            boundary_scale: config.boundary_scale,
            limits: config.limits()?,
            max_atoms: config.max_atoms,
        };
        let edge = extractor.smallest_edge();
        if extractor.shape == Shape::Cube && edge <= 2.0 * cutoff {
            return Err(Error::BoxTooSmall { edge, needed: 2.0 * cutoff });
        }
        Ok(extractor)
    }

    /// Radius of the core, Å.
    #[must_use]
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// Cutoff of the potential in Å.
    #[must_use]
    pub fn cutoff(&self) -> f64 {
        self.cutoff
    }

    /// Thickness of the buffer, Å.
    #[must_use]
    pub fn buffer(&self) -> f64 {
        self.buffer
    }

    /// Edge of the new cell before it grows, 2 (R + δ) + ε, Å.
    fn smallest_edge(&self) -> f64 {
        2.0 * (self.radius + self.buffer) + self.gap
    }

    /// What has to be selected around a centre: the sphere, or the cube with the room that it may grow by.
    #[must_use]
    pub fn region(&self) -> Region {
        match self.shape {
            Shape::Sphere => Region::Sphere { radius: self.radius + self.buffer },
            Shape::Cube => Region::Cube { half_edge: (self.smallest_edge() + CUBE_GROWTH) / 2.0 + 2.0 * EDGE },
        }
    }

    /// Checks that a parent cell can be searched with [`select`] in reasonable time. `atoms` is the number of atoms in
    /// it (of several ranks: of each, on average).
    ///
    /// # Errors
    /// [`Error::Cell`], or [`Error::TooManyImages`] above 1e5 images of an atom, or 1e9 in total.
    pub fn check_cell(&self, cell: &Cell, atoms: usize) -> Result<(), Error> {
        cell.check()?;
        let region = self.region();
        let images = image_count(cell, region);
        // NaN is too many.
        if images <= 1e5 && images * atoms as f64 <= 1e9 {
            Ok(())
        } else {
            Err(Error::TooManyImages { reach: region.reach(), images, volume: cell.volume() })
        }
    }

    /// Cut-outs around up to 16 atoms that are evenly spread over the list.
    pub fn trials<'a>(&'a self, atoms: &'a Structure) -> impl Iterator<Item = Result<Cluster, Error>> + 'a {
        let (all, tried) = (atoms.len(), atoms.len().min(16));
        (0..tried).map(move |k| self.extract_cluster(atoms, k * all / tried))
    }

    /// Checks that not each of the [`EmbeddingExtractor::trials`] is too large.
    ///
    /// # Errors
    /// [`Error::TooMany`] of the last. Whatever else is wrong with cut-outs is not looked at here.
    pub fn check_size(&self, atoms: &Structure) -> Result<(), Error> {
        let mut last = Ok(());
        for trial in self.trials(atoms) {
            match trial {
                Err(error @ Error::TooMany { .. }) => last = Err(error),
                _ => return Ok(()),
            }
        }
        last
    }

    /// The whole job on a structure: selects around the atom at `center_index` (from 0) and builds.
    ///
    /// # Errors
    /// [`Error`].
    pub fn extract_cluster(&self, atoms: &Structure, center_index: usize) -> Result<Cluster, Error> {
        if center_index >= atoms.len() {
            return Err(Error::NoSuchAtom { index: center_index, atoms: atoms.len() });
        }
        self.check_cell(&atoms.cell, atoms.len())?;
        let (id, center) = (atoms.ids[center_index], atoms.position(center_index));
        if !select::is_somewhere(center) {
            return Err(Error::NotFinite { id, offset: center });
        }
        let selected = select(atoms.atoms(), &atoms.cell, center, self.region());
        let mut cluster = self.build(id, selected, &atoms.elements)?;
        cluster.structure.masses.clone_from(&atoms.masses);
        Ok(cluster)
    }

    /// Builds the cut-out from what [`select`] found for [`EmbeddingExtractor::region`], on all ranks together.
    ///
    /// The order of `selected` does not matter: atoms are put in the order of their distance, and by id and image
    /// within a shell, so the result does not depend on the number of ranks. `elements` is the parent's table; the
    /// masses are the standard ones.
    ///
    /// # Errors
    /// [`Error`].
    pub fn build(&self, center_id: i32, selected: Vec<Selected>, elements: &[Element]) -> Result<Cluster, Error> {
        let atoms = self.ordered(center_id, selected, elements)?;
        let reach = self.radius + self.buffer;
        let inside = |atom: &&Selected| match self.shape {
            Shape::Sphere => atom.distance < reach - EDGE,
            Shape::Cube => shape::in_cube(atom.offset, self.smallest_edge()),
        };
        let found = atoms.iter().filter(inside).count();
        if found < 2 {
            return Err(Error::Empty { id: center_id, reach });
        }
        // The few atoms that a cube loses at its faces are not counted yet; twice the limit is beyond doubt, and
        // what follows looks at all pairs.
        if found > 2 * self.max_atoms || (self.shape == Shape::Sphere && found > self.max_atoms) {
            return Err(self.too_many(center_id, found, &atoms));
        }
        let (shaped, min_distance) = match self.shape {
            Shape::Sphere => self.sphere(&atoms, elements)?,
            Shape::Cube => self.cube(&atoms, elements)?,
        };
        if shaped.atoms.len() > self.max_atoms {
            return Err(self.too_many(center_id, shaped.atoms.len(), &atoms));
        }

        let kept = &shaped.atoms;
        let middle = shaped.edge / 2.0;
        let positions = Array2::from_shape_fn((kept.len(), 3), |(i, k)| kept[i].offset[k] + middle);
        let distances: Vec<f64> = kept.iter().map(|atom| atom.distance).collect();
        Ok(Cluster {
            structure: Structure {
                cell: Cell::orthorhombic([shaped.edge; 3], [true; 3]),
                elements: elements.to_vec(),
                masses: None,
                types: kept.iter().map(|atom| atom.ty).collect(),
                ids: Array1::from_iter(1..=kept.len() as i32),
                fixed: Vec::new(),
                positions,
                velocities: None,
            },
            force_mask: mask::force_mask(&distances, self.radius),
            source_ids: kept.iter().map(|atom| atom.id).collect(),
            source_images: kept.iter().map(|atom| atom.image).collect(),
            distances,
            center: 0,
            shape: self.shape,
            radius: self.radius,
            buffer: self.buffer,
            cutoff: self.cutoff,
            max_atoms: self.max_atoms,
            removed: shaped.removed,
            min_distance,
        })
    }

    /// [`EmbeddingExtractor::build`], with a smaller core where there are more than `max_atoms`: as many atoms of the core as fit
    /// with the whole buffer. Where not even the centre alone does, up to twice as many atoms are taken as allowed
    /// ([`Cluster::is_oversized`]), so that an event leaves something behind.
    ///
    /// `select` gives what is in a region around the centre.
    ///
    /// # Errors
    /// As [`EmbeddingExtractor::build`].
    pub fn build_fitting(
        &self,
        center_id: i32,
        elements: &[Element],
        select: impl Fn(Region) -> Vec<Selected>,
    ) -> Result<Cluster, Error> {
        let mut smaller = self.clone();
        loop {
            let built = smaller.build(center_id, select(smaller.region()), elements);
            let Err(Error::TooMany { fits, .. }) = built else { return built };
            match fits.and_then(|radius| smaller.with_radius(radius)) {
                Some(next) => smaller = next,
                None => break,
            }
        }
        let larger = Self { max_atoms: 2 * self.max_atoms, ..self.clone() };
        let built = larger.build(center_id, select(larger.region()), elements)?;
        Ok(Cluster { max_atoms: self.max_atoms, ..built })
    }

    /// With a smaller core; `None` if the radius is not smaller, or a cube too small for the potential.
    fn with_radius(&self, radius: f64) -> Option<Self> {
        let smaller = Self { radius, ..self.clone() };
        let fits = smaller.shape == Shape::Sphere || smaller.smallest_edge() > 2.0 * smaller.cutoff;
        (radius < self.radius && fits).then_some(smaller)
    }

    /// The centre, then the others in an order that rounding cannot change.
    fn ordered(&self, center_id: i32, mut atoms: Vec<Selected>, elements: &[Element]) -> Result<Vec<Selected>, Error> {
        for atom in &atoms {
            if !(atom.distance.is_finite() && select::is_somewhere(atom.offset)) {
                return Err(Error::NotFinite { id: atom.id, offset: atom.offset });
            }
            if atom.ty < 1 || atom.ty as usize > elements.len() {
                return Err(Error::Type { id: atom.id, ty: atom.ty, types: elements.len() });
            }
        }
        let key = |atom: &Selected| (atom.id, atom.image);
        atoms.sort_unstable_by_key(key);
        if let Some(pair) = atoms.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
            return Err(Error::Duplicate { id: pair[0].id, image: pair[0].image });
        }
        let is_center = |atom: &Selected| atom.id == center_id && atom.distance < SAME_SHELL;
        let Some(place) = atoms.iter().position(is_center) else {
            return Err(Error::NoCenter { id: center_id, found: atoms.len() });
        };
        let center = atoms.remove(place);
        atoms.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        // Within a shell (each atom as far as the one before, but for rounding) the distance says nothing.
        for shell in atoms.chunk_by_mut(|a, b| b.distance - a.distance < SAME_SHELL) {
            shell.sort_unstable_by_key(key);
        }
        atoms.insert(0, center);
        Ok(atoms)
    }

    /// The error for a cut-out of `found` atoms, with the radius that would fit.
    fn too_many(&self, id: i32, found: usize, atoms: &[Selected]) -> Error {
        let mut extents: Vec<f64> = match self.shape {
            Shape::Sphere => atoms.iter().map(|atom| atom.distance).collect(),
            Shape::Cube => atoms.iter().map(|atom| largest(atom.offset) - self.gap / 2.0).collect(),
        };
        extents.sort_unstable_by(f64::total_cmp);
        // A region that ends at the first atom that is too many does not hold it. Round down to a round number.
        let radius = extents.get(self.max_atoms).map_or(0.0, |x| ((x - self.buffer) * 100.0).floor() / 100.0);
        let fits = (radius > 0.0).then_some(radius);
        Error::TooMany { id, found, limit: self.max_atoms, buffer: self.buffer, fits }
    }
}

/// The largest component, without sign.
fn largest(v: Vec3) -> f64 {
    v.iter().fold(0.0, |most, x| most.max(x.abs()))
}
