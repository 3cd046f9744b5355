// SPDX-License-Identifier: GPL-2.0-or-later
//! Extraction of the neighbourhood of an atom into a small periodic cell (a cut-out) that is feasible for DFT.
//!
//! A cut-out has a **core** of radius R around its centre, whose forces are used for training (`force_mask` 1), and a
//! **buffer** of thickness δ around the core, which provides the environment of the core (`force_mask` 0).
//! If δ is at least the cutoff of the potential, every core atom has the same neighbours as in the parent structure and
//! no periodic image among them, so its extrapolation grade is the same to rounding. The forces also depend on the
//! neighbours of the neighbours, so they are the same if δ is at least twice the cutoff. With a smaller buffer they
//! differ, most at the surface of the core.
//!
//! The total energy and the stress of a cut-out are not those of a part of the parent. Their weight in a fit is 0.
//!
//! Two shapes:
//!
//! - [`Shape::Sphere`]: all atoms nearer than R + δ, in the middle of a cubic cell of edge 2 (R + δ) + ε, with
//!   vacuum in the corners. ε starts at [`EmbeddingConfig::gap`] and grows until no two atoms are too close across
//!   the faces of the cell and the edge is above twice the cutoff.
//! - [`Shape::Cube`]: all atoms in the cube of edge 2 (R + δ) + ε, without vacuum. Atoms too close to an image across
//!   the new faces are removed, the outermost first. Atoms within the smaller of δ and twice the cutoff of a core atom
//!   are never removed; if two of them are too close across a face, the cube grows.
//!
//! A frame that is small enough for DFT is better taken as it is ([`EmbeddingConfig::whole_frames_below`]): all of its forces, its
//! energy and its stress can be learned.
//!
//! [`EmbeddingConfig::min_distance`] and [`EmbeddingConfig::boundary_scale`] define "too close".
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
mod frame;
mod mask;
mod novelty;
mod select;
mod shape;
mod validate;

pub use config::{EmbeddingConfig, Shape};
pub use novelty::{DEFAULT_THRESHOLD, Environment, Novelty, StoredMatch};
pub use select::{Region, Selected, image_count, indices_in_region, select};
pub use validate::PairLimits;

use crate::structure::{AtomId, Cell, DegenerateCell, Element, Structure, StructureError, Vec3};
use crate::vector::{dot, sub};
use ndarray::{Array1, Array2};
use std::collections::HashMap;

/// Tolerance for the comparison of offsets with radii and faces, Å. An atom within it counts as outside, and on the
/// lower face of a cube as inside. In a crystal, whole shells of atoms can lie on the radius. Rounding (1e-12 Å in a
/// cell of micrometres) must not split such a shell or make the result depend on the number of ranks.
const EDGE_TOLERANCE: f64 = 1e-8;

/// Distances that differ by less than this belong to the same shell when atoms are ordered, Å: much more than rounding
/// and much less than any physical difference.
const SHELL_TOLERANCE: f64 = 1e-6;

/// Amount by which the edge of the box exceeds twice the cutoff, Å. The edge must be larger, not equal.
const BOX_MARGIN: f64 = 1e-3;

/// Largest growth of a cube beyond 2 (R + δ) + ε in which it is still filled with atoms, Å. Larger than the neighbour
/// distances required by [`EmbeddingConfig::boundary_scale`] in common metals. A cube that grows further has a thin
/// gap.
const CUBE_GROWTH: f64 = 3.0;

/// The error of an extraction.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is invalid.
    #[error("embedding.{field} is {value}: {message}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        message: String,
    },
    /// No other atom is near the centre.
    #[error(
        "atom {id} has no other atom within {reach} Å, so no cut-out can be extracted. The simulation may have \
             exploded: use the last valid frame"
    )]
    Empty {
        /// The centre.
        id: AtomId,
        /// Radius + buffer, Å.
        reach: f64,
    },
    /// Coordinates that are NaN, infinite, or beyond 1e9 Å.
    #[error(
        "the coordinates of atom {id} are not finite or exceed 1e9 Å (offset from the centre: {offset:?} Å). The frame \
             is invalid: use the last valid frame"
    )]
    NotFinite {
        /// The atom.
        id: AtomId,
        /// Its offset from the centre, Å.
        offset: Vec3,
    },
    /// The centre is not among the atoms.
    #[error("the centre (atom {id}) is not among the {found} selected atoms")]
    NoCenter {
        /// The centre.
        id: AtomId,
        /// Number of atoms.
        found: usize,
    },
    /// An index is out of range.
    #[error("there is no atom with index {index}: the structure has {atoms} atoms, counted from 0")]
    NoSuchAtom {
        /// The index, from 0.
        index: usize,
        /// Number of atoms.
        atoms: usize,
    },
    /// An image of an atom was selected twice.
    #[error("image {image:?} of atom {id} was selected twice: pass the local atoms of each rank once, without ghosts")]
    Duplicate {
        /// The atom.
        id: AtomId,
        /// Its image.
        image: [i32; 3],
    },
    /// A type has no element.
    #[error("atom {id} has type {ty}, but only {types} element(s) are given: list one element for each type")]
    Type {
        /// The atom.
        id: AtomId,
        /// Its type.
        ty: i32,
        /// Number of elements.
        types: usize,
    },
    /// The cut-out has too many atoms.
    #[error("the cut-out around atom {id} has {found} atoms, more than max_atoms = {limit}: {}",
            fit_advice(*fits, *buffer))]
    TooMany {
        /// The centre.
        id: AtomId,
        /// Number of atoms.
        found: usize,
        /// The limit.
        limit: usize,
        /// The buffer, Å.
        buffer: f64,
        /// The largest radius that would fit with the same buffer, Å; `None` if the buffer alone is too large.
        fits: Option<f64>,
    },
    /// Two atoms overlap in the parent.
    #[error(
        "atoms {a} and {b} of the parent structure are {distance:.4} Å apart, closer than the limit of {limit} Å: use \
             the last valid frame if this one is invalid, or reduce `min_distance`"
    )]
    Overlap {
        /// Id of the first atom.
        a: AtomId,
        /// Id of the second atom.
        b: AtomId,
        /// Their distance, Å.
        distance: f64,
        /// The smallest distance allowed, Å.
        limit: f64,
    },
    /// The box is so small that atoms would interact with their own images.
    #[error("a cube of edge {edge} Å is not larger than twice the cutoff ({needed} Å), so atoms would interact with \
             their own images: increase radius + buffer above {} Å (now {} Å)", needed / 2.0, edge / 2.0)]
    BoxTooSmall {
        /// The edge, Å.
        edge: f64,
        /// Twice the cutoff, Å.
        needed: f64,
    },
    /// The cell is too small relative to the region.
    #[error(
        "a region of radius {reach} Å contains about {images:.0} periodic images of each atom of a cell of \
             {volume:.3e} Å³: check the cell and the radius"
    )]
    TooManyImages {
        /// Radius of the region, Å.
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
        Some(radius) => {
            format!("reduce the radius to {radius:.2} Å (with the buffer of {buffer} Å), or raise max_atoms")
        }
        None => format!("no radius fits with a buffer of {buffer} Å; raise max_atoms or use a smaller buffer"),
    }
}

/// A cut-out: a small periodic structure and the origin of its atoms in the parent.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The atoms in a cubic, fully periodic cell with the centre in its middle, ordered by distance from the centre.
    /// Ids are 1 to n.
    pub structure: Structure,
    /// 1 for core atoms, 0 for buffer atoms; shape (n).
    pub force_mask: Vec<f64>,
    /// Id of each atom in the parent; occurs once for each image in the cut-out; shape (n).
    pub source_ids: Vec<AtomId>,
    /// Image flags of each atom relative to the parent's atom; shape (n, 3).
    pub source_images: Vec<[i32; 3]>,
    /// Distance of each atom from the centre, Å; shape (n).
    pub distances: Vec<f64>,
    /// Index of the centre, from 0.
    pub center: usize,
    /// The shape; `None` for a whole frame, which has the cell of the parent, no buffer, and a mask of 1 for all atoms.
    pub shape: Option<Shape>,
    /// Radius of the core, Å.
    pub radius: f64,
    /// Thickness of the buffer, Å.
    pub buffer: f64,
    /// Cutoff of the potential for which the cell was built, Å.
    pub cutoff: f64,
    /// Largest allowed number of atoms; see [`Cluster::is_oversized`].
    pub max_atoms: usize,
    /// Number of atoms that were removed because they would overlap across the new faces.
    pub removed: usize,
    /// Smallest distance between two atoms of the cut-out, images included, Å.
    pub min_distance: f64,
}

/// A cluster with the data of the same atoms in the parent frame.
#[derive(Debug, Clone)]
pub struct CutOut {
    /// The cluster.
    pub cluster: Cluster,
    /// Position of the centre in the parent, Å.
    pub center: Vec3,
    /// The parent's atoms around the centre from which the cluster was built.
    pub surroundings: Vec<Selected>,
    /// γ of each atom in the parent; shape (n). `None` if not available. In a running simulation the values are those
    /// of the last poll.
    pub gamma: Option<Vec<f64>>,
    /// Core share of each atom in the parent, 0 to 1; shape (n). `None` if not available: not watched, or for the last valid frame.
    pub core_share: Option<Vec<f64>>,
    /// Force on each atom in the parent, eV/Å; shape (n). `None` if not available: for the last valid frame, and under a
    /// Langevin thermostat, which adds to the forces. NaN for fixed atoms, whose force LAMMPS sets to 0.
    pub forces: Option<Vec<Vec3>>,
}

impl Cluster {
    /// Whether it is a whole frame and not a part of one.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shape.is_none()
    }

    /// Edge of the cubic cell, Å; of a whole frame, the length of the first cell vector along x.
    #[must_use]
    pub fn edge(&self) -> f64 {
        self.structure.cell.vectors[0][0]
    }

    /// Number of core atoms.
    #[must_use]
    pub fn core_len(&self) -> usize {
        self.force_mask.iter().filter(|&&mask| mask > 0.0).count()
    }

    /// Whether it has more than [`Cluster::max_atoms`] atoms; see [`EmbeddingExtractor::build_fitting`].
    #[must_use]
    pub fn is_oversized(&self) -> bool {
        self.structure.len() > self.max_atoms
    }

    /// Whether every core atom has the same neighbours within the cutoff as in the parent.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.buffer >= self.cutoff
    }

    /// Number of neighbours within the cutoff that an atom has in the parent or in the cut-out, but not in both at the
    /// same relative position. `parent` are the atoms from which the cut-out was built.
    ///
    /// Atoms at the cutoff itself, which do not contribute, are not counted: rounding decides whether they are inside.
    ///
    /// # Panics
    /// If there is no atom at `index`.
    #[must_use]
    pub fn changed_neighbours(&self, index: usize, parent: &[Selected]) -> usize {
        // Å; more than rounding and less than any physical difference.
        const POSITION_TOLERANCE: f64 = 1e-9;
        let key = (self.source_ids[index], self.source_images[index]);
        let Some(own) = parent.iter().find(|atom| (atom.id, atom.image) == key) else { return usize::MAX };
        let within = |offset: Vec3| {
            let distance = dot(offset, offset).sqrt();
            (distance < self.cutoff + EDGE_TOLERANCE).then_some(distance < self.cutoff - EDGE_TOLERANCE)
        };
        // By id and image in the parent: the offset, and whether the neighbour counts.
        let mut in_parent: HashMap<(AtomId, [i32; 3]), (Vec3, bool)> = parent
            .iter()
            .filter(|atom| (atom.id, atom.image) != key)
            .filter_map(|atom| {
                let offset = sub(atom.offset, own.offset);
                within(offset).map(|counts| ((atom.id, atom.image), (offset, counts)))
            })
            .collect();
        let region = Region::Sphere { radius: self.cutoff + EDGE_TOLERANCE };
        let structure = &self.structure;
        let mut changed = 0;
        for atom in select(structure.atoms(), &structure.cell, structure.position(index), region) {
            let at = atom.id as usize - 1;
            if (at, atom.image) == (index, [0; 3]) {
                continue;
            }
            // An image across the new faces is not a neighbour in the parent.
            let source = (atom.image == [0; 3]).then(|| (self.source_ids[at], self.source_images[at]));
            let counts = within(atom.offset) == Some(true);
            match source.and_then(|key| in_parent.remove(&key)) {
                Some((offset, also)) => {
                    let moved = sub(offset, atom.offset);
                    changed += usize::from((counts || also) && dot(moved, moved).sqrt() > POSITION_TOLERANCE);
                }
                None => changed += usize::from(counts),
            }
        }
        changed + in_parent.values().filter(|(_, counts)| *counts).count()
    }
}

/// Extracts cut-outs with fixed settings.
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
    whole_frames_below: usize,
}

impl EmbeddingExtractor {
    /// Creates an extractor for a potential with this cutoff in Å (the largest over all pairs of elements). The cutoff is
    /// the default of the buffer.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is out of range; [`Error::BoxTooSmall`] if a cube would not be larger than twice
    /// the cutoff.
    pub fn new(config: &EmbeddingConfig, cutoff: f64) -> Result<Self, Error> {
        config.validate()?;
        if !(cutoff > 0.0 && cutoff < 100.0) {
            let message = "the cutoff of the potential must be above 0 and below 100 Å".to_owned();
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
            whole_frames_below: config.whole_frames_below,
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

    /// Initial edge of the new cell, 2 (R + δ) + ε, Å.
    fn smallest_edge(&self) -> f64 {
        2.0 * (self.radius + self.buffer) + self.gap
    }

    /// The region to be selected around a centre: the sphere, or the cube including the margin for its growth.
    #[must_use]
    pub fn region(&self) -> Region {
        match self.shape {
            Shape::Sphere => Region::Sphere { radius: self.radius + self.buffer },
            Shape::Cube => {
                Region::Cube { half_edge: (self.smallest_edge() + CUBE_GROWTH) / 2.0 + 2.0 * EDGE_TOLERANCE }
            }
        }
    }

    /// Checks that [`select`] can search a parent cell in reasonable time. `atoms` is the number of atoms in it, or the
    /// average per rank.
    ///
    /// # Errors
    /// [`Error::Cell`] if the cell spans no volume; [`Error::TooManyImages`] above 1e5 images of an atom, or 1e9 images in
    /// total.
    pub fn check_cell(&self, cell: &Cell, atoms: usize) -> Result<(), Error> {
        cell.check()?;
        let region = self.region();
        let images = image_count(cell, region);
        // NaN is rejected.
        if images <= 1e5 && images * atoms as f64 <= 1e9 {
            Ok(())
        } else {
            Err(Error::TooManyImages { reach: region.reach(), images, volume: cell.volume() })
        }
    }

    /// Cut-outs around up to 16 atoms evenly spaced in the list of atoms.
    pub fn trials<'a>(&'a self, atoms: &'a Structure) -> impl Iterator<Item = Result<Cluster, Error>> + 'a {
        let (all, tried) = (atoms.len(), atoms.len().min(16));
        (0..tried).map(move |k| self.extract_cluster(atoms, k * all / tried))
    }

    /// Checks that at least one of the [`EmbeddingExtractor::trials`] does not exceed the largest number of atoms, unless frames are
    /// taken whole.
    ///
    /// # Errors
    /// [`Error::TooMany`] of the last trial. Other errors of the trials are ignored.
    pub fn check_size(&self, atoms: &Structure) -> Result<(), Error> {
        if self.takes_whole(atoms.len() as u64) {
            return Ok(());
        }
        let mut last = Ok(());
        for trial in self.trials(atoms) {
            match trial {
                Err(error @ Error::TooMany { .. }) => last = Err(error),
                _ => return Ok(()),
            }
        }
        last
    }

    /// Selects the atoms around the atom at `center_index` (from 0) and builds the cut-out. The masses are those of the
    /// parent.
    ///
    /// # Errors
    /// [`Error`] if the index is out of range or no cut-out can be built.
    pub fn extract_cluster(&self, atoms: &Structure, center_index: usize) -> Result<Cluster, Error> {
        if center_index >= atoms.len() {
            return Err(Error::NoSuchAtom { index: center_index, atoms: atoms.len() });
        }
        self.check_cell(&atoms.cell, atoms.len())?;
        let (id, center) = (atoms.ids[center_index], atoms.position(center_index));
        if !select::is_valid_offset(center) {
            return Err(Error::NotFinite { id, offset: center });
        }
        let selected = select(atoms.atoms(), &atoms.cell, center, self.region());
        let mut cluster = self.build(id, selected, &atoms.elements)?;
        cluster.structure.masses.clone_from(&atoms.masses);
        Ok(cluster)
    }

    /// Builds the cut-out from the atoms that [`select`] returned for [`EmbeddingExtractor::region`] on all ranks.
    ///
    /// The result does not depend on the order of `selected`, and so not on the number of ranks: atoms are ordered by
    /// distance, and by id and image within a shell. `elements` is the parent's table. The masses are the standard ones.
    ///
    /// # Errors
    /// [`Error`] if the selection is inconsistent, has too many atoms or none near the centre, or if atoms overlap.
    pub fn build(&self, center_id: AtomId, selected: Vec<Selected>, elements: &[Element]) -> Result<Cluster, Error> {
        let atoms = self.ordered(center_id, selected, elements)?;
        let reach = self.radius + self.buffer;
        let inside = |atom: &&Selected| match self.shape {
            Shape::Sphere => atom.distance < reach - EDGE_TOLERANCE,
            Shape::Cube => shape::in_cube(atom.offset, self.smallest_edge()),
        };
        let found = atoms.iter().filter(inside).count();
        if found < 2 {
            return Err(Error::Empty { id: center_id, reach });
        }
        // A cube loses a few atoms at its faces, so only twice the limit is an error here. The check avoids the
        // comparison of all pairs of very many atoms.
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
                ids: Array1::from_iter(1..=kept.len() as AtomId),
                fixed: Vec::new(),
                positions,
                velocities: None,
            },
            force_mask: mask::force_mask(&distances, self.radius),
            source_ids: kept.iter().map(|atom| atom.id).collect(),
            source_images: kept.iter().map(|atom| atom.image).collect(),
            distances,
            center: 0,
            shape: Some(self.shape),
            radius: self.radius,
            buffer: self.buffer,
            cutoff: self.cutoff,
            max_atoms: self.max_atoms,
            removed: shaped.removed,
            min_distance,
        })
    }

    /// As [`EmbeddingExtractor::build`], but with more than `max_atoms` atoms the core is reduced to the largest radius
    /// that fits with the whole buffer. If no radius fits, up to `2 max_atoms` atoms are allowed
    /// ([`Cluster::is_oversized`]), so that an event still yields a candidate.
    ///
    /// `select` returns the atoms in a region around the centre.
    ///
    /// # Errors
    /// As [`EmbeddingExtractor::build`].
    pub fn build_fitting(
        &self,
        center_id: AtomId,
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

    /// A copy with a smaller core; `None` if the radius is not smaller, or if the cube would be too small for the
    /// cutoff.
    fn with_radius(&self, radius: f64) -> Option<Self> {
        let smaller = Self { radius, ..self.clone() };
        let fits = smaller.shape == Shape::Sphere || smaller.smallest_edge() > 2.0 * smaller.cutoff;
        (radius < self.radius && fits).then_some(smaller)
    }

    /// The centre, then the other atoms in an order that does not depend on rounding.
    fn ordered(
        &self,
        center_id: AtomId,
        mut atoms: Vec<Selected>,
        elements: &[Element],
    ) -> Result<Vec<Selected>, Error> {
        for atom in &atoms {
            if !(atom.distance.is_finite() && select::is_valid_offset(atom.offset)) {
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
        let is_center = |atom: &Selected| atom.id == center_id && atom.distance < SHELL_TOLERANCE;
        let Some(place) = atoms.iter().position(is_center) else {
            return Err(Error::NoCenter { id: center_id, found: atoms.len() });
        };
        let center = atoms.remove(place);
        atoms.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        // Within a shell the distances differ by rounding only.
        for shell in atoms.chunk_by_mut(|a, b| b.distance - a.distance < SHELL_TOLERANCE) {
            shell.sort_unstable_by_key(key);
        }
        atoms.insert(0, center);
        Ok(atoms)
    }

    /// The error for a cut-out of `found` atoms, with the largest radius that fits.
    fn too_many(&self, id: AtomId, found: usize, atoms: &[Selected]) -> Error {
        let mut extents: Vec<f64> = match self.shape {
            Shape::Sphere => atoms.iter().map(|atom| atom.distance).collect(),
            Shape::Cube => atoms.iter().map(|atom| largest(atom.offset) - self.gap / 2.0).collect(),
        };
        extents.sort_unstable_by(f64::total_cmp);
        // A region that ends at the first excess atom does not contain it. Round down to 0.01 Å.
        let radius = extents.get(self.max_atoms).map_or(0.0, |x| ((x - self.buffer) * 100.0).floor() / 100.0);
        let fits = (radius > 0.0).then_some(radius);
        Error::TooMany { id, found, limit: self.max_atoms, buffer: self.buffer, fits }
    }
}

/// The largest absolute value of the components.
fn largest(v: Vec3) -> f64 {
    v.iter().fold(0.0, |most, x| most.max(x.abs()))
}
