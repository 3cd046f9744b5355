// SPDX-License-Identifier: GPL-2.0-or-later
//! A potential compiled for evaluation: tables, products, and where everything lies in memory.

pub(crate) mod graph;
mod inverse;
pub(crate) mod table;

use crate::error::{Error, Result};
use crate::model::{Embedding, InnerCutoff, Model, radial};
use crate::simd::OCT;
use graph::{Builder, Graph};
use table::Table;

/// Largest memory of all tables of a potential, in bytes.
const MAX_TABLES: usize = 1 << 30;

/// The recursion of the Legendre functions, divided by sin(θ)^m and scaled such that z^(l-m) has the factor one:
/// `P(l, m) = z P(l-1, m) + b(l, m) P(l-2, m)`, which begins with `P(m, m) = 1`.
#[derive(Debug)]
pub(crate) struct Legendre {
    /// b, `[l * (lmax + 1) + m]`.
    pub b: Vec<f64>,
    /// Row length.
    pub ld: usize,
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

    /// What a function of the recursion is multiplied by to give a spherical harmonic with Y₀₀ = 1.
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
    /// Where this shell starts in `Segment::dest`.
    pub dest: usize,
}

/// Where the sums of the radial basis functions over neighbours come from, of which projections are made.
#[derive(Debug)]
pub(crate) enum BaseSums {
    /// They are not needed.
    None,
    /// From the sums of the first columns of the table, by `[column][function]`: these are enough of their combinations.
    Columns(Vec<f64>),
    /// From a table of their own.
    Table(Table),
}

impl BaseSums {
    /// The table, where there is one.
    fn table(&self) -> Option<&Table> {
        match self {
            BaseSums::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// What neighbours of one element contribute to an atom.
#[derive(Debug)]
pub(crate) struct Segment {
    /// One per angular momentum in use, from 0; empty if only densities and repulsion remain.
    pub shells: Vec<Shell>,
    /// First column of the functions of one neighbour, contracted to densities.
    pub rho_column: usize,
    /// Column of the repulsion.
    pub core_column: usize,
    /// Position in the node array, in vectors, of each component: per shell `[component][n]`.
    pub dest: Vec<u32>,
    /// Likewise, the norm of the spherical harmonic.
    pub norm: Vec<f64>,
    /// Values and slopes of all columns; `None` if the pair does not interact.
    pub table: Option<Table>,
    /// Where sums of the radial basis functions come from, for projections.
    pub base_sums: BaseSums,
    /// Cutoff in Å.
    pub rcut: f64,
    /// Inner cutoff and its width.
    pub r_in: f64,
    /// Its width.
    pub delta_in: f64,
}

/// The compiled potential for atoms of one element.
#[derive(Debug)]
pub(crate) struct SpeciesPlan {
    pub segments: Vec<Segment>,
    /// Per element of the neighbour; none if the pair does not interact.
    pub cutoffs: Vec<Option<f64>>,
    pub graph: Graph,
    pub embedding: Embedding,
    pub e0: f64,
    /// Number of basis functions.
    pub functions: usize,
    /// For each function of one neighbour: the neighbour's element and the radial index.
    pub single: Vec<(u8, u8)>,
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
    /// Compiles a model; `projections` keeps what the extrapolation grade needs.
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
        // Which radial functions are in use, per neighbour element and angular momentum.
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
        // The atomic base: node of (element, l, n, m).
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
        Ok(SpeciesPlan {
            cutoffs: segments.iter().map(|s| s.table.as_ref().map(|_| s.rcut)).collect(),
            segments,
            graph: builder.build(functions.len()),
            embedding: model.embeddings[i].clone(),
            e0: model.e0[i],
            functions: functions.len(),
            single,
        })
    }
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
        // Sums of the functions themselves are added up in whole octs.
        let whole = nradbase.next_multiple_of(OCT);
        if projections && from_columns.is_none() {
            *memory += Table::bytes(whole, bond.rcut, delta);
        }
        // All elements as central atom together must stay below the limit.
        let most = MAX_TABLES / model.elements.len();
        if *memory > most {
            return Err(Error::TooLarge {
                what: "memory of the spline tables of one element in bytes",
                value: *memory as u64,
                limit: most as u64,
            });
        }
        let number = |k: usize| {
            radial::atomic_number(&model.elements[k]).ok_or_else(|| {
                Error::bad(format!("`{}`, which has ZBL repulsion, is no chemical element", model.elements[k]))
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
                let turned = (0..inverse.len()).map(|i| inverse[i % nradbase * columns + i / nradbase]);
                BaseSums::Columns(turned.collect())
            }
            None if projections => BaseSums::Table(Table::new(whole, bond.rcut, delta, |r, v, d| {
                radial::basis(bond, model.inner, r, &mut v[..nradbase], &mut d[..nradbase]);
            })),
            None => BaseSums::None,
        };
        Ok(())
    }
}
