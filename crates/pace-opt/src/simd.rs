// SPDX-License-Identifier: GPL-2.0-or-later
//! Vectors of doubles: one small interface, one implementation per instruction set.
//!
//! Memory is always laid out in groups of eight ([`Oct`]); a vector has `N` ≤ 8 lanes. Kernels are
//! generic over [`Lanes`], always inlined into a function that enables the instruction set.

/// Eight doubles in one cache line: the unit of all buffers that kernels access.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Oct(pub [f64; 8]);

/// The doubles of a slice of octs, in order.
pub(crate) fn flat(v: &mut [Oct]) -> &mut [f64] {
    // SAFETY: an oct is exactly eight doubles, without padding.
    unsafe { std::slice::from_raw_parts_mut(v.as_mut_ptr().cast(), v.len() * OCT) }
}

/// As [`flat`], shared.
pub(crate) fn doubles(v: &[Oct]) -> &[f64] {
    // SAFETY: an oct is exactly eight doubles, without padding.
    unsafe { std::slice::from_raw_parts(v.as_ptr().cast(), v.len() * OCT) }
}

/// A batch of eight numbers in single precision.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
pub(crate) struct Eight(pub [f32; 8]);

/// The number of columns of a table is a multiple of this.
pub(crate) const QUAD: usize = 4;

/// Number of neighbours in a block, and of atoms in a batch of grades.
pub(crate) const OCT: usize = 8;

/// A vector of doubles.
///
/// # Safety
/// Every method may use the instruction set of the implementing type: call them only from code that runs
/// after that set was detected. Pointers must be valid for `N` doubles.
pub(crate) unsafe trait Lanes: Copy {
    /// Doubles per vector; divides eight.
    const N: usize;
    /// Doubles per node of the product graph: real and imaginary part of `N` atoms.
    const NODE: usize = 2 * Self::N;
    /// Number of vectors that fit into the processor's registers.
    const REGISTERS: usize;
    /// A vector of four, for the remainder of a row of columns.
    type Half: Lanes;
    /// Vectors of single precision.
    type Single: Singles;

    unsafe fn load(p: *const f64) -> Self;
    unsafe fn store(self, p: *mut f64);
    unsafe fn splat(x: f64) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    /// `self * b + c`
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// `c - self * b`
    unsafe fn fnma(self, b: Self, c: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    unsafe fn floor(self) -> Self;
    /// The smaller of both; `b` where `self` is NaN.
    unsafe fn min(self, b: Self) -> Self;
    /// The larger of both; `b` where `self` is NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// Whether any lane is not below that of `b`, which includes NaN in either.
    unsafe fn any_not_below(self, b: Self) -> bool;
    /// Sum over the lanes.
    unsafe fn sum(self) -> f64;
    /// Sums over the lanes of eight vectors.
    #[inline(always)]
    unsafe fn sum8(v: &[Self; 8]) -> [f64; 8] {
        // SAFETY: as for `sum`.
        std::array::from_fn(|i| unsafe { v[i].sum() })
    }
    /// `rows[k]` holds N functions of neighbour k; writes N rows of eight neighbours, `ld` doubles apart.
    unsafe fn store_transposed(rows: &[Self; 8], dst: *mut f64, ld: usize);
    /// Prefetches the cache line.
    unsafe fn prefetch(_p: *const f64) {}
}

/// A vector of single precision.
///
/// # Safety
/// As for [`Lanes`]; pointers must be valid for `N` numbers.
pub(crate) unsafe trait Singles: Copy {
    /// Numbers per vector: 8 or 16.
    const N: usize;

    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn splat(x: f32) -> Self;
    /// `self * b + c`
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// A bit for each lane whose absolute value is not below that of `limit`, which includes NaN in either.
    unsafe fn not_below(self, limit: Self) -> u32;
}

/// Single precision on any processor.
#[derive(Clone, Copy)]
pub(crate) struct PortableSingle([f32; 8]);

// SAFETY: uses no instruction beyond the target's baseline.
unsafe impl Singles for PortableSingle {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller gives a pointer to N numbers.
        PortableSingle(unsafe { p.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { p.cast::<[f32; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        PortableSingle([x; 8])
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        PortableSingle(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    unsafe fn not_below(self, limit: Self) -> u32 {
        (0..8).map(|i| u32::from(!(self.0[i].abs() < limit.0[i])) << i).sum()
    }
}

/// Vectors for any processor: arrays that the compiler may vectorise.
#[derive(Clone, Copy)]
pub(crate) struct Portable<const N: usize>([f64; N]);

impl<const N: usize> Portable<N> {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

// SAFETY: uses no instruction beyond the target's baseline.
unsafe impl<const N: usize> Lanes for Portable<N> {
    const N: usize = N;
    // The baselines of x86-64 and aarch64 have at least 16 registers, two per vector of four.
    const REGISTERS: usize = 8;
    type Half = Portable<4>;
    type Single = PortableSingle;

    #[inline(always)]
    unsafe fn load(p: *const f64) -> Self {
        // SAFETY: the caller gives a pointer to N doubles.
        Portable(unsafe { p.cast::<[f64; N]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f64) {
        // SAFETY: as for `load`.
        unsafe { p.cast::<[f64; N]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(x: f64) -> Self {
        Portable([x; N])
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    unsafe fn fnma(self, b: Self, c: Self) -> Self {
        Portable(std::array::from_fn(|i| c.0[i] - self.0[i] * b.0[i]))
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Portable(self.0.map(f64::sqrt))
    }
    #[inline(always)]
    unsafe fn floor(self) -> Self {
        Portable(self.0.map(f64::floor))
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn any_not_below(self, b: Self) -> bool {
        (0..N).any(|i| !(self.0[i] < b.0[i]))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f64 {
        self.0.chunks(4).map(|c| c.iter().sum::<f64>()).sum()
    }
    #[inline(always)]
    unsafe fn store_transposed(rows: &[Self; 8], dst: *mut f64, ld: usize) {
        for f in 0..N {
            for (k, row) in rows.iter().enumerate() {
                // SAFETY: the caller gives room for N rows of eight doubles.
                unsafe { *dst.add(f * ld + k) = row.0[f] };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::{Lanes, Singles};
    use std::arch::x86_64::*;

    /// Eight doubles in a 512-bit register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512d);

    // SAFETY: the methods need AVX-512F, which callers of the trait guarantee.
    unsafe impl Lanes for Avx512 {
        const N: usize = 8;
        const REGISTERS: usize = 32;
        type Half = Avx2;
        type Single = Avx512Single;

        #[inline(always)]
        unsafe fn load(p: *const f64) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_loadu_pd(p) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f64) {
            // SAFETY: see the trait.
            unsafe { _mm512_storeu_pd(p, self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f64) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_set1_pd(x) })
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_add_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_sub_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_mul_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_fmadd_pd(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn fnma(self, b: Self, c: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_fnmadd_pd(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_div_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_sqrt_pd(self.0) })
        }
        #[inline(always)]
        unsafe fn floor(self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_roundscale_pd::<0x09>(self.0) })
        }
        #[inline(always)]
        unsafe fn min(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_min_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn max(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx512(unsafe { _mm512_max_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sum8(v: &[Self; 8]) -> [f64; 8] {
            // SAFETY: see the trait.
            unsafe {
                // Adjacent lanes, then 128-bit quarters, then halves.
                let pair = |a: usize, b: usize| {
                    _mm512_add_pd(_mm512_unpacklo_pd(v[a].0, v[b].0), _mm512_unpackhi_pd(v[a].0, v[b].0))
                };
                let (p0, p1, p2, p3) = (pair(0, 1), pair(2, 3), pair(4, 5), pair(6, 7));
                let quad = |a, b| _mm512_add_pd(_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xdd>(a, b));
                let all = quad(quad(p0, p1), quad(p2, p3));
                let mut out = [0.0; 8];
                _mm512_storeu_pd(out.as_mut_ptr(), all);
                out
            }
        }
        #[inline(always)]
        unsafe fn any_not_below(self, b: Self) -> bool {
            // SAFETY: see the trait.
            unsafe { _mm512_cmp_pd_mask::<_CMP_NLT_UQ>(self.0, b.0) != 0 }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f64 {
            // SAFETY: see the trait.
            unsafe { _mm512_reduce_add_pd(self.0) }
        }
        #[inline(always)]
        unsafe fn store_transposed(r: &[Self; 8], dst: *mut f64, ld: usize) {
            // SAFETY: see the trait; `dst` has room for eight rows.
            unsafe {
                let lo = |a: usize, b: usize| _mm512_unpacklo_pd(r[a].0, r[b].0);
                let hi = |a: usize, b: usize| _mm512_unpackhi_pd(r[a].0, r[b].0);
                let (t0, t1, t2, t3) = (lo(0, 1), hi(0, 1), lo(2, 3), hi(2, 3));
                let (t4, t5, t6, t7) = (lo(4, 5), hi(4, 5), lo(6, 7), hi(6, 7));
                let even = |a, b| _mm512_shuffle_f64x2::<0x88>(a, b);
                let odd = |a, b| _mm512_shuffle_f64x2::<0xdd>(a, b);
                // Pairs of functions, by 128-bit quarter: 0 and 2, then 1 and 3.
                let (a02, a13) = (even(t0, t2), odd(t0, t2));
                let (b02, b13) = (even(t1, t3), odd(t1, t3));
                let (c02, c13) = (even(t4, t6), odd(t4, t6));
                let (d02, d13) = (even(t5, t7), odd(t5, t7));
                let out = [
                    even(a02, c02),
                    even(b02, d02),
                    even(a13, c13),
                    even(b13, d13),
                    odd(a02, c02),
                    odd(b02, d02),
                    odd(a13, c13),
                    odd(b13, d13),
                ];
                for (f, v) in out.into_iter().enumerate() {
                    _mm512_storeu_pd(dst.add(f * ld), v);
                }
            }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f64) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    }

    /// Sixteen numbers in a 512-bit register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512Single(__m512);

    // SAFETY: the methods need AVX-512F, which callers of the trait guarantee.
    unsafe impl Singles for Avx512Single {
        const N: usize = 16;

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: see the trait.
            Avx512Single(unsafe { _mm512_loadu_ps(p) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: see the trait.
            unsafe { _mm512_storeu_ps(p, self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see the trait.
            Avx512Single(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: see the trait.
            Avx512Single(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn not_below(self, limit: Self) -> u32 {
            // SAFETY: see the trait.
            unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(self.0), limit.0)) }
        }
    }

    /// Eight numbers in a 256-bit register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2Single(__m256);

    // SAFETY: the methods need AVX2 and FMA, which callers of the trait guarantee.
    unsafe impl Singles for Avx2Single {
        const N: usize = 8;

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: see the trait.
            Avx2Single(unsafe { _mm256_loadu_ps(p) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: see the trait.
            unsafe { _mm256_storeu_ps(p, self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see the trait.
            Avx2Single(unsafe { _mm256_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: see the trait.
            Avx2Single(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn not_below(self, limit: Self) -> u32 {
            // SAFETY: see the trait.
            unsafe {
                let size = _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0);
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(size, limit.0)) as u32
            }
        }
    }

    /// Four doubles in a 256-bit register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256d);

    // SAFETY: the methods need AVX2 and FMA, which callers of the trait guarantee.
    unsafe impl Lanes for Avx2 {
        const N: usize = 4;
        const REGISTERS: usize = 16;
        type Half = Self;
        type Single = Avx2Single;

        #[inline(always)]
        unsafe fn load(p: *const f64) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_loadu_pd(p) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f64) {
            // SAFETY: see the trait.
            unsafe { _mm256_storeu_pd(p, self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f64) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_set1_pd(x) })
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_add_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_sub_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_mul_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_fmadd_pd(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn fnma(self, b: Self, c: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_fnmadd_pd(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_div_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_sqrt_pd(self.0) })
        }
        #[inline(always)]
        unsafe fn floor(self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_floor_pd(self.0) })
        }
        #[inline(always)]
        unsafe fn min(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_min_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn max(self, b: Self) -> Self {
            // SAFETY: see the trait.
            Avx2(unsafe { _mm256_max_pd(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn any_not_below(self, b: Self) -> bool {
            // SAFETY: see the trait.
            unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_NLT_UQ>(self.0, b.0)) != 0 }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f64 {
            // SAFETY: see the trait.
            unsafe {
                let s = _mm_add_pd(_mm256_castpd256_pd128(self.0), _mm256_extractf128_pd::<1>(self.0));
                _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)))
            }
        }
        #[inline(always)]
        unsafe fn store_transposed(r: &[Self; 8], dst: *mut f64, ld: usize) {
            for h in 0..2 {
                // SAFETY: see the trait; `dst` has room for four rows of eight.
                unsafe {
                    let (a, b, c, d) = (r[4 * h].0, r[4 * h + 1].0, r[4 * h + 2].0, r[4 * h + 3].0);
                    let (t0, t1) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
                    let (t2, t3) = (_mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d));
                    let p = dst.add(4 * h);
                    _mm256_storeu_pd(p, _mm256_permute2f128_pd::<0x20>(t0, t2));
                    _mm256_storeu_pd(p.add(ld), _mm256_permute2f128_pd::<0x20>(t1, t3));
                    _mm256_storeu_pd(p.add(2 * ld), _mm256_permute2f128_pd::<0x31>(t0, t2));
                    _mm256_storeu_pd(p.add(3 * ld), _mm256_permute2f128_pd::<0x31>(t1, t3));
                }
            }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f64) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    }
}

/// Instruction set that the kernels run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// The baseline of the compiler's target.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
}

impl Isa {
    /// The fastest set that this processor supports.
    pub fn detect() -> Self {
        Self::available().last().copied().unwrap_or(Isa::Portable)
    }

    /// All sets that this processor supports, slowest first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut v = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("popcnt")
            {
                v.push(Isa::Avx2);
                if is_x86_feature_detected!("avx512f") {
                    v.push(Isa::Avx512);
                }
            }
        }
        v
    }

    /// The set with this [`name`](Self::name); `None` if the name is unknown or the processor lacks the set.
    pub fn named(name: &str) -> Option<Self> {
        let isa = match name {
            "portable" => Isa::Portable,
            "avx2" => Isa::Avx2,
            "avx512" => Isa::Avx512,
            _ => return None,
        };
        Self::available().contains(&isa).then_some(isa)
    }

    /// The name that the environment variable `PACE_OPT_ISA` takes: `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}
