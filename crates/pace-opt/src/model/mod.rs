// SPDX-License-Identifier: GPL-2.0-or-later
//! The contents of a potential file, before compilation.

pub(crate) mod coupling;
pub(crate) mod embedding;
pub(crate) mod radial;

use crate::error::{Error, Result, limit};
pub use embedding::{Embedding, EmbeddingKind};
pub use radial::{Bond, PairPotential, Polynomials, RadialBasis};

/// Largest number of chemical elements.
pub(crate) const MAX_ELEMENTS: usize = 32;
/// Largest angular momentum of a one-particle function.
pub(crate) const MAX_L: usize = 16;
/// Largest radial index of any kind.
pub(crate) const MAX_N: usize = 64;
/// Largest number of densities in an embedding.
pub(crate) const MAX_DENSITIES: usize = 16;
/// Largest number of neighbours correlated in one function.
pub(crate) const MAX_RANK: usize = 8;
/// Largest number of basis functions of one element.
pub(crate) const MAX_FUNCTIONS: usize = 1_000_000;
/// Largest number of bins of a spline table.
pub(crate) const MAX_BINS: usize = 200_000;

/// Treatment of atoms at short distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerCutoff {
    /// The sum of the pair repulsion switches off the many-body energy.
    Density,
    /// Each pair is switched from repulsion to many-body between `r_in - delta_in` and `r_in`.
    Distance,
    /// Ziegler–Biersack–Littmark repulsion, switched by the distance of the nearest neighbour.
    Zbl,
}

impl InnerCutoff {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "density" => Ok(Self::Density),
            "distance" => Ok(Self::Distance),
            "zbl" => Ok(Self::Zbl),
            other => Err(Error::bad(format!("inner_cutoff_type `{other}` is none of density, distance, zbl"))),
        }
    }
}

/// One basis function: a product of `rank` one-particle functions, summed over magnetic quantum numbers.
#[derive(Clone, Debug)]
pub struct BasisFunction {
    /// Element of each neighbour.
    pub mus: Vec<u8>,
    /// Radial index of each neighbour, from 0.
    pub ns: Vec<u8>,
    /// Angular momentum of each neighbour.
    pub ls: Vec<u8>,
    /// Magnetic quantum numbers, `rank` of them per term.
    pub ms: Vec<i8>,
    /// Generalised Clebsch–Gordan coefficient of each term; empty for a c-tilde basis.
    pub cg: Vec<f64>,
    /// Expansion coefficient of each term and density, `[term][density]`.
    pub coef: Vec<f64>,
}

impl BasisFunction {
    /// Number of neighbours in the product.
    pub fn rank(&self) -> usize {
        self.ns.len()
    }
}

/// The contents of a potential file.
#[derive(Clone, Debug)]
pub struct Model {
    /// Chemical symbols; their order defines the element indices.
    pub elements: Vec<String>,
    /// Energy of the isolated atom in eV, per element.
    pub e0: Vec<f64>,
    /// Width of a spline bin in Å.
    pub delta_spline: f64,
    /// Treatment of atoms at short distances.
    pub inner: InnerCutoff,
    /// Embedding function, per element.
    pub embeddings: Vec<Embedding>,
    /// Radial functions and cutoffs, per ordered pair, `[i * elements + j]`.
    pub bonds: Vec<Bond>,
    /// Basis functions per element, those with one neighbour first, in the order of the active set.
    pub functions: Vec<Vec<BasisFunction>>,
    /// Whether the functions are a B-basis, for which the extrapolation grade is defined.
    pub is_b_basis: bool,
}

impl Model {
    /// Largest cutoff of any pair in Å.
    pub fn cutoff(&self) -> f64 {
        self.bonds.iter().map(|b| b.rcut).fold(0.0, f64::max)
    }

    /// The bond from an atom of element `i` to a neighbour of element `j`.
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn bond(&self, i: usize, j: usize) -> &Bond {
        &self.bonds[i * self.elements.len() + j]
    }

    /// Largest numbers of radial functions of any bond: for one neighbour and for more.
    pub(crate) fn nrad(&self) -> (usize, usize) {
        let base = self.bonds.iter().map(|b| b.nradbase).max().unwrap_or(0);
        let many = self.bonds.iter().map(|b| b.nradmax).max().unwrap_or(0);
        (base, many)
    }

    /// Checks the requirements of all formats, on which compilation relies.
    pub(crate) fn validate(&self) -> Result<()> {
        let ne = self.elements.len();
        if ne == 0 {
            return Err(Error::bad("no elements"));
        }
        limit("number of elements", ne, MAX_ELEMENTS)?;
        if self.e0.len() != ne || self.embeddings.len() != ne || self.functions.len() != ne {
            return Err(Error::bad("E0, embeddings and functions must be given for each element"));
        }
        if self.bonds.len() != ne * ne {
            return Err(Error::bad("bonds must be given for each pair of elements"));
        }
        if !(self.delta_spline.is_finite() && self.delta_spline > 0.0) {
            return Err(Error::bad(format!("deltaSplineBins must be positive, it is {}", self.delta_spline)));
        }
        if let Some(e) = self.e0.iter().find(|e| !e.is_finite()) {
            return Err(Error::bad(format!("E0 = {e}")));
        }
        for (i, e) in self.embeddings.iter().enumerate() {
            e.validate().map_err(|m| Error::bad(format!("embedding of {}: {m}", self.elements[i])))?;
        }
        for b in &self.bonds {
            b.validate(self.delta_spline)?;
        }
        let (nradbase, nradmax) = self.nrad();
        let lmax = self.bonds.iter().map(|b| b.lmax).max().unwrap_or(0);
        for (i, list) in self.functions.iter().enumerate() {
            limit("number of basis functions", list.len(), MAX_FUNCTIONS)?;
            // A truncated file can be valid YAML.
            if list.is_empty() {
                return Err(Error::bad(format!(
                    "it has no basis functions for {}; is the file incomplete?",
                    self.elements[i]
                )));
            }
            let nd = self.embeddings[i].ndensity;
            let mut seen_many = false;
            for f in list {
                let rank = f.rank();
                let terms = f.ms.len().checked_div(rank).unwrap_or(0);
                if rank == 0 || f.mus.len() != rank || f.ls.len() != rank {
                    return Err(Error::bad("a basis function's species, ns and ls differ in length"));
                }
                limit("rank of a basis function", rank, MAX_RANK)?;
                if f.ms.len() != terms * rank || f.coef.len() != terms * nd {
                    return Err(Error::bad("a basis function's coefficients do not fit its ms_combs and densities"));
                }
                if self.is_b_basis && f.cg.len() != terms {
                    return Err(Error::bad("a basis function has no coupling coefficients"));
                }
                if rank == 1 {
                    if seen_many {
                        return Err(Error::bad("functions of one neighbour must come first"));
                    }
                    if f.ls[0] != 0 || f.ms.iter().any(|&m| m != 0) || terms != 1 {
                        return Err(Error::bad("a function of one neighbour must have l = 0 and one term"));
                    }
                } else {
                    seen_many = true;
                }
                let nmax = if rank == 1 { nradbase } else { nradmax };
                for t in 0..rank {
                    if f.mus[t] as usize >= ne || f.ns[t] as usize >= nmax || f.ls[t] as usize > lmax {
                        return Err(Error::bad(format!(
                            "a basis function of {} uses species {}, n = {}, l = {}, which no bond defines",
                            self.elements[i],
                            f.mus[t],
                            f.ns[t] as usize + 1,
                            f.ls[t]
                        )));
                    }
                }
                for term in f.ms.chunks_exact(rank) {
                    if term.iter().zip(&f.ls).any(|(&m, &l)| m.unsigned_abs() > l) {
                        return Err(Error::bad("a basis function has |m| > l"));
                    }
                }
                if f.coef.iter().chain(&f.cg).any(|c| !c.is_finite()) {
                    return Err(Error::bad("a basis function has a coefficient that is not finite"));
                }
            }
        }
        Ok(())
    }
}
