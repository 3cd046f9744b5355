// SPDX-License-Identifier: GPL-2.0-or-later
//! A cut-out, judged by the potential that it was cut for.
//!
//! The same potential is evaluated once on the cut-out, by a second LAMMPS instance on one rank, and compared with the
//! frame that it comes from. What must agree follows from how far things reach, for a potential with cutoff r_c:
//!
//! - γ and the energy of an atom depend on its neighbours within r_c. A buffer of r_c keeps these in the whole core, which is
//!   checked atom by atom, and with them γ and energy, to rounding. Rounding can be large in γ: it is multiplied by the
//!   condition of the active set, which is up to 1e20. How large is measured on the cut-out itself, turned and renumbered.
//! - The force on an atom is the derivative of its own energy and of those of its neighbours, which reach as far again.
//!   Only a buffer of 2 r_c keeps the forces of a many-body potential to rounding; with r_c they differ by what the
//!   outer half of the buffer, which sees the new boundary, adds. That difference is stored as `max_force_difference`:
//!   a label computed for the cut-out belongs to the cut-out and is right for it, and the number tells how
//!   representative it is of the frame.

use ndarray::{Array1, Array2, ArrayView1};

use crate::comm::Comm;
use crate::embedding::{Cluster, CutOut};
use crate::lammps::{Error, Lammps};
use crate::script::{GAMMA_FIX, Script, UnitFactors};
use crate::structure::{Cell, Element, Structure, Vec3};

/// What the potential says of a cut-out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Verification {
    /// γ of the centre in the frame that it was cut from.
    pub gamma_parent: Option<f64>,
    /// γ of the centre in the cut-out.
    pub gamma_cluster: Option<f64>,
    /// What rounding alone changes in the γ of the centre. Measured where the two above differ by more than [`SAME`],
    /// relative; `None` elsewhere.
    pub gamma_rounding: Option<f64>,
    /// The largest difference of a force component between the two, over the atoms with mask 1, eV/Å.
    pub max_force_difference: Option<f64>,
    /// The largest force component on an atom with mask 1 in the cut-out, eV/Å.
    pub max_force: f64,
}

/// Relative difference of numbers that are the same but for the order of additions, where nothing multiplies rounding.
pub const SAME: f64 = 1e-8;

/// How much larger a difference may be than what a few samples of rounding show.
const MARGIN: f64 = 30.0;

impl Verification {
    /// Whether γ of the centre is the same in the frame and in the cut-out, to rounding; also where one is not known. NaN
    /// on either side is a difference.
    #[must_use]
    pub fn same_gamma(&self) -> bool {
        let (Some(parent), Some(here)) = (self.gamma_parent, self.gamma_cluster) else { return true };
        (parent - here).abs() <= (SAME * parent.abs()).max(MARGIN * self.gamma_rounding.unwrap_or(0.0))
    }

    /// Whether the forces of the core are the same in the frame and in the cut-out, to rounding; also where they are not
    /// known.
    #[must_use]
    pub fn same_forces(&self) -> bool {
        self.max_force_difference.is_none_or(|difference| difference <= SAME * self.max_force.max(1.0))
    }
}

/// Energy, forces and γ of a small periodic structure.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Potential energy, eV.
    pub energy: f64,
    /// Forces in the order of the structure's atoms, eV/Å; length n.
    pub forces: Vec<Vec3>,
    /// γ in the same order; `None` without ML-PACE.
    pub gamma: Option<Vec<f64>>,
    /// Stress, eV/Å³, in the order xx, yy, zz, yz, xz, xy; positive under tension.
    pub stress: [f64; 6],
}

/// eV/Å³ in one bar.
const BAR: f64 = 1e5 / 1.602_176_634e-19 * 1e-30;

/// Evaluates the cut-out with the potential of `script` and compares with what the parent frame says.
///
/// # Errors
/// What LAMMPS says, e.g. of a potential that does not take the cut-out.
///
/// # MPI
/// Not collective: one rank by itself.
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
    // In a cut-out that does not hold all neighbours γ is another one.
    if let (false, true, Some(gamma)) = (verification.same_gamma(), cluster.is_complete(), verification.gamma_cluster) {
        verification.gamma_rounding = Some(gamma_rounding(cut_out, gamma, script)?);
    }
    Ok(verification)
}

/// How far γ of the centre, `gamma` in the cut-out as it is, moves when nothing changes but the order of the atoms, the
/// orientation of the cubic cell, and how many digits coordinates have left where the centre is in the parent.
fn gamma_rounding(cut_out: &CutOut, gamma: f64, script: &Script) -> Result<f64, Error> {
    let Cluster { structure, center, .. } = &cut_out.cluster;
    let (n, middle) = (structure.len(), structure.position(*center));
    let (mut least, mut most) = (gamma, gamma);
    for (turn, here) in [(1, false), (2, true), (0, true), (1, true)] {
        // The axes in another order, which is a rotation, and the last atom first.
        let axis = |k: usize| (k + turn) % 3;
        let shift = |k: usize| if here { cut_out.center[axis(k)] - middle[axis(k)] } else { 0.0 };
        let mut turned = structure.clone();
        turned.positions = Array2::from_shape_fn((n, 3), |(i, k)| structure.positions[[n - 1 - i, axis(k)]] + shift(k));
        turned.types = structure.types.iter().rev().copied().collect();
        turned.cell.origin = [0, 1, 2].map(|k| structure.cell.origin[axis(k)] + shift(k));
        let found = evaluate(&turned, script)?.gamma.map_or(f64::NAN, |g| g[n - 1 - center]);
        (least, most) = (least.min(found), most.max(found));
    }
    Ok(most - least)
}

/// One evaluation of `structure`, whose types are those of the set-up that `script` describes.
///
/// # Errors
/// What LAMMPS says.
///
/// # MPI
/// Not collective: one rank by itself.
pub fn evaluate(structure: &Structure, script: &Script) -> Result<Evaluation, Error> {
    let mut lammps = open(structure, script)?;
    let gamma = script.gamma;
    if gamma {
        lammps.command(&format!("fix {GAMMA_FIX} all pair 1 {} gamma 1", script.pair_style))?;
    }
    lammps.command("thermo_style custom step pe pxx pyy pzz pyz pxz pxy\nrun 0 post no")?;
    let n = structure.len();

    let units = UnitFactors::of(script.units);
    let (order, forces) = (lammps.ids(), lammps.forces());
    let mut sorted = vec![[0.0; 3]; n];
    for (at, &id) in order.iter().enumerate() {
        sorted[id as usize - 1] = [0, 1, 2].map(|k| forces[[at, k]] * units.energy);
    }
    let by_id = |values: ArrayView1<'_, f64>| {
        let mut sorted = vec![0.0; n];
        order.iter().zip(values).for_each(|(&id, &value)| sorted[id as usize - 1] = value);
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

/// Loads the potential of `script` in an instance of its own, without atoms: what is wrong with its files is found there
/// instead of in a running simulation. `engine = "opt"` does not read them again as long as the instance lives.
///
/// # Errors
/// What LAMMPS says of the files.
///
/// # MPI
/// Not collective: one rank by itself.
pub fn load(script: &Script, elements: &[Element]) -> Result<Lammps, Error> {
    let nothing = Structure {
        cell: Cell::orthorhombic([30.0; 3], [true; 3]),
        elements: elements.to_vec(),
        masses: None,
        types: Array1::zeros(0),
        ids: Array1::zeros(0),
        fixed: Vec::new(),
        positions: Array2::zeros((0, 3)),
        velocities: None,
    };
    let mut lammps = open(&nothing, script)?;
    lammps.command("run 0 post no")?;
    Ok(lammps)
}

/// Moves the atoms of the buffer to where the potential wants them, with the core frozen.
///
/// A cut-out without vacuum has new neighbours across its boundary, at distances that no frame had; a few steps of
/// minimisation (FIRE, Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)) take the worst of it away. Atoms with mask 1,
/// and every atom that the centre sees, stay where they are to the last bit, and an atom that would come in sight of the
/// centre is frozen too, so that γ of the centre stays what it was.
///
/// # Errors
/// What LAMMPS says; [`Error::Preflight`] if the relaxed atoms are nearer to each other than before.
///
/// # MPI
/// Not collective: one rank by itself.
pub fn relax(cut_out: &mut CutOut, script: &Script) -> Result<(), Error> {
    let cluster = &mut cut_out.cluster;
    let middle = cluster.structure.positions.row(cluster.center).to_owned();
    let seen = |structure: &Structure, index: usize| {
        (&structure.positions.row(index) - &middle).mapv(|x| x * x).sum().sqrt() <= cluster.cutoff
    };
    let n = cluster.structure.len();
    let mut frozen: Vec<bool> = (0..n).map(|i| cluster.force_mask[i] == 1.0 || seen(&cluster.structure, i)).collect();
    let moved = loop {
        let moved = minimise(&cluster.structure, &frozen, script)?;
        let entered: Vec<usize> = (0..n).filter(|&i| !frozen[i] && seen(&moved, i)).collect();
        if entered.is_empty() {
            break moved;
        }
        // Each round freezes at least one more atom, so that this ends.
        entered.into_iter().for_each(|i| frozen[i] = true);
    };
    let closest = |s: &Structure| s.closest_pair().map_or(f64::INFINITY, |pair| pair.distance);
    let (before, after) = (closest(&cluster.structure), closest(&moved));
    // The closest pair may be in the core, where nothing moves.
    if after < 0.9 * before {
        return Err(Error::Preflight(format!(
            "relaxing the buffer brought two atoms to {after:.3} Å, where {before:.3} Å was the smallest distance: the \
             potential is not to be trusted there; set relax = false"
        )));
    }
    cluster.structure = moved;
    cluster.min_distance = after;
    Ok(())
}

/// The structure with the atoms that are not frozen moved downhill.
fn minimise(structure: &Structure, frozen: &[bool], script: &Script) -> Result<Structure, Error> {
    let mut lammps = open(structure, script)?;
    let ids: Vec<String> = (1..).zip(frozen).filter(|(_, f)| **f).map(|(id, _): (i32, _)| id.to_string()).collect();
    // A few atoms at a time keep the lines short.
    for some in ids.chunks(100) {
        lammps.command(&format!("group core id {}", some.join(" ")))?;
    }
    lammps.command("fix frozen core setforce 0.0 0.0 0.0\nmin_style fire\nminimize 0.0 0.05 200 1000")?;
    let mut moved = structure.clone();
    let positions = lammps.positions();
    for (at, &id) in lammps.ids().iter().enumerate() {
        let index = id as usize - 1;
        if !frozen[index] {
            moved.positions.row_mut(index).assign(&positions.row(at));
        }
    }
    Ok(moved)
}

/// A LAMMPS instance on this rank alone, with `structure` in it and the potential of `script`.
fn open(structure: &Structure, script: &Script) -> Result<Lammps, Error> {
    let mut lammps = Lammps::open(&["-screen", "none", "-log", "none", "-nocite"], &Comm::single())?;
    lammps.require_pair_style(&script.pair_style, &[]).or_else(|e| {
        // A style with arguments: pair_style itself will say.
        if script.gamma { Err(e) } else { Ok(()) }
    })?;
    let [a, b, c] = structure.cell.vectors;
    if [a[1], a[2], b[2]].iter().any(|part| part.abs() > 1e-10) {
        return Err(Error::Preflight(format!(
            "the cell {:?} (Å) is turned: LAMMPS takes a first vector along x and a second one in the xy plane",
            structure.cell.vectors
        )));
    }
    let [x, y, z] = structure.cell.origin;
    let pbc = structure.cell.pbc.map(|p| if p { "p" } else { "f" }).join(" ");
    // A prism only where the cell is tilted: LAMMPS takes a box with corners on the axes as it is.
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
    // Numbered anew: a periodic image in a cut-out has the id of its parent.
    let ids: Vec<i32> = (1..=n as i32).collect();
    let positions: Vec<f64> = structure.positions.iter().copied().collect();
    let image = 512 | (512 << 10) | (512 << 20);
    lammps.create_atoms(&ids, &structure.types.to_vec(), &positions, &vec![0.0; 3 * n], &vec![image; n])?;
    // Refuses what would be lost without a word.
    if lammps.local_atoms() != n {
        return Err(Error::Preflight(format!(
            "{} of {n} atoms of the cut-out found a place in its box",
            lammps.local_atoms()
        )));
    }
    Ok(lammps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_is_judged_by_the_rounding_that_was_measured() {
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
    fn forces_are_compared_with_their_own_size() {
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
