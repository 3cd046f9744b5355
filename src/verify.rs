// SPDX-License-Identifier: GPL-2.0-or-later
//! Verification and relaxation of cut-outs with the potential of the simulation.
//!
//! The potential is evaluated on the cut-out by a second LAMMPS instance on one rank, and the results are compared with those in
//! the parent frame. Which results must agree depends on the thickness of the buffer, for a potential with cutoff r_c:
//!
//! - γ and the energy of an atom depend on its neighbours within r_c. With a buffer of r_c, all neighbours of core atoms are in
//!   the cut-out, which is checked for each atom, and their γ and energy agree to rounding. Rounding errors of γ can be large,
//!   because they are multiplied by the condition number of the active set, which may be as large as 1e20. Their size is measured
//!   by evaluating the cut-out rotated and with renumbered atoms.
//! - The force on an atom is the derivative of its own energy and of the energies of its neighbours, which depend on atoms up to
//!   2 r_c away. Forces of a many-body potential therefore agree to rounding only with a buffer of 2 r_c. With a buffer of r_c
//!   they differ, because atoms of the outer buffer have other neighbours across the new boundary. This difference is stored as
//!   `max_force_difference`. It measures how representative the cut-out is of the frame; labels computed for the cut-out are
//!   correct for the cut-out itself.

use ndarray::{Array1, Array2, ArrayView1};

use crate::comm::Comm;
use crate::embedding::{Cluster, CutOut};
use crate::lammps::{Error, Lammps};
use crate::script::{GAMMA_FIX, GammaFix, Script, UnitFactors};
use crate::structure::{AtomId, Cell, Element, Structure, Vec3};

/// Comparison of a cut-out with its parent frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Verification {
    /// γ of the centre in the parent frame.
    pub gamma_parent: Option<f64>,
    /// γ of the centre in the cut-out.
    pub gamma_cluster: Option<f64>,
    /// Rounding error of γ of the centre. Measured if `gamma_parent` and `gamma_cluster` have a relative difference of more than
    /// [`RELATIVE_TOLERANCE`]; `None` otherwise.
    pub gamma_rounding: Option<f64>,
    /// The largest difference of a force component between the cut-out and the parent frame, over the atoms with mask 1, eV/Å.
    pub max_force_difference: Option<f64>,
    /// The largest force component on an atom with mask 1 in the cut-out, eV/Å.
    pub max_force: f64,
}

/// Relative tolerance for numbers that differ only by the order of additions, if rounding errors are not amplified.
pub const RELATIVE_TOLERANCE: f64 = 1e-8;

/// Factor by which a difference may exceed the measured rounding error, which is estimated from a few samples.
const MARGIN: f64 = 30.0;

impl Verification {
    /// Whether γ of the centre agrees to rounding between the frame and the cut-out. `true` if either is unknown, `false` if
    /// either is NaN.
    #[must_use]
    pub fn same_gamma(&self) -> bool {
        let (Some(parent), Some(here)) = (self.gamma_parent, self.gamma_cluster) else { return true };
        (parent - here).abs() <= (RELATIVE_TOLERANCE * parent.abs()).max(MARGIN * self.gamma_rounding.unwrap_or(0.0))
    }

    /// Whether the forces of the core agree to rounding between the frame and the cut-out. `true` if they are unknown.
    #[must_use]
    pub fn same_forces(&self) -> bool {
        self.max_force_difference.is_none_or(|difference| difference <= RELATIVE_TOLERANCE * self.max_force.max(1.0))
    }
}

/// Energy, forces and γ of a small periodic structure.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Potential energy, eV.
    pub energy: f64,
    /// Forces in the order of the atoms, eV/Å; length n.
    pub forces: Vec<Vec3>,
    /// γ in the same order, length n; `None` if the potential is not ML-PACE.
    pub gamma: Option<Vec<f64>>,
    /// Stress, eV/Å³, in the order xx, yy, zz, yz, xz, xy; positive under tension.
    pub stress: [f64; 6],
}

/// One bar in eV/Å³.
const BAR: f64 = 1e5 / 1.602_176_634e-19 * 1e-30;

/// Evaluates the cut-out with the potential of `script`, and compares the results with those of the parent frame.
///
/// # Errors
/// Errors of LAMMPS, for example if the potential cannot evaluate the cut-out.
///
/// # MPI
/// Not collective. Runs on the calling rank only.
pub fn verify(cut_out: &CutOut, script: &Script) -> Result<Verification, Error> {
    let cluster = &cut_out.cluster;
    let found = evaluate(&cluster.structure, script)?;
    let difference = cut_out.forces.as_ref().map(|parent| {
        let core = cluster.force_mask.iter().zip(parent.iter().zip(&found.forces)).filter(|(mask, _)| **mask == 1.0);
        core.flat_map(|(_, (p, f))| [0, 1, 2].map(|k| (p[k] - f[k]).abs())).fold(0.0, f64::max)
    });
    let core = cluster.force_mask.iter().zip(&found.forces).filter(|(mask, _)| **mask == 1.0);
    let mut verification = Verification {
        gamma_parent: cut_out.gamma.as_ref().map(|g| g[cluster.center]),
        gamma_cluster: found.gamma.map(|g| g[cluster.center]),
        gamma_rounding: None,
        max_force_difference: difference,
        max_force: core.flat_map(|(_, f)| f.map(f64::abs)).fold(0.0, f64::max),
    };
    // Without all neighbours, γ differs for other reasons than rounding.
    if let (false, true, Some(gamma)) = (verification.same_gamma(), cluster.is_complete(), verification.gamma_cluster) {
        verification.gamma_rounding = Some(gamma_rounding(cut_out, gamma, script)?);
    }
    Ok(verification)
}

/// Number of evaluations from which [`gamma_rounding`] estimates the rounding error. An ill-conditioned active set makes γ jump
/// between few values, on the same of which a handful of evaluations can lie.
const SAMPLES: usize = 12;

/// Rounding error of γ of the centre: the range of γ when only the order of the atoms, the orientation of a cubic cell, the
/// origin and the last digit of coordinates change. `gamma` is the value in the unchanged cut-out. A shift to the position of the
/// centre in the parent frame reduces the number of significant digits of relative coordinates as in that frame.
fn gamma_rounding(cut_out: &CutOut, gamma: f64, script: &Script) -> Result<f64, Error> {
    let Cluster { structure, center, .. } = &cut_out.cluster;
    let (n, middle) = (structure.len(), structure.position(*center));
    let (mut least, mut most) = (gamma, gamma);
    for sample in 0..SAMPLES {
        // A cyclic permutation of the axes of a cubic cell, which is a rotation, and the reverse order of atoms.
        let axis = |k: usize| if cut_out.cluster.is_whole() { k } else { (k + sample) % 3 };
        let shift = |k: usize| if sample % 2 == 1 { cut_out.center[axis(k)] - middle[axis(k)] } else { 0.0 };
        // Up to three units in the last place, by multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4).
        let units = |i: usize, k: usize| {
            let hash = ((SAMPLES * (3 * i + k) + sample + 1) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (hash >> 61) as f64 - 3.5
        };
        let mut turned = structure.clone();
        turned.positions = Array2::from_shape_fn((n, 3), |(i, k)| {
            structure.positions[[n - 1 - i, axis(k)]] * (1.0 + units(i, k) * f64::EPSILON) + shift(k)
        });
        turned.types = structure.types.iter().rev().copied().collect();
        turned.cell.origin = [0, 1, 2].map(|k| structure.cell.origin[axis(k)] + shift(k));
        let found = evaluate(&turned, script)?.gamma.map_or(f64::NAN, |g| g[n - 1 - center]);
        (least, most) = (least.min(found), most.max(found));
    }
    Ok(most - least)
}

/// Evaluates `structure` with the potential of `script`. Its types must be those of the set-up.
///
/// # Errors
/// Errors of LAMMPS.
///
/// # MPI
/// Not collective. Runs on the calling rank only.
pub fn evaluate(structure: &Structure, script: &Script) -> Result<Evaluation, Error> {
    let mut lammps = open(structure, script)?;
    let gamma = script.gamma;
    if gamma {
        GammaFix { pair_style: script.pair_style.clone(), interval: 1 }.define(&mut lammps)?;
    }
    lammps.command("thermo_style custom step pe pxx pyy pzz pyz pxz pxy\nrun 0 post no")?;
    let n = structure.len();

    let units = UnitFactors::of(script.units);
    let (order, forces) = (lammps.ids(), lammps.forces());
    let mut sorted = vec![[0.0; 3]; n];
    for (at, id) in order.iter().enumerate() {
        sorted[id as usize - 1] = [0, 1, 2].map(|k| forces[[at, k]] * units.energy);
    }
    let by_id = |values: ArrayView1<'_, f64>| {
        let mut sorted = vec![0.0; n];
        order.iter().zip(values).for_each(|(id, &value)| sorted[id as usize - 1] = value);
        sorted
    };
    let [energy, pressure @ ..] = lammps
        .last_thermos(["PotEng", "Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy"])?
        .map(|value| value.unwrap_or(f64::NAN));
    Ok(Evaluation {
        stress: pressure.map(|p| -p * units.pressure * BAR),
        energy: energy * units.energy,
        forces: sorted,
        gamma: if gamma { Some(by_id(lammps.fix_vector(GAMMA_FIX)?)) } else { None },
    })
}

/// Loads the potential of `script` in a separate instance without atoms, so that errors in its files do not affect a running
/// simulation. While the instance exists, `engine = "opt"` does not read the files again.
///
/// # Errors
/// Errors of LAMMPS, for example for a file that cannot be read.
///
/// # MPI
/// Not collective. Runs on the calling rank only.
pub fn load(script: &Script, elements: &[Element]) -> Result<Lammps, Error> {
    let empty = Structure {
        cell: Cell::orthorhombic([30.0; 3], [true; 3]),
        elements: elements.to_vec(),
        masses: None,
        types: Array1::zeros(0),
        ids: Array1::zeros(0),
        fixed: Vec::new(),
        positions: Array2::zeros((0, 3)),
        velocities: None,
    };
    let mut lammps = open(&empty, script)?;
    lammps.command("run 0 post no")?;
    Ok(lammps)
}

/// Relaxes the atoms of the buffer with the core frozen.
///
/// In a cut-out without vacuum, atoms have new neighbours across the boundary, at distances that do not occur in the frame. A few
/// steps of minimisation (FIRE, Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)) remove the shortest ones. Atoms with mask 1 and
/// atoms within the cutoff of the centre are not moved. An atom that would enter the cutoff of the centre is frozen as well, so
/// that γ of the centre does not change.
///
/// # Errors
/// Errors of LAMMPS; [`Error::Preflight`] if the smallest distance decreases by more than 10 %.
///
/// # MPI
/// Not collective. Runs on the calling rank only.
pub fn relax(cut_out: &mut CutOut, script: &Script) -> Result<(), Error> {
    let cluster = &mut cut_out.cluster;
    let middle = cluster.structure.positions.row(cluster.center).to_owned();
    let in_cutoff = |structure: &Structure, index: usize| {
        (&structure.positions.row(index) - &middle).mapv(|x| x * x).sum().sqrt() <= cluster.cutoff
    };
    let n = cluster.structure.len();
    let mut frozen: Vec<bool> =
        (0..n).map(|i| cluster.force_mask[i] == 1.0 || in_cutoff(&cluster.structure, i)).collect();
    let moved = loop {
        let moved = minimise(&cluster.structure, &frozen, script)?;
        let entered: Vec<usize> = (0..n).filter(|&i| !frozen[i] && in_cutoff(&moved, i)).collect();
        if entered.is_empty() {
            break moved;
        }
        // Terminates, because each iteration freezes at least one more atom.
        entered.into_iter().for_each(|i| frozen[i] = true);
    };
    let closest = |s: &Structure| s.closest_pair().map_or(f64::INFINITY, |pair| pair.distance);
    let (before, after) = (closest(&cluster.structure), closest(&moved));
    // The closest pair may be in the core, where it does not move.
    if after < 0.9 * before {
        return Err(Error::Preflight(format!(
            "relaxing the buffer reduced the smallest distance from {before:.3} Å to {after:.3} Å, where the potential is not \
             reliable: set `relax = false`"
        )));
    }
    cluster.structure = moved;
    cluster.min_distance = after;
    Ok(())
}

/// Minimises the energy with respect to the atoms that are not frozen.
fn minimise(structure: &Structure, frozen: &[bool], script: &Script) -> Result<Structure, Error> {
    let mut lammps = open(structure, script)?;
    let ids: Vec<String> = (1..).zip(frozen).filter(|(_, f)| **f).map(|(id, _): (AtomId, _)| id.to_string()).collect();
    // Several commands, because the length of a line is limited.
    for some in ids.chunks(100) {
        lammps.command(&format!("group core id {}", some.join(" ")))?;
    }
    lammps.command("fix frozen core setforce 0.0 0.0 0.0\nmin_style fire\nminimize 0.0 0.05 200 1000")?;
    let mut moved = structure.clone();
    let positions = lammps.positions();
    for (at, id) in lammps.ids().iter().enumerate() {
        let index = id as usize - 1;
        if !frozen[index] {
            moved.positions.row_mut(index).assign(&positions.row(at));
        }
    }
    Ok(moved)
}

/// Opens a LAMMPS instance on this rank only, with `structure` and the potential of `script`.
fn open(structure: &Structure, script: &Script) -> Result<Lammps, Error> {
    let mut lammps = Lammps::open(&["-screen", "none", "-log", "none", "-nocite"], &Comm::single())?;
    lammps.require_pair_style(&script.pair_style, &[]).or_else(|e| {
        // Without γ the style may have arguments; then the command `pair_style` reports errors.
        if script.gamma { Err(e) } else { Ok(()) }
    })?;
    let [a, b, c] = structure.cell.vectors;
    if [a[1], a[2], b[2]].iter().any(|part| part.abs() > 1e-10) {
        return Err(Error::Preflight(format!(
            "the cell {:?} (Å) must be rotated: LAMMPS requires the first vector along x and the second in the xy plane",
            structure.cell.vectors
        )));
    }
    let [x, y, z] = structure.cell.origin;
    let pbc = structure.cell.pbc.map(|p| if p { "p" } else { "f" }).join(" ");
    // A prism only for a triclinic cell.
    let region = if [b[0], c[0], c[1]] == [0.0; 3] {
        format!("block {x} {} {y} {} {z} {}", x + a[0], y + b[1], z + c[2])
    } else {
        format!("prism {x} {} {y} {} {z} {} {} {} {}", x + a[0], y + b[1], z + c[2], b[0], c[0], c[1])
    };
    let mut commands = format!(
        "units {}\natom_style atomic\nnewton on\nboundary {pbc}\nbox tilt large\nregion cell {region} units box\n\
         create_box {} cell\n",
        script.units.name(),
        structure.elements.len()
    );
    for (ty, mass) in (1..).zip(structure.type_masses()) {
        commands += &format!("mass {ty} {mass}\n");
    }
    commands += &format!("pair_style {}\n", script.pair_style);
    for line in &script.pair_coeff {
        commands += &format!("pair_coeff {line}\n");
    }
    lammps.command(&commands)?;

    let n = structure.len();
    // New ids, because periodic images of an atom in a cut-out have the same source id.
    let ids: Vec<AtomId> = (1..=n as AtomId).collect();
    let positions: Vec<f64> = structure.positions.iter().copied().collect();
    let image = lammps.image_packing().pack([0; 3]);
    lammps.create_atoms(&ids, &structure.types.to_vec(), &positions, &vec![0.0; 3 * n], &vec![image; n])?;
    // LAMMPS drops atoms outside the box without an error.
    if lammps.local_atoms() != n {
        return Err(Error::Preflight(format!(
            "LAMMPS placed only {} of {n} atoms in the box of the cut-out",
            lammps.local_atoms()
        )));
    }
    Ok(lammps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_is_compared_with_the_measured_rounding_error() {
        let found = |here: f64, rounding: Option<f64>| {
            let (gamma_parent, gamma_cluster) = (Some(5.0), Some(here));
            Verification { gamma_parent, gamma_cluster, gamma_rounding: rounding, ..Verification::default() }
        };
        assert!(found(5.0 + 4e-8, None).same_gamma() && !found(5.0 + 6e-8, None).same_gamma());
        assert!(found(5.001, Some(1e-4)).same_gamma() && !found(5.001, Some(1e-5)).same_gamma());
        assert!(!found(5.001, Some(0.0)).same_gamma() && !found(f64::NAN, Some(1.0)).same_gamma());
        assert!(Verification { gamma_parent: Some(5.0), ..Verification::default() }.same_gamma());
    }

    #[test]
    fn forces_are_compared_relative_to_their_magnitude() {
        let found = |max_force, difference| Verification {
            max_force,
            max_force_difference: Some(difference),
            ..Verification::default()
        };
        assert!(found(0.1, 1e-9).same_forces() && !found(0.1, 2e-8).same_forces());
        assert!(found(1e4, 2e-8).same_forces() && !found(1e4, f64::NAN).same_forces());
        assert!(Verification::default().same_forces());
    }
}
