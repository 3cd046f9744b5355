// SPDX-License-Identifier: GPL-2.0-or-later
//! The three hot stages, generic over the instruction set and chosen at run time.
//!
//! A batch is as many atoms of one element as a vector has lanes, so that what lives from the first stage to the last
//! stays in the cache. Stages [`base`] and [`force`] go atom by atom with *neighbours* in the lanes; [`product`] evaluates
//! the graph with the *atoms* in the lanes.

pub(crate) mod base;
pub(crate) mod force;
#[cfg(target_arch = "x86_64")]
pub(crate) mod gather;
pub(crate) mod grade;
pub(crate) mod product;

use crate::matrix::{Matrix, ROWS};
use crate::plan::{Legendre, SpeciesPlan};
use crate::profile::Clock;
use crate::simd::{Isa, Lanes, OCT, Oct, doubles, flat};

/// Elements that are told apart four candidates at a time; with more, each would go through them again.
const MOST_ELEMENTS: usize = 4;

/// Neighbours of one element around one atom, in blocks of eight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    /// First block.
    pub block: usize,
    /// Number of blocks; the last one may be padded.
    pub blocks: usize,
    /// Number of neighbours.
    pub count: usize,
    /// Where the radial values start in [`Atom::radial`]: per block all values, then all slopes.
    pub radial: usize,
}

impl Range {
    /// Vectors of `lanes` neighbours that have any.
    pub(crate) fn vectors(&self, lanes: usize) -> usize {
        self.count.div_ceil(lanes)
    }
}

/// One atom of a batch, with all that lives from the first stage to the last.
#[derive(Debug, Default)]
pub(crate) struct Atom {
    /// Index in the caller's arrays.
    pub index: usize,
    /// One range per element.
    pub ranges: Vec<Range>,
    /// Unit vectors to the neighbours; before the first stage, plain vectors.
    pub x: Vec<Oct>,
    pub y: Vec<Oct>,
    pub z: Vec<Oct>,
    /// Distances and their inverses.
    pub r: Vec<Oct>,
    pub inv_r: Vec<Oct>,
    /// Caller's index of each neighbour.
    pub neighbour: Vec<u32>,
    /// Radial functions and slopes.
    pub radial: Vec<Oct>,
    /// Contribution to the densities of functions of one neighbour.
    pub rho: Vec<f64>,
    /// Sum of the repulsion.
    pub core: f64,
    /// Whether a neighbour was in the first bin of the table, or not a number.
    pub broken: bool,
    /// Sums of the radial basis functions, per element, for projections.
    pub base_sums: Vec<Vec<f64>>,
    /// Slope of the energy in each one-neighbour density.
    pub slope: Vec<f64>,
    /// Slope of the embedding alone, before close neighbours switch it off.
    pub grade_slope: Vec<f64>,
    /// Slope of the energy in the repulsion.
    pub core_slope: f64,
    /// The neighbour that drives the ZBL switch, and the energy's slope in its distance.
    pub nearest: Option<(usize, f64)>,
    /// Sum of the gradients of all neighbours, and their virial: xx, yy, zz, xy, xz, yz.
    pub gradient: [f64; 3],
    pub virial: [f64; 6],
    /// dE/dr of each neighbour.
    pub fx: Vec<Oct>,
    pub fy: Vec<Oct>,
    pub fz: Vec<Oct>,
}

/// Scratch that is not kept between stages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Spherical harmonics, `[block][component]`.
    pub harmonics: Vec<Oct>,
    /// Interpolation weights, six octs per block.
    pub weights: Vec<[Oct; 6]>,
    /// Bins.
    pub bins: Vec<[u32; OCT]>,
    /// Radial functions and slopes of a block, one neighbour after the other.
    pub block: Vec<Oct>,
    /// Sums of the radial functions over the neighbours of one element.
    pub sums: Vec<Oct>,
    /// Adjoint of the atomic base of one atom, in the order of `Segment::dest`.
    pub adjoint: Vec<f64>,
    /// Contracted adjoint, `[vector][component][value or slope]`.
    pub contracted: Vec<Oct>,
    /// Times of the stages, where they are wanted.
    pub clock: Clock,
}

/// Node values and adjoints of a batch: two vectors per node, real and imaginary, each of one number per atom.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// Atoms of a batch; numbers per vector.
    lanes: usize,
    pub value: Vec<Oct>,
    pub adjoint: Vec<Oct>,
    /// Sums per group and density, two vectors each.
    pub sums: Vec<Oct>,
    /// Densities of the batch.
    pub rho: Vec<Oct>,
    /// Slopes of the energy in the densities.
    pub slope: Vec<Oct>,
}

impl Nodes {
    /// Room for the graph of a plan and a batch of so many atoms. Imaginary parts of m = 0 are never written and stay
    /// zero.
    pub(crate) fn new(plan: &SpeciesPlan, lanes: usize) -> Self {
        let g = &plan.graph;
        let n = 2 * (g.base + g.interior.len());
        let nd = plan.embedding.ndensity;
        let zeros = |vectors: usize| vec![Oct::default(); (vectors * lanes).div_ceil(OCT)];
        Nodes {
            lanes,
            value: zeros(n),
            adjoint: zeros(n),
            sums: zeros(2 * nd * g.by_x.groups.len()),
            rho: zeros(nd),
            slope: zeros(nd),
        }
    }

    /// Density `p` of an atom, without the functions of one neighbour.
    pub(crate) fn rho(&self, p: usize, lane: usize) -> f64 {
        doubles(&self.rho)[p * self.lanes + lane]
    }

    /// Sets the slope of an atom's energy in density `p`.
    pub(crate) fn set_slope(&mut self, p: usize, lane: usize, slope: f64) {
        flat(&mut self.slope)[p * self.lanes + lane] = slope;
    }

    /// Whether there is room for so many vectors of each kind.
    fn holds(&self, values: usize, sums: usize, densities: usize) -> bool {
        let fits = |v: &[Oct], vectors: usize| v.len() * OCT >= vectors * self.lanes;
        fits(&self.value, values)
            && fits(&self.adjoint, values)
            && fits(&self.sums, sums)
            && fits(&self.rho, densities)
            && fits(&self.slope, densities)
    }
}

/// Position and element of an atom on half a cache line; also a neighbour's distance, its index, its element.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
pub(crate) struct Packed {
    pub x: [f64; 3],
    pub index: u32,
    pub element: u32,
}

/// Where neighbours are looked for.
pub(crate) struct GatherJob<'a> {
    pub all: &'a [Packed],
    pub list: &'a [i32],
    pub mask: i32,
    pub atom: &'a mut Atom,
    /// Per element; none if the pair does not interact.
    pub cutoffs: &'a [Option<f64>],
}

/// What the first stage works on.
pub(crate) struct BaseJob<'a> {
    pub plan: &'a SpeciesPlan,
    pub legendre: &'a Legendre,
    pub atom: &'a mut Atom,
    pub scratch: &'a mut Scratch,
    pub nodes: &'a mut Nodes,
    pub lane: usize,
    pub projections: bool,
}

/// What the second stage works on.
pub(crate) struct ProductJob<'a> {
    pub plan: &'a SpeciesPlan,
    pub nodes: &'a mut Nodes,
    /// Where projections go, one oct per function; empty if they are not wanted.
    pub projections: &'a mut [Oct],
    /// Where the batch's are in each oct.
    pub lane: usize,
}

/// What the third stage works on.
pub(crate) struct ForceJob<'a> {
    pub plan: &'a SpeciesPlan,
    pub legendre: &'a Legendre,
    pub atom: &'a mut Atom,
    pub scratch: &'a mut Scratch,
    pub nodes: &'a Nodes,
    pub lane: usize,
}

/// Rows of a matrix times the vectors of many atoms.
pub(crate) struct GradeJob<'a> {
    pub matrix: &'a Matrix,
    /// Which rows; a multiple of [`ROWS`] of them, where need be by repetition.
    pub rows: &'a [u32],
    /// Vectors of batches of eight atoms, one oct for each component.
    pub vectors: &'a [Oct],
    /// Octs from one batch to the next.
    pub length: usize,
    /// Octs from one component to the next.
    pub step: usize,
    /// Which batches.
    pub batches: &'a [u32],
    /// The largest product in size, one oct for each of `batches`; raised.
    pub most: &'a mut [Oct],
    /// All products, `[batch][row]` as listed, one oct each; empty if they are not wanted.
    pub values: &'a mut [Oct],
}

impl GradeJob<'_> {
    fn check(&self) {
        let within = |list: &[u32], end: usize| list.iter().all(|&k| (k as usize) < end);
        assert!(self.rows.len().is_multiple_of(ROWS) && within(self.rows, self.matrix.rows()));
        let last = self.batches.iter().max().map_or(0, |&b| b as usize * self.length);
        let read = if self.batches.is_empty() { 0 } else { self.matrix.columns().saturating_sub(1) * self.step + 1 };
        assert!(last + read <= self.vectors.len());
        assert!(self.most.len() >= self.batches.len());
        assert!(self.values.is_empty() || self.values.len() >= self.batches.len() * self.rows.len());
    }
}

/// A search for what is large.
pub(crate) struct SelectJob<'a> {
    /// One oct for each row.
    pub values: &'a [Oct],
    /// A row is found if the size of its value is not below this, for any of the eight.
    pub limit: Oct,
    pub found: &'a mut Vec<u32>,
    /// Most rows in `found`.
    pub most: usize,
    /// Whether there are more; those are not listed.
    pub overflow: bool,
}

/// Fills an atom's ranges, or says that it cannot.
pub(crate) type Gather = unsafe fn(&mut GatherJob) -> bool;

/// Entry points of the stages for one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// Atoms of a batch.
    pub lanes: usize,
    gather: Option<Gather>,
    base: unsafe fn(&mut BaseJob),
    forward: unsafe fn(&mut ProductJob),
    backward: unsafe fn(&mut ProductJob),
    project: unsafe fn(&mut ProductJob),
    force: unsafe fn(&mut ForceJob),
    grade: unsafe fn(&mut GradeJob),
    select: unsafe fn(&mut SelectJob),
}

macro_rules! entry_points {
    ($name:ident, $lanes:ty, $gather:expr, $($feature:literal)?) => {
        mod $name {
            use super::*;
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn base(job: &mut BaseJob) {
                // SAFETY: this function has the instruction set of the lanes.
                unsafe { super::base::run::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn forward(job: &mut ProductJob) {
                // SAFETY: as above.
                unsafe { super::product::forward::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn backward(job: &mut ProductJob) {
                // SAFETY: as above.
                unsafe { super::product::backward::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn project(job: &mut ProductJob) {
                // SAFETY: as above.
                unsafe { super::product::project::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn force(job: &mut ForceJob) {
                // SAFETY: as above.
                unsafe { super::force::run::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn grade(job: &mut GradeJob) {
                // SAFETY: as above.
                unsafe { super::grade::run::<$lanes>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn select(job: &mut SelectJob) {
                // SAFETY: as above.
                unsafe { super::grade::select::<$lanes>(job) }
            }
            pub(super) const KERNELS: Kernels = Kernels {
                lanes: <$lanes>::N,
                gather: $gather,
                base,
                forward,
                backward,
                project,
                force,
                grade,
                select,
            };
        }
    };
}

entry_points!(portable, crate::simd::Portable<4>, None,);
// What is laid out in eight lanes, for a machine that has no such registers.
#[cfg(test)]
entry_points!(portable8, crate::simd::Portable<8>, None,);
#[cfg(target_arch = "x86_64")]
entry_points!(avx2, crate::simd::x86::Avx2, Some(gather::run), "avx2,fma");
#[cfg(target_arch = "x86_64")]
entry_points!(avx512, crate::simd::x86::Avx512, Some(gather::run), "avx512f,avx2,fma");

impl Kernels {
    /// The kernels of an instruction set, or the portable ones where this processor lacks it.
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

    /// Whether the neighbours of an atom were gathered. All atoms must have an element of the potential.
    pub(crate) fn gather(&self, mut job: GatherJob) -> bool {
        // SAFETY: `new` checked the instruction set; it checks its own sizes.
        job.cutoffs.len() <= MOST_ELEMENTS && self.gather.is_some_and(|gather| unsafe { gather(&mut job) })
    }

    pub(crate) fn base(&self, mut job: BaseJob) {
        job.check();
        assert!(job.nodes.lanes == self.lanes);
        // SAFETY: `new` checked the instruction set, `check` the sizes.
        unsafe { (self.base)(&mut job) }
    }

    pub(crate) fn forward(&self, mut job: ProductJob) {
        job.check(self.lanes);
        // SAFETY: as above.
        unsafe { (self.forward)(&mut job) }
    }

    pub(crate) fn backward(&self, mut job: ProductJob) {
        job.check(self.lanes);
        // SAFETY: as above.
        unsafe { (self.backward)(&mut job) }
    }

    pub(crate) fn project(&self, mut job: ProductJob) {
        job.check(self.lanes);
        assert!(job.projections.len() >= job.plan.functions && job.plan.graph.functions.len() <= job.plan.functions);
        // SAFETY: as above.
        unsafe { (self.project)(&mut job) }
    }

    pub(crate) fn force(&self, mut job: ForceJob) {
        job.check();
        assert!(job.nodes.lanes == self.lanes);
        // SAFETY: as above.
        unsafe { (self.force)(&mut job) }
    }
}

impl Kernels {
    pub(crate) fn grade(&self, mut job: GradeJob) {
        job.check();
        // SAFETY: as above.
        unsafe { (self.grade)(&mut job) }
    }

    /// Whether everything was found.
    pub(crate) fn select(&self, mut job: SelectJob) -> bool {
        // SAFETY: as above; a search needs no sizes.
        unsafe { (self.select)(&mut job) }
        !job.overflow
    }
}

impl Atom {
    /// Number of blocks of all ranges.
    pub(crate) fn blocks(&self) -> usize {
        self.ranges.last().map_or(0, |r| r.block + r.blocks)
    }
}

impl BaseJob<'_> {
    /// Makes the buffers large enough for every access of the stage.
    fn check(&mut self) {
        assert!(self.lane < self.nodes.lanes && self.atom.ranges.len() == self.plan.segments.len());
        let a = &mut *self.atom;
        let blocks = a.blocks();
        for v in [&mut a.x, &mut a.y, &mut a.z, &mut a.r, &mut a.inv_r] {
            assert!(v.len() >= blocks);
        }
        let (mut radial, mut most, mut harmonics, mut widest) = (0, 0, 0, 0);
        for (range, segment) in a.ranges.iter_mut().zip(&self.plan.segments) {
            assert!(segment.table.is_some() || range.blocks == 0);
            assert!(range.count <= range.blocks * OCT);
            range.radial = radial;
            let ncol = segment.table.as_ref().map_or(0, |t| t.ncol);
            radial += range.blocks * 2 * ncol;
            widest = widest.max(2 * ncol);
            most = most.max(range.blocks);
            harmonics = harmonics.max(range.blocks * segment.shells.len() * segment.shells.len());
            assert!(segment.shells.len() <= self.legendre.ld && segment.norm.len() == segment.dest.len());
        }
        if a.radial.len() < radial {
            a.radial.resize(radial, Oct::default());
        }
        let s = &mut *self.scratch;
        if s.harmonics.len() < harmonics {
            s.harmonics.resize(harmonics, Oct::default());
        }
        if s.bins.len() < most {
            s.bins.resize(most, [0; OCT]);
            s.weights.resize(most, [Oct::default(); 6]);
        }
        if s.block.len() < widest {
            s.block.resize(widest, Oct::default());
        }
        // Wide enough for the values alone.
        if s.sums.len() < widest {
            s.sums.resize(widest, Oct::default());
        }
        assert!(self.nodes.holds(2 * self.plan.graph.base, 0, 0));
    }
}

impl ProductJob<'_> {
    fn check(&self, lanes: usize) {
        let g = &self.plan.graph;
        let nd = self.plan.embedding.ndensity;
        assert!(self.nodes.lanes == lanes && self.lane + lanes <= OCT);
        assert!(self.nodes.holds(2 * (g.base + g.interior.len()), 2 * nd * g.by_x.groups.len(), nd));
    }
}

impl ForceJob<'_> {
    fn check(&mut self) {
        assert!(self.lane < self.nodes.lanes && self.atom.ranges.len() == self.plan.segments.len());
        let a = &mut *self.atom;
        let blocks = a.blocks();
        for v in [&mut a.fx, &mut a.fy, &mut a.fz] {
            if v.len() < blocks {
                v.resize(blocks, Oct::default());
            }
        }
        for v in [&a.x, &a.y, &a.z, &a.r, &a.inv_r] {
            assert!(v.len() >= blocks);
        }
        assert!(a.slope.len() >= self.plan.embedding.ndensity);
        for (range, segment) in a.ranges.iter().zip(&self.plan.segments) {
            let ncol = segment.table.as_ref().map_or(0, |t| t.ncol);
            assert!(range.blocks == 0 || a.radial.len() >= range.radial + range.blocks * 2 * ncol);
            assert!(range.count <= range.blocks * OCT);
            let n = segment.dest.len();
            if self.scratch.adjoint.len() < n {
                self.scratch.adjoint.resize(n, 0.0);
            }
            let components = segment.shells.len() * segment.shells.len();
            // Value and slope of each component, of each vector of a group.
            let room = force::GROUP * 2 * components;
            if self.scratch.contracted.len() < room {
                self.scratch.contracted.resize(room, Oct::default());
            }
        }
        assert!(self.nodes.holds(2 * self.plan.graph.base, 0, 0));
    }
}
