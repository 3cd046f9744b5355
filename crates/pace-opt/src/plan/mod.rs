// SPDX-License-Identifier: GPL-2.0-or-later
//! A potential compiled for evaluation: spline tables, product graphs and memory layout.

pub(crate) mod graph;
mod inverse;
pub(crate) mod table;

use crate::error::{Error, Result};
use crate::model::{Embedding, InnerCutoff, Model, radial};
use crate::simd::OCT;
use graph::{Builder, Graph};
use table::Table;

/// Largest size of all tables of a potential, in bytes.
const MAX_TABLES: usize = 1 << 30;

/// The recursion of the associated Legendre functions, divided by sin(θ)^m and scaled such that the coefficient of z^(l-m)
/// is one: `P(l, m) = z P(l-1, m) + b(l, m) P(l-2, m)` with `P(m, m) = 1`.
#[derive(Debug)]
pub(crate) struct Legendre {
    /// b, `[l * ld + m]`; the length is `ld * ld`.
    b: Vec<f64>,
    /// lmax + 1.
    ld: usize,
}

impl Legendre {
    fn new(lmax: usize) -> Self {
        let ld = lmax + 1;
        let mut b = vec![0.0; ld * ld];
        for l in 2..ld {
            for m in 0..l {
                let (below, mf) = (((l - 1) * (l - 1)) as f64, (m * m) as f64);
                b[l * ld + m] = -(below - mf).max(0.0) / (4.0 * below - 1.0);
            }
        }
        Legendre { b, ld }
    }

    /// The coefficients, `[l * ld() + m]`, of length `ld()²`.
    pub(crate) fn b(&self) -> &[f64] {
        &self.b
    }

    /// Number of angular momenta, lmax + 1.
    pub(crate) fn ld(&self) -> usize {
        self.ld
    }

    /// Factor from a function of the recursion to the spherical harmonic, normalised such that Y₀₀ = 1.
    fn norm(l: usize, m: usize) -> f64 {
        let first: f64 = (1..=m).map(|k| -(1.0 + 0.5 / k as f64).sqrt()).product();
        let factor = |k: usize| ((4 * k * k - 1) as f64 / (k * k - m * m) as f64).sqrt();
        first * (m + 1..=l).map(factor).product::<f64>()
    }
}

/// Radial functions of one angular momentum in one segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shell {
    /// Radial indices in use.
    pub ns: Vec<u8>,
    /// Column of the first.
    pub column: usize,
    /// Index of the first component in `Segment::dest`.
    pub dest: usize,
}

/// Source of the sums of the radial basis functions over neighbours, which projections require.
#[derive(Debug)]
pub(crate) enum BaseSums {
    /// Not required.
    None,
    /// From the sums of the first columns of the table, multiplied by this matrix, `[column][function]`.
    Columns(Vec<f64>),
    /// From a separate table.
    Table(Table),
}

impl BaseSums {
    /// The separate table, if any.
    pub(crate) fn table(&self) -> Option<&Table> {
        match self {
            BaseSums::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// Contribution of the neighbours of one element to an atom.
#[derive(Debug)]
pub(crate) struct Segment {
    /// One per angular momentum in use, from 0; empty if only densities and repulsion remain.
    pub shells: Vec<Shell>,
    /// First column of the functions of one neighbour, contracted to densities.
    pub rho_column: usize,
    /// Column of the repulsion.
    pub core_column: usize,
    /// Index of each component in the node array, in vectors: per shell `[component][n]`.
    pub dest: Vec<u32>,
    /// In the same order, the norm of the spherical harmonic.
    pub norm: Vec<f64>,
    /// Values and slopes of all columns; `None` if the pair does not interact.
    pub table: Option<Table>,
    /// Source of the sums of the radial basis functions, for projections.
    pub base_sums: BaseSums,
    /// Cutoff in Å.
    pub rcut: f64,
    /// Inner cutoff in Å.
    pub r_in: f64,
    /// Width of the inner cutoff in Å.
    pub delta_in: f64,
}

/// The compiled potential for atoms of one element, of which every index is in range.
///
/// The kernels use columns and node indices unchecked. [`SpeciesPlan::check`] checks them once, in the only constructor;
/// afterwards there is shared access only.
#[derive(Debug)]
pub(crate) struct SpeciesPlan {
    segments: Vec<Segment>,
    cutoffs: Vec<Option<f64>>,
    graph: Graph,
    embedding: Embedding,
    e0: f64,
    functions: usize,
    single: Vec<(u8, u8)>,
    covalent: Vec<f64>,
}

/// A compiled potential.
#[derive(Debug)]
pub(crate) struct Plan {
    pub species: Vec<SpeciesPlan>,
    pub inner: InnerCutoff,
    pub legendre: Legendre,
    /// Largest cutoff of any pair.
    pub cutoff: f64,
    /// Bytes of all tables.
    pub table_bytes: usize,
}

impl Plan {
    /// Compiles a model; with `projections`, including what the extrapolation grade requires.
    ///
    /// # Errors
    /// If the tables would be too large, or an element with ZBL repulsion has no atomic number.
    pub(crate) fn new(model: &Model, projections: bool) -> Result<Self> {
        let ne = model.elements.len();
        let species: Vec<SpeciesPlan> =
            (0..ne).map(|i| SpeciesPlan::new(model, i, projections)).collect::<Result<_>>()?;
        let lmax = species.iter().flat_map(|s| &s.segments).map(|s| s.shells.len()).max().unwrap_or(0);
        let tables = species.iter().flat_map(|s| &s.segments).flat_map(|s| [s.table.as_ref(), s.base_sums.table()]);
        Ok(Plan {
            inner: model.inner,
            legendre: Legendre::new(lmax.saturating_sub(1)),
            cutoff: model.cutoff(),
            table_bytes: tables.flatten().map(Table::size).sum(),
            species,
        })
    }
}

impl SpeciesPlan {
    fn new(model: &Model, i: usize, projections: bool) -> Result<Self> {
        let ne = model.elements.len();
        let nd = model.embeddings[i].ndensity;
        let functions = &model.functions[i];
        // Radial functions in use, `[neighbour element][angular momentum]`.
        let mut used: Vec<Vec<Vec<u8>>> = vec![Vec::new(); ne];
        for f in functions.iter().filter(|f| f.rank() > 1) {
            if !projections && f.coef.iter().all(|&c| c == 0.0) {
                continue;
            }
            for t in 0..f.rank() {
                let by_l = &mut used[f.mus[t] as usize];
                let l = f.ls[t] as usize;
                if by_l.len() <= l {
                    by_l.resize(l + 1, Vec::new());
                }
                if !by_l[l].contains(&f.ns[t]) {
                    by_l[l].push(f.ns[t]);
                }
            }
        }
        // The atomic base: nodes by (element, l, n, m).
        let mut real = Vec::new();
        let mut node_of: Vec<Vec<Vec<(u8, u32)>>> = Vec::new();
        let mut segments = Vec::new();
        for (j, mut by_l) in used.into_iter().enumerate() {
            let mut segment = Segment::new(model, i, j);
            let mut nodes = Vec::new();
            let mut column = 0;
            for (l, ns) in by_l.iter_mut().enumerate() {
                ns.sort_unstable();
                let first = real.len() as u32;
                nodes.push(ns.iter().enumerate().map(|(k, &n)| (n, first + (k * (l + 1)) as u32)).collect());
                for _ in ns.iter() {
                    real.push(true);
                    real.extend(std::iter::repeat_n(false, l));
                }
                let dest = segment.dest.len();
                for c in 0..2 * l + 1 {
                    // Components: real m = 0, then real and imaginary part of m = 1, ...
                    let (m, imaginary) = (c.div_ceil(2), c > 0 && c % 2 == 0);
                    for k in 0..ns.len() {
                        segment.dest.push(2 * (first + (k * (l + 1) + m) as u32) + u32::from(imaginary));
                        segment.norm.push(Legendre::norm(l, m));
                    }
                }
                segment.shells.push(Shell { ns: ns.clone(), column, dest });
                column += ns.len();
            }
            segment.rho_column = column;
            segment.core_column = column + nd;
            node_of.push(nodes);
            segments.push(segment);
        }
        let mut builder = Builder::new(real, nd);
        for (k, f) in functions.iter().enumerate().filter(|(_, f)| f.rank() > 1) {
            let rank = f.rank();
            if !projections && f.coef.iter().all(|&c| c == 0.0) {
                continue;
            }
            let starts: Vec<u32> = (0..rank)
                .map(|t| {
                    let list: &Vec<(u8, u32)> = &node_of[f.mus[t] as usize][f.ls[t] as usize];
                    list.iter().find(|e| e.0 == f.ns[t]).map_or(0, |e| e.1)
                })
                .collect();
            for (term, ms) in f.ms.chunks_exact(rank).enumerate() {
                // A with -m is (-1)^m times the conjugate of A with m.
                let mut sign = 1.0;
                let factors: Vec<u32> = ms
                    .iter()
                    .zip(&starts)
                    .map(|(&m, s)| {
                        if m < 0 && m % 2 != 0 {
                            sign = -sign;
                        }
                        2 * (s + u32::from(m.unsigned_abs())) + u32::from(m < 0)
                    })
                    .collect();
                let share = projections.then(|| (k as u32, sign * f.cg[term]));
                builder.add(&factors, f.coef[term * nd..(term + 1) * nd].iter().map(|c| sign * c), share);
            }
        }
        let single: Vec<(u8, u8)> =
            functions.iter().take_while(|f| f.rank() == 1).map(|f| (f.mus[0], f.ns[0])).collect();
        let mut memory = 0usize;
        for (j, segment) in segments.iter_mut().enumerate() {
            segment.tabulate(model, i, j, projections, &mut memory)?;
        }
        let plan = SpeciesPlan {
            cutoffs: segments.iter().map(|s| s.table.as_ref().map(|_| s.rcut)).collect(),
            segments,
            graph: builder.build(functions.len()),
            embedding: model.embeddings[i].clone(),
            e0: model.e0[i],
            functions: functions.len(),
            single,
            covalent: (0..ne).map(|j| covalent_sum(model, i, j)).collect(),
        };
        plan.check().unwrap_or_else(|e| panic!("the compiled potential is inconsistent: {e}"));
        Ok(plan)
    }

    /// Checks every index that the kernels trust, besides those of the graph.
    ///
    /// # Errors
    /// A description of the first index that is out of range.
    fn check(&self) -> Result<(), String> {
        let nd = self.embedding.ndensity;
        if self.graph.densities() != nd || self.graph.functions() != self.functions {
            return Err(format!(
                "the graph has {} densities and {} functions, not {nd} and {}",
                self.graph.densities(),
                self.graph.functions(),
                self.functions
            ));
        }
        for (j, s) in self.segments.iter().enumerate() {
            let error = |message: String| Err(format!("segment {j}: {message}"));
            if s.norm.len() != s.dest.len() {
                return error(format!("{} norms for {} components", s.norm.len(), s.dest.len()));
            }
            if let Some(d) = s.dest.iter().find(|&&d| d as usize >= 2 * self.graph.base()) {
                return error(format!("vector {d} of {} base nodes", self.graph.base()));
            }
            for (l, shell) in s.shells.iter().enumerate() {
                let end = shell.dest + (2 * l + 1) * shell.ns.len();
                if end > s.dest.len() || shell.column + shell.ns.len() > s.rho_column {
                    return error(format!(
                        "shell {l} ends at component {end}, column {}",
                        shell.column + shell.ns.len()
                    ));
                }
            }
            let ncol = s.table.as_ref().map_or(usize::MAX, Table::ncol);
            if s.rho_column + nd > s.core_column || s.core_column >= ncol {
                return error(format!("columns {} and {} of {ncol}", s.rho_column, s.core_column));
            }
            if let Some(base) = s.base_sums.table()
                && (s.table.as_ref().map(Table::bins) != Some(base.bins()) || !base.ncol().is_multiple_of(OCT))
            {
                return error("the table of the radial basis functions has another shape".into());
            }
        }
        Ok(())
    }

    /// Contributions of the neighbours, by element.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Cutoff in Å by element of the neighbour; `None` if the pair does not interact.
    pub(crate) fn cutoffs(&self) -> &[Option<f64>] {
        &self.cutoffs
    }

    /// The products. Its densities and functions are those of this plan.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// Energy of an isolated atom in eV.
    pub(crate) fn e0(&self) -> f64 {
        self.e0
    }

    /// Number of basis functions.
    pub(crate) fn functions(&self) -> usize {
        self.functions
    }

    /// For each function of one neighbour: the neighbour's element and the radial index.
    pub(crate) fn single(&self) -> &[(u8, u8)] {
        &self.single
    }

    /// By element of the neighbour, the sum of the covalent radii in Å; zero if one is not known.
    pub(crate) fn covalent(&self) -> &[f64] {
        &self.covalent
    }
}

fn covalent_sum(model: &Model, i: usize, j: usize) -> f64 {
    let radius = |k: usize| radial::covalent_radius(&model.elements[k]);
    radius(i).zip(radius(j)).map_or(0.0, |(a, b)| a + b)
}

impl Segment {
    fn new(model: &Model, i: usize, j: usize) -> Self {
        let b = model.bond(i, j);
        Segment {
            shells: Vec::new(),
            rho_column: 0,
            core_column: 0,
            dest: Vec::new(),
            norm: Vec::new(),
            table: None,
            base_sums: BaseSums::None,
            rcut: b.rcut,
            r_in: b.r_in,
            delta_in: b.delta_in,
        }
    }

    /// Fills the tables of neighbours of element `j` around an atom of element `i`.
    fn tabulate(&mut self, model: &Model, i: usize, j: usize, projections: bool, memory: &mut usize) -> Result<()> {
        let bond = model.bond(i, j);
        let nd = model.embeddings[i].ndensity;
        let (nradbase, _) = model.nrad();
        let delta = model.delta_spline;
        if bond.rcut < delta {
            return Ok(());
        }
        let columns = self.core_column + 1;
        let mut weights: Vec<Vec<f64>> = Vec::new();
        for (l, shell) in self.shells.iter().enumerate() {
            for &n in &shell.ns {
                weights.push((0..nradbase).map(|k| bond.crad(n as usize, l, k)).collect());
            }
        }
        let from_columns = if projections { inverse::left_inverse(&weights, nradbase) } else { None };
        *memory += Table::bytes(columns, bond.rcut, delta);
        // The sums of the basis functions are computed in whole octs.
        let whole = nradbase.next_multiple_of(OCT);
        if projections && from_columns.is_none() {
            *memory += Table::bytes(whole, bond.rcut, delta);
        }
        // The limit holds for all central elements together.
        let limit = MAX_TABLES / model.elements.len();
        if *memory > limit {
            return Err(Error::TooLarge {
                what: "memory of the spline tables of one element in bytes",
                value: *memory as u64,
                limit: limit as u64,
            });
        }
        let number = |k: usize| {
            radial::atomic_number(&model.elements[k]).ok_or_else(|| {
                Error::bad(format!("`{}`, which has ZBL repulsion, is not a chemical element", model.elements[k]))
            })
        };
        let z = if model.inner == InnerCutoff::Zbl { (number(i)?, number(j)?) } else { (0, 0) };
        // Coefficient of each radial basis function in each density, from the functions of one neighbour.
        let mut single = vec![0.0; nradbase * nd];
        for f in model.functions[i].iter().filter(|f| f.rank() == 1 && f.mus[0] as usize == j) {
            for p in 0..nd {
                single[f.ns[0] as usize * nd + p] += f.coef[p];
            }
        }
        for p in 0..nd {
            weights.push((0..nradbase).map(|k| single[k * nd + p]).collect());
        }
        let (mut g, mut dg) = (vec![0.0; nradbase], vec![0.0; nradbase]);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        self.table = Some(Table::new(columns, bond.rcut, delta, |r, v, d| {
            radial::basis(bond, model.inner, r, &mut g, &mut dg);
            for (c, w) in weights.iter().enumerate() {
                v[c] = dot(w, &g);
                d[c] = dot(w, &dg);
            }
            (v[columns - 1], d[columns - 1]) = radial::repulsion(bond, model.inner, z, r);
        }));
        self.base_sums = match from_columns {
            Some(inverse) => {
                let columns = inverse.len() / nradbase;
                let transposed = (0..inverse.len()).map(|i| inverse[i % nradbase * columns + i / nradbase]);
                BaseSums::Columns(transposed.collect())
            }
            None if projections => BaseSums::Table(Table::new(whole, bond.rcut, delta, |r, v, d| {
                radial::basis(bond, model.inner, r, &mut v[..nradbase], &mut d[..nradbase]);
            })),
            None => BaseSums::None,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;

    fn compiled() -> SpeciesPlan {
        let model = Model::parse(Format::BBasis, include_bytes!("../../tests/data/two.yaml")).unwrap();
        SpeciesPlan::new(&model, 0, true).unwrap()
    }

    #[test]
    fn an_index_out_of_range_is_refused() {
        compiled().check().unwrap();
        type Fault = fn(&mut SpeciesPlan);
        let faults: [(Fault, &str); 9] = [
            (|p| p.segments[1].dest[0] = 2 * p.graph.base() as u32, "base nodes"),
            (|p| p.segments[1].norm.truncate(1), "1 norms"),
            (|p| p.segments[0].shells[1].dest = p.segments[0].dest.len(), "shell 1 ends at"),
            (|p| p.segments[0].shells[0].column = p.segments[0].rho_column, "shell 0 ends at"),
            (|p| p.segments[0].rho_column += 1, "columns"),
            (|p| p.segments[0].core_column = p.segments[0].table.as_ref().unwrap().ncol(), "columns"),
            (|p| p.embedding.ndensity += 1, "densities"),
            (|p| p.functions += 1, "functions"),
            (|p| p.segments[0].base_sums = BaseSums::Table(Table::new(8, 1.0, 0.5, |_, _, _| ())), "another shape"),
        ];
        for (fault, message) in faults {
            let mut plan = compiled();
            fault(&mut plan);
            let error = plan.check().unwrap_err();
            assert!(error.contains(message), "{error:?} instead of {message:?}");
        }
    }
}
