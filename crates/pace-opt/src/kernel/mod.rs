// SPDX-License-Identifier: GPL-2.0-or-later
//! The three stages that take most of the time, generic over the instruction set, which is chosen at run time.
//!
//! A batch is as many atoms of one element as a vector has lanes, so that all data of a batch stays in the cache from the
//! first stage to the last. Stages [`base`] and [`force`] process one atom at a time with *neighbours* in the lanes;
//! [`product`] evaluates the graph with *atoms* in the lanes.
//!
//! # Safety
//! The kernels read and write through unchecked pointers. They rely on the following:
//!
//! - *Instruction set:* [`Kernels::new`] returns kernels that the processor can execute, and `Kernels` has private fields.
//! - *Compiled potential:* `SpeciesPlan::check` and `Graph::new` checked, when the potential was compiled, that all columns,
//!   components, nodes, ranges and function numbers are in range. Later there is shared access only. A `Table` has the rows
//!   and columns that it states, a `Legendre` has `ld()²` coefficients, a `Matrix` has `rows() * stride()` octs.
//! - *Buffers:* before each call, the `check` method of the job enlarges the buffers or asserts their lengths.
//! - *Lanes:* `Lanes::N` divides [`OCT`], and `Nodes::lanes` is `N`, which `Kernels` asserts.

pub(crate) mod base;
pub(crate) mod force;
#[cfg(target_arch = "x86_64")]
pub(crate) mod gather;
pub(crate) mod grade;
pub(crate) mod product;
pub(crate) mod single;

use crate::matrix::{Matrix, ROWS, SINGLE_ROWS, SingleMatrix};
use crate::plan::table::Table;
use crate::plan::{Legendre, SpeciesPlan};
use crate::profile::Clock;
use crate::simd::{Eight, Isa, Lanes, OCT, Oct, doubles, flat};

/// Largest number of elements for which neighbours are gathered with SIMD. Each element takes a pass over the candidates.
const MAX_GATHER_ELEMENTS: usize = 4;

/// Neighbours of one element around one atom, in blocks of eight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    /// First block.
    pub block: usize,
    /// Number of blocks; the last one may be padded.
    pub blocks: usize,
    /// Number of neighbours.
    pub count: usize,
    /// Index of the first radial value in [`Atom::radial`]: per block all values, then all slopes.
    pub radial: usize,
    /// The same in [`Atom::radial_base`].
    pub radial_base: usize,
}

impl Range {
    /// Number of vectors of `lanes` neighbours, without those of padding alone.
    pub(crate) fn vectors(&self, lanes: usize) -> usize {
        self.count.div_ceil(lanes)
    }
}

/// One atom of a batch: its neighbours and all values that are kept from the first stage to the last.
#[derive(Debug, Default)]
pub(crate) struct Atom {
    /// Index of the atom in the caller's arrays.
    pub index: usize,
    /// One range per element.
    pub ranges: Vec<Range>,
    /// Unit vectors to the neighbours; before the first stage, displacements in Å.
    pub x: Vec<Oct>,
    pub y: Vec<Oct>,
    pub z: Vec<Oct>,
    /// Distances in Å and their inverses.
    pub r: Vec<Oct>,
    pub inv_r: Vec<Oct>,
    /// Index of each neighbour in the caller's arrays.
    pub neighbour: Vec<u32>,
    /// Radial functions and slopes.
    pub radial: Vec<Oct>,
    /// The same of the radial basis functions, if they have a table of their own and a bias requires their slopes.
    pub radial_base: Vec<Oct>,
    /// Contribution of the functions of one neighbour to the densities.
    pub rho: Vec<f64>,
    /// Sum of the repulsion.
    pub core: f64,
    /// Whether the distance of a neighbour was in the first bin of the table or NaN.
    pub invalid: bool,
    /// Sums of the radial basis functions, per element, for projections.
    pub base_sums: Vec<Vec<f64>>,
    /// Derivative of the energy with respect to each density.
    pub slope: Vec<f64>,
    /// Derivative of the embedding energy alone, without the core repulsion's switching function.
    pub grade_slope: Vec<f64>,
    /// Derivative of the energy with respect to the repulsion.
    pub core_slope: f64,
    /// The neighbour whose distance determines the ZBL switching function, and the energy's derivative with respect to it.
    pub nearest: Option<(usize, f64)>,
    /// The factor of the core repulsion's switching function.
    pub on: f64,
    /// Its derivative with respect to the repulsion.
    pub switch_slope: f64,
    /// The neighbour whose distance determines the ZBL switching function, and the function's derivative with respect to it.
    pub switch_nearest: Option<(usize, f64)>,
    /// Neighbours of whose distances the bias depends directly, with its derivatives.
    pub pairs: Vec<(usize, f64)>,
    /// Sum of the gradients of all neighbours in eV/Å.
    pub gradient: [f64; 3],
    /// Their virial in eV: xx, yy, zz, xy, xz, yz.
    pub virial: [f64; 6],
    /// Gradient of the energy with respect to the position of each neighbour, in eV/Å.
    pub fx: Vec<Oct>,
    pub fy: Vec<Oct>,
    pub fz: Vec<Oct>,
}

/// Buffers that are not kept between stages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Spherical harmonics, `[block][component]`.
    pub harmonics: Vec<Oct>,
    /// Interpolation weights, six octs per block.
    pub weights: Vec<[Oct; 6]>,
    /// Bins.
    pub bins: Vec<[u32; OCT]>,
    /// Radial functions and slopes of a block, `[neighbour][column]`.
    pub block: Vec<Oct>,
    /// Sums of the radial functions over the neighbours of one element.
    pub sums: Vec<Oct>,
    /// Adjoint of the atomic base of one atom, in the order of `Segment::dest`.
    pub adjoint: Vec<f64>,
    /// Contracted adjoint, `[vector][component][value or slope]`.
    pub contracted: Vec<Oct>,
    /// Measures the times of the stages if enabled.
    pub clock: Clock,
}

/// Node values and adjoints of a batch: two vectors per node, real and imaginary part, with one atom per lane.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// Atoms per batch, and doubles per vector.
    lanes: usize,
    pub value: Vec<Oct>,
    pub adjoint: Vec<Oct>,
    /// Sums per group and density, two vectors each.
    pub sums: Vec<Oct>,
    /// Densities of the batch.
    pub rho: Vec<Oct>,
    /// Derivatives of the energy with respect to the densities.
    pub slope: Vec<Oct>,
}

impl Nodes {
    /// Buffers for the graph of a plan and batches of `lanes` atoms. Imaginary parts for m = 0 are never written and stay
    /// zero.
    pub(crate) fn new(plan: &SpeciesPlan, lanes: usize) -> Self {
        let g = plan.graph();
        let n = 2 * g.nodes();
        let nd = plan.embedding().ndensity;
        let zeros = |vectors: usize| vec![Oct::default(); (vectors * lanes).div_ceil(OCT)];
        Nodes {
            lanes,
            value: zeros(n),
            adjoint: zeros(n),
            sums: zeros(2 * nd * g.by_x().groups.len()),
            rho: zeros(nd),
            slope: zeros(nd),
        }
    }

    /// Density `p` of an atom, without the functions of one neighbour.
    pub(crate) fn rho(&self, p: usize, lane: usize) -> f64 {
        doubles(&self.rho)[p * self.lanes + lane]
    }

    /// Sets the derivative of an atom's energy with respect to density `p`.
    pub(crate) fn set_slope(&mut self, p: usize, lane: usize, slope: f64) {
        flat(&mut self.slope)[p * self.lanes + lane] = slope;
    }

    /// Whether each kind of buffer has at least this number of vectors.
    fn holds(&self, values: usize, sums: usize, densities: usize) -> bool {
        let fits = |v: &[Oct], vectors: usize| v.len() * OCT >= vectors * self.lanes;
        fits(&self.value, values)
            && fits(&self.adjoint, values)
            && fits(&self.sums, sums)
            && fits(&self.rho, densities)
            && fits(&self.slope, densities)
    }
}

/// Position, index and element of an atom in half a cache line. Also used for the displacement of a neighbour.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
pub(crate) struct Packed {
    pub x: [f64; 3],
    pub index: u32,
    pub element: u32,
}

/// Input and output of the neighbour search.
pub(crate) struct GatherJob<'a> {
    pub all: &'a [Packed],
    pub list: &'a [i32],
    pub mask: i32,
    pub atom: &'a mut Atom,
    /// Cutoff in Å by element; `None` if the pair does not interact.
    pub cutoffs: &'a [Option<f64>],
}

/// Input and output of the first stage.
pub(crate) struct BaseJob<'a> {
    pub plan: &'a SpeciesPlan,
    pub legendre: &'a Legendre,
    pub atom: &'a mut Atom,
    pub scratch: &'a mut Scratch,
    pub nodes: &'a mut Nodes,
    pub lane: usize,
    pub projections: bool,
    /// Whether the slopes of all radial functions are required, for a bias.
    pub slopes: bool,
}

/// Input and output of the second stage.
pub(crate) struct ProductJob<'a> {
    pub plan: &'a SpeciesPlan,
    pub nodes: &'a mut Nodes,
    /// Output for projections, one oct per function; empty if not requested.
    pub projections: &'a mut [Oct],
    /// Index of the batch's first atom in each oct.
    pub lane: usize,
}

/// Input and output of the second stage backwards, if atoms have derivatives with respect to the functions themselves.
pub(crate) struct BiasJob<'a> {
    pub plan: &'a SpeciesPlan,
    pub nodes: &'a mut Nodes,
    /// Derivatives with respect to the functions, one vector of lanes for each.
    pub functions: &'a [Oct],
    /// Space for the coefficients of all terms.
    pub terms: &'a mut Vec<Oct>,
}

/// Input and output of the third stage.
pub(crate) struct ForceJob<'a> {
    pub plan: &'a SpeciesPlan,
    pub legendre: &'a Legendre,
    pub atom: &'a mut Atom,
    pub scratch: &'a mut Scratch,
    pub nodes: &'a Nodes,
    pub lane: usize,
    /// By element of the neighbour: derivatives with respect to the sums of the first columns of the table, or of that of the radial
    /// basis functions if there is one. Empty without bias.
    pub columns: &'a [Vec<f64>],
}

/// Linear combinations of the rows of a matrix.
pub(crate) struct CombineJob<'a> {
    pub matrix: &'a Matrix,
    pub rows: &'a [u32],
    /// Weight of each row, one per lane; lanes beyond those of the kernels are ignored.
    pub weights: &'a [Oct],
    /// One vector of lanes per column.
    pub out: &'a mut Vec<Oct>,
}

/// Rows of a matrix times the vectors of many atoms.
pub(crate) struct GradeJob<'a> {
    pub matrix: &'a Matrix,
    /// Row indices; their number is a multiple of [`ROWS`], padded by repetition.
    pub rows: &'a [u32],
    /// Vectors of batches of eight atoms, one oct for each component.
    pub vectors: &'a [Oct],
    /// Octs from one batch to the next.
    pub length: usize,
    /// Octs from one component to the next.
    pub step: usize,
    /// Batch indices.
    pub batches: &'a [u32],
    /// Number of lanes of each batch that are required, from the first on; 1 to 8.
    pub lanes: usize,
    /// Running maximum of the absolute values, one oct per entry of `batches`.
    pub max: &'a mut [Oct],
    /// All products, `[batch][row]` as listed, one oct each; empty if not requested.
    pub values: &'a mut [Oct],
}

impl GradeJob<'_> {
    /// # Panics
    /// If an index or a buffer length is out of range.
    fn check(&self) {
        let within = |list: &[u32], end: usize| list.iter().all(|&k| (k as usize) < end);
        assert!(self.rows.len().is_multiple_of(ROWS) && within(self.rows, self.matrix.rows()));
        let last = self.batches.iter().max().map_or(0, |&b| b as usize * self.length);
        let read = if self.batches.is_empty() { 0 } else { self.matrix.columns().saturating_sub(1) * self.step + 1 };
        assert!(last + read <= self.vectors.len());
        assert!(self.max.len() >= self.batches.len() && (1..=OCT).contains(&self.lanes));
        assert!(self.values.is_empty() || self.values.len() >= self.batches.len() * self.rows.len());
    }
}

impl CombineJob<'_> {
    /// Enlarges the output.
    ///
    /// # Panics
    /// If a row index is out of range.
    fn check(&mut self, lanes: usize) {
        assert!(self.rows.iter().all(|&k| (k as usize) < self.matrix.rows()));
        assert!(self.matrix.columns() <= self.matrix.stride() * OCT);
        grow(self.out, (self.matrix.columns() * lanes).div_ceil(OCT));
    }
}

/// Input and output of a search for large values.
pub(crate) struct SelectJob<'a> {
    /// One oct for each row.
    pub values: &'a [Oct],
    /// A row is found if the absolute value is not below this for any of the eight atoms.
    pub limit: Oct,
    pub found: &'a mut Vec<u32>,
    /// Largest number of rows in `found`.
    pub max: usize,
    /// Set if there are more rows; those are not listed.
    pub overflow: bool,
}

/// A matrix in single precision times the vectors of many atoms.
pub(crate) struct SingleJob<'a> {
    pub matrix: &'a SingleMatrix,
    /// `[component][batch]`.
    pub vectors: &'a [Eight],
    /// Number of batches, which is even.
    pub width: usize,
    /// `[row][batch]`.
    pub out: &'a mut [Eight],
}

impl SingleJob<'_> {
    /// # Panics
    /// If a buffer is too short.
    fn check(&self) {
        assert!(self.width.is_multiple_of(2) && self.matrix.rows().is_multiple_of(SINGLE_ROWS));
        assert!(self.vectors.len() >= self.matrix.columns() * self.width);
        assert!(self.out.len() >= self.matrix.rows() * self.width);
    }
}

/// A search for large components of a linear combination of vectors, which differs from atom to atom.
pub(crate) struct PredictJob<'a> {
    /// Vectors of a batch, one `Eight` per component.
    pub references: &'a [&'a [Eight]],
    /// Factors of the vectors.
    pub factors: &'a [Eight],
    /// Number of components, which is even.
    pub rows: usize,
    /// A component is found if the absolute value is not below this for any of the eight atoms.
    pub limit: Eight,
    pub found: &'a mut Vec<u32>,
    /// Largest number of components in `found`.
    pub max: usize,
    /// Set if there are more components; those are not listed.
    pub overflow: bool,
}

impl PredictJob<'_> {
    /// # Panics
    /// If a vector is too short.
    fn check(&self) {
        assert!(self.rows.is_multiple_of(2) && self.references.iter().all(|r| r.len() >= self.rows));
    }
}

/// Fills an atom's ranges; returns whether it could.
pub(crate) type Gather = unsafe fn(&mut GatherJob) -> bool;

/// Entry points of the stages for one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// Atoms per batch.
    lanes: usize,
    gather: Option<Gather>,
    base: unsafe fn(&mut BaseJob),
    forward: unsafe fn(&mut ProductJob),
    backward: unsafe fn(&mut ProductJob),
    backward_biased: unsafe fn(&mut BiasJob),
    project: unsafe fn(&mut ProductJob),
    force: unsafe fn(&mut ForceJob),
    grade: unsafe fn(&mut GradeJob),
    select: unsafe fn(&mut SelectJob),
    combine: unsafe fn(&mut CombineJob),
    multiply: unsafe fn(&mut SingleJob),
    predict: unsafe fn(&mut PredictJob),
}

macro_rules! entry_points {
    ($name:ident, $lanes:ty, $gather:expr, $($feature:literal)?) => {
        mod $name {
            use super::*;
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn base(job: &mut BaseJob) {
                // SAFETY: this function enables the instruction set of the lanes; the caller checked the job.
                unsafe { super::base::run::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn forward(job: &mut ProductJob) {
                // SAFETY: as for `base`.
                unsafe { super::product::forward::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn backward(job: &mut ProductJob) {
                // SAFETY: as for `base`.
                unsafe { super::product::backward::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn project(job: &mut ProductJob) {
                // SAFETY: as for `base`.
                unsafe { super::product::project::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn force(job: &mut ForceJob) {
                // SAFETY: as for `base`.
                unsafe { super::force::run::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn grade(job: &mut GradeJob) {
                // SAFETY: as for `base`.
                unsafe { super::grade::run::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn select(job: &mut SelectJob) {
                // SAFETY: as for `base`.
                unsafe { super::grade::select::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn backward_biased(job: &mut BiasJob) {
                // SAFETY: as for `base`.
                unsafe { super::product::backward_biased::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn combine(job: &mut CombineJob) {
                // SAFETY: as for `base`.
                unsafe { super::grade::combine::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn multiply(job: &mut SingleJob) {
                // SAFETY: as for `base`.
                unsafe { super::single::multiply::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn predict(job: &mut PredictJob) {
                // SAFETY: as for `base`.
                unsafe { super::single::predict::<$lanes>(job) }
            }
            pub(super) const KERNELS: Kernels = Kernels {
                lanes: <$lanes>::N,
                gather: $gather,
                base,
                forward,
                backward,
                backward_biased,
                project,
                force,
                grade,
                select,
                combine,
                multiply,
                predict,
            };
        }
    };
}

entry_points!(portable, crate::simd::Portable<4>, None,);
// Tests the layout of eight lanes on processors without such registers.
#[cfg(test)]
entry_points!(portable8, crate::simd::Portable<8>, None,);
#[cfg(target_arch = "x86_64")]
entry_points!(avx2, crate::simd::x86::Avx2, Some(gather::run), "avx2,fma");
#[cfg(target_arch = "x86_64")]
entry_points!(avx512, crate::simd::x86::Avx512, Some(gather::run), "avx512f,avx2,fma");

impl Kernels {
    /// The kernels of an instruction set, or the portable ones if the processor lacks it.
    pub(crate) fn new(isa: Isa) -> Self {
        if !Isa::available().contains(&isa) {
            return portable::KERNELS;
        }
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::KERNELS,
            _ => portable::KERNELS,
        }
    }

    /// The portable kernels with eight lanes.
    #[cfg(test)]
    pub(crate) fn wide() -> Self {
        portable8::KERNELS
    }

    /// Number of atoms per batch.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Gathers the neighbours of an atom; returns whether it could. All atoms must have an element of the potential.
    pub(crate) fn gather(&self, mut job: GatherJob) -> bool {
        // SAFETY: `new` checked the instruction set, the number of elements is within the limit.
        job.cutoffs.len() <= MAX_GATHER_ELEMENTS && self.gather.is_some_and(|gather| unsafe { gather(&mut job) })
    }

    pub(crate) fn base(&self, mut job: BaseJob) {
        job.check();
        assert!(job.nodes.lanes == self.lanes);
        // SAFETY: `new` checked the instruction set, `job.check` the buffers; the plan was checked when it was compiled.
        unsafe { (self.base)(&mut job) }
    }

    pub(crate) fn forward(&self, mut job: ProductJob) {
        job.check(self.lanes);
        // SAFETY: as for `base`.
        unsafe { (self.forward)(&mut job) }
    }

    pub(crate) fn backward(&self, mut job: ProductJob) {
        job.check(self.lanes);
        // SAFETY: as for `base`.
        unsafe { (self.backward)(&mut job) }
    }

    pub(crate) fn backward_biased(&self, mut job: BiasJob) {
        job.check(self.lanes);
        // SAFETY: as for `base`.
        unsafe { (self.backward_biased)(&mut job) }
    }

    pub(crate) fn project(&self, mut job: ProductJob) {
        job.check(self.lanes);
        assert!(job.projections.len() >= job.plan.graph().functions());
        // SAFETY: as for `base`.
        unsafe { (self.project)(&mut job) }
    }

    pub(crate) fn force(&self, mut job: ForceJob) {
        job.check();
        assert!(job.nodes.lanes == self.lanes);
        // SAFETY: as for `base`.
        unsafe { (self.force)(&mut job) }
    }
}

impl Kernels {
    pub(crate) fn grade(&self, mut job: GradeJob) {
        job.check();
        // SAFETY: as for `base`.
        unsafe { (self.grade)(&mut job) }
    }

    pub(crate) fn combine(&self, mut job: CombineJob) {
        job.check(self.lanes);
        // SAFETY: as for `base`.
        unsafe { (self.combine)(&mut job) }
    }

    pub(crate) fn multiply(&self, mut job: SingleJob) {
        job.check();
        // SAFETY: as for `base`.
        unsafe { (self.multiply)(&mut job) }
    }

    /// Searches for large components; returns whether all were listed.
    pub(crate) fn predict(&self, mut job: PredictJob) -> bool {
        job.check();
        // SAFETY: as for `base`.
        unsafe { (self.predict)(&mut job) }
        !job.overflow
    }

    /// Searches for large values; returns whether all were listed.
    pub(crate) fn select(&self, mut job: SelectJob) -> bool {
        // SAFETY: `new` checked the instruction set; a search reads whole octs of one slice.
        unsafe { (self.select)(&mut job) }
        !job.overflow
    }
}

impl Atom {
    /// Number of blocks of all ranges, including gaps between them.
    pub(crate) fn blocks(&self) -> usize {
        self.ranges.iter().map(|r| r.block + r.blocks).max().unwrap_or(0)
    }

    /// Enlarges the arrays of neighbours to at least this number of blocks.
    pub(crate) fn reserve(&mut self, blocks: usize) {
        for v in [&mut self.x, &mut self.y, &mut self.z, &mut self.r, &mut self.inv_r] {
            grow(v, blocks);
        }
        grow(&mut self.neighbour, blocks * OCT);
    }
}

impl BaseJob<'_> {
    /// Enlarges the buffers for every access of the stage.
    ///
    /// # Panics
    /// If the atom's neighbours do not fit the plan, or the nodes are those of another plan.
    fn check(&mut self) {
        assert!(self.lane < self.nodes.lanes && self.atom.ranges.len() == self.plan.segments().len());
        let a = &mut *self.atom;
        let blocks = a.blocks();
        for v in [&a.x, &a.y, &a.z, &a.r, &a.inv_r] {
            assert!(v.len() >= blocks);
        }
        let (mut radial, mut radial_base, mut longest, mut harmonics, mut widest) = (0, 0, 0, 0, 0);
        for (range, segment) in a.ranges.iter_mut().zip(self.plan.segments()) {
            assert!(segment.table.is_some() || range.blocks == 0);
            assert!(range.count <= range.blocks * OCT);
            range.radial = radial;
            let ncol = segment.table.as_ref().map_or(0, Table::ncol);
            radial += range.blocks * 2 * ncol;
            widest = widest.max(2 * ncol);
            if let (true, Some(base)) = (self.slopes, segment.base_sums.table()) {
                range.radial_base = radial_base;
                radial_base += range.blocks * 2 * base.ncol();
                widest = widest.max(2 * base.ncol());
            }
            longest = longest.max(range.blocks);
            harmonics = harmonics.max(range.blocks * segment.shells.len() * segment.shells.len());
            assert!(segment.shells.len() <= self.legendre.ld());
        }
        grow(&mut a.radial, radial);
        grow(&mut a.radial_base, radial_base);
        let s = &mut *self.scratch;
        grow(&mut s.harmonics, harmonics);
        grow(&mut s.bins, longest);
        grow(&mut s.weights, longest);
        // Eight neighbours of `widest` doubles.
        grow(&mut s.block, widest);
        grow(&mut s.sums, widest.div_ceil(OCT));
        assert!(self.nodes.holds(2 * self.plan.graph().base(), 0, 0));
    }
}

impl ProductJob<'_> {
    /// # Panics
    /// If the nodes are those of another plan or number of lanes.
    fn check(&self, lanes: usize) {
        let g = self.plan.graph();
        let nd = self.plan.embedding().ndensity;
        assert!(self.nodes.lanes == lanes && self.lane + lanes <= OCT);
        assert!(self.nodes.holds(2 * g.nodes(), 2 * nd * g.by_x().groups.len(), nd));
    }
}

impl BiasJob<'_> {
    /// Enlarges the space for the coefficients.
    ///
    /// # Panics
    /// If the nodes are those of another plan or number of lanes, or the plan has no functions.
    fn check(&mut self, lanes: usize) {
        let g = self.plan.graph();
        let nd = self.plan.embedding().ndensity;
        let terms = g.by_x().partner.len();
        assert!(self.nodes.lanes == lanes && self.nodes.holds(2 * g.nodes(), 0, nd));
        assert!(self.functions.len() * OCT >= g.functions() * lanes);
        assert!(terms == 0 || g.share_starts().len() == terms + 1);
        grow(self.terms, (terms * lanes).div_ceil(OCT));
    }
}

impl ForceJob<'_> {
    /// Enlarges the buffers for every access of the stage.
    ///
    /// # Panics
    /// If the first stage did not run for this atom and plan.
    fn check(&mut self) {
        assert!(self.lane < self.nodes.lanes && self.atom.ranges.len() == self.plan.segments().len());
        let a = &mut *self.atom;
        let blocks = a.blocks();
        for v in [&mut a.fx, &mut a.fy, &mut a.fz] {
            grow(v, blocks);
        }
        for v in [&a.x, &a.y, &a.z, &a.r, &a.inv_r] {
            assert!(v.len() >= blocks);
        }
        assert!(a.slope.len() >= self.plan.embedding().ndensity);
        for ((columns, segment), range) in self.columns.iter().zip(self.plan.segments()).zip(&a.ranges) {
            match segment.base_sums.table() {
                None => assert!(columns.len() <= segment.rho_column),
                Some(base) => {
                    let end = range.radial_base + range.blocks * 2 * base.ncol();
                    assert!(columns.is_empty() || columns.len() <= base.ncol() && a.radial_base.len() >= end);
                }
            }
        }
        for (range, segment) in a.ranges.iter().zip(self.plan.segments()) {
            let ncol = segment.table.as_ref().map_or(0, Table::ncol);
            assert!(range.blocks == 0 || a.radial.len() >= range.radial + range.blocks * 2 * ncol);
            assert!(range.count <= range.blocks * OCT && segment.shells.len() <= self.legendre.ld());
            grow(&mut self.scratch.adjoint, segment.dest.len());
            let components = segment.shells.len() * segment.shells.len();
            // Value and slope of each component, of each vector of a group.
            grow(&mut self.scratch.contracted, force::GROUP * 2 * components);
        }
        assert!(self.nodes.holds(2 * self.plan.graph().base(), 0, 0));
    }
}

/// Enlarges a buffer to at least `len` elements.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}
