// SPDX-License-Identifier: GPL-2.0-or-later
//! Neighbours within the cutoff, four candidates at a time.

use super::{GatherJob, MAX_GATHER_ELEMENTS, Range};
use crate::simd::{OCT, flat};
use std::arch::x86_64::*;

/// Candidates that are processed together.
const WIDTH: usize = 4;

/// For each set of hits, the permutation of 32-bit halves that moves the doubles of the hits to the front.
const DOUBLES: [[i32; 8]; 16] = permutations(2, 1);
/// The same for the first half of each double only.
const FIRST_HALVES: [[i32; 8]; 16] = permutations(1, 0);

/// For each set of hits, the indices of the `each` halves of each hit.
const fn permutations(each: usize, second: i32) -> [[i32; 8]; 16] {
    let mut out = [[0; 8]; 16];
    let mut hits = 0;
    while hits < 16 {
        let (mut lane, mut n) = (0, 0);
        while lane < WIDTH {
            if hits >> lane & 1 == 1 {
                out[hits][n] = 2 * lane as i32;
                if each == 2 {
                    out[hits][n + 1] = 2 * lane as i32 + second;
                }
                n += each;
            }
            lane += 1;
        }
        hits += 1;
    }
    out
}

/// Fills the ranges of an atom. Returns false, with the ranges undefined, if a neighbour does not exist.
///
/// # Safety
/// The processor has AVX2, FMA and POPCNT; all atoms have an element of the potential, of which there are at most
/// [`MAX_GATHER_ELEMENTS`].
#[target_feature(enable = "avx2,fma,popcnt")]
pub(crate) unsafe fn run(job: &mut GatherJob) -> bool {
    let elements = job.cutoffs.len();
    // Each element has room for all candidates and for three more, which a store of four may write beyond the last.
    let room = (job.list.len() + WIDTH).div_ceil(OCT);
    let blocks = room * elements;
    let atom = &mut *job.atom;
    atom.reserve(blocks);
    // SAFETY: each of the at most `E` elements has `room` blocks, enough for all candidates and three more.
    let counts =
        unsafe { if elements == 1 { select::<1>(job, room) } else { select::<MAX_GATHER_ELEMENTS>(job, room) } };
    let Some(counts) = counts else { return false };
    let atom = &mut *job.atom;
    atom.ranges.clear();
    let (x, y, z) = (flat(&mut atom.x), flat(&mut atom.y), flat(&mut atom.z));
    for (e, &count) in counts[..elements].iter().enumerate() {
        let (block, blocks) = (e * room, count.div_ceil(OCT));
        atom.ranges.push(Range { block, blocks, count, ..Range::default() });
        // Padding is beyond the cutoff.
        for k in block * OCT + count..(block + blocks) * OCT {
            (x[k], y[k], z[k]) = (0.0, 0.0, 2.0 * job.cutoffs[e].unwrap_or(0.0));
        }
    }
    true
}

/// Writes the neighbours within the cutoff, those of each of up to `E` elements to its `room` blocks. Returns their numbers,
/// `None` if a neighbour does not exist.
///
/// # Safety
/// As for [`run`]; each element has room for all candidates and three more.
#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn select<const E: usize>(job: &mut GatherJob, room: usize) -> Option<[usize; MAX_GATHER_ELEMENTS]> {
    let GatherJob { all, list, mask, atom, cutoffs } = job;
    let centre = all.get(atom.index)?;
    let (x, y, z) = (flat(&mut atom.x).as_mut_ptr(), flat(&mut atom.y).as_mut_ptr(), flat(&mut atom.z).as_mut_ptr());
    let neighbour = atom.neighbour.as_mut_ptr();
    let [cx, cy, cz] = centre.x.map(|c| _mm256_set1_pd(c));
    let mut squares = [_mm256_setzero_pd(); E];
    for (s, c) in squares.iter_mut().zip(cutoffs.iter()) {
        *s = _mm256_set1_pd(c.map_or(-1.0, |c| c * c));
    }
    let mut counts = [0usize; E];
    let mut four = |candidates: [i32; WIDTH], real: usize| {
        let mut rows = [_mm256_setzero_pd(); WIDTH];
        for (row, j) in rows.iter_mut().zip(candidates) {
            let candidate = all.get((j & *mask) as usize)?;
            // SAFETY: `Packed` is plain data of 32 bytes, aligned to 32.
            *row = unsafe { _mm256_load_pd(std::ptr::from_ref(candidate).cast()) };
        }
        let (t0, t1) = (_mm256_unpacklo_pd(rows[0], rows[1]), _mm256_unpackhi_pd(rows[0], rows[1]));
        let (t2, t3) = (_mm256_unpacklo_pd(rows[2], rows[3]), _mm256_unpackhi_pd(rows[2], rows[3]));
        let dx = _mm256_sub_pd(_mm256_permute2f128_pd::<0x20>(t0, t2), cx);
        let dy = _mm256_sub_pd(_mm256_permute2f128_pd::<0x20>(t1, t3), cy);
        let dz = _mm256_sub_pd(_mm256_permute2f128_pd::<0x31>(t0, t2), cz);
        let who = _mm256_castpd_si256(_mm256_permute2f128_pd::<0x31>(t1, t3));
        let square = _mm256_fmadd_pd(dz, dz, _mm256_fmadd_pd(dy, dy, _mm256_mul_pd(dx, dx)));
        for e in 0..E.min(cutoffs.len()) {
            // NaN counts as near, so that the first stage reports it.
            let mut near = _mm256_cmp_pd::<_CMP_NGE_UQ>(square, squares[e]);
            if E > 1 {
                let same = _mm256_cmpeq_epi64(_mm256_srli_epi64::<32>(who), _mm256_set1_epi64x(e as i64));
                near = _mm256_and_pd(near, _mm256_castsi256_pd(same));
            }
            let hits = _mm256_movemask_pd(near) as usize & real;
            let at = e * room * OCT + counts[e];
            // SAFETY: `counts[e]` is at most the number of candidates before these four, so `room` holds four more.
            unsafe {
                let order = _mm256_loadu_si256(DOUBLES[hits].as_ptr().cast());
                let halves = _mm256_loadu_si256(FIRST_HALVES[hits].as_ptr().cast());
                let front = |v| _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(_mm256_castpd_si256(v), order));
                _mm256_storeu_pd(x.add(at), front(dx));
                _mm256_storeu_pd(y.add(at), front(dy));
                _mm256_storeu_pd(z.add(at), front(dz));
                let index = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(who, halves));
                _mm_storeu_si128(neighbour.add(at).cast(), index);
            }
            counts[e] += hits.count_ones() as usize;
        }
        Some(())
    };
    let chunks = list.chunks_exact(WIDTH);
    let rest = chunks.remainder();
    for chunk in chunks {
        four([chunk[0], chunk[1], chunk[2], chunk[3]], 0b1111)?;
    }
    if let Some(&first) = rest.first() {
        // Missing candidates repeat the first one and are masked out.
        four(std::array::from_fn(|k| *rest.get(k).unwrap_or(&first)), (1 << rest.len()) - 1)?;
    }
    let mut all_counts = [0; MAX_GATHER_ELEMENTS];
    all_counts[..E].copy_from_slice(&counts);
    Some(all_counts)
}
