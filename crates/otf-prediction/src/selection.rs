// SPDX-License-Identifier: GPL-2.0-or-later
//! D-optimal selection of the candidates to label.
//!
//! Each core atom of a candidate has a row of projections B on the basis functions. In c = B A⁻¹ this row is a combination of
//! the rows of the active set A. The largest coefficient, in absolute value, is γ: the factor by which |det A| grows if the row
//! replaces the corresponding row of A. MaxVol (Goreinov et al., in *Matrix Methods*, 2010) makes such exchanges, the largest
//! first, until no exchange increases |det A| sufficiently. The candidates whose rows have entered the active set are the
//! D-optimal choice (Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017); for ACE: Lysogorskiy et al., Phys. Rev.
//! Materials 7, 043801 (2023)). Of two cut-outs of the same defect only one is chosen, because its rows span those of the
//! other.

/// Minimum factor by which an exchange must increase the determinant, as in the active sets of pacemaker.
const MIN_GAIN: f64 = 1.01;

/// The rows c = B A⁻¹ of the core atoms of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Projected {
    /// Id of the candidate.
    pub id: i64,
    /// For each core atom, the index of its element in the potential, and its row.
    pub rows: Vec<(usize, Vec<f64>)>,
}

impl Projected {
    /// The largest γ of the core atoms; infinite if a value is NaN.
    #[must_use]
    pub fn gamma(&self) -> f64 {
        self.rows.iter().flat_map(|(_, row)| row).fold(0.0, |most, c| max_or_infinite(most, c.abs()))
    }
}

/// The maximum of two numbers; infinite if `b` is NaN.
fn max_or_infinite(a: f64, b: f64) -> f64 {
    if b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// Selects at most `limit` candidates by D-optimality, the one with the largest γ first. Returns fewer if the remaining
/// candidates are spanned by the selected ones. `first` are selected before all others, up to the limit; they need not be in `pool`.
///
/// Of equal candidates the one with the lower id is selected, so that the result does not depend on the order of `pool`.
#[must_use]
pub fn select(mut pool: Vec<Projected>, first: &[i64], limit: usize) -> Vec<i64> {
    pool.sort_by_key(|candidate| candidate.id);
    // A row that is not finite spans nothing, and an exchange with it would make all other rows non-finite.
    let (not_finite, mut pool): (Vec<_>, Vec<_>) = pool.into_iter().partition(|p| !p.gamma().is_finite());
    let not_finite = not_finite.into_iter().map(|p| p.id).filter(|id| !first.contains(id));
    let mut chosen: Vec<i64> = first.iter().copied().chain(not_finite).take(limit).collect();
    let species: Vec<usize> = {
        let mut all: Vec<usize> = pool.iter().flat_map(|p| p.rows.iter().map(|(s, _)| *s)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    loop {
        let full = chosen.len() >= limit;
        // More rows of chosen candidates may enter, so that candidates that they span are not chosen.
        let allowed = |id: i64| !full || chosen.contains(&id);
        let best = species.iter().filter_map(|&s| largest(&pool, s, allowed)).max_by(|a, b| {
            // Reversed, so that the lower id wins a tie.
            a.value.abs().total_cmp(&b.value.abs()).then(b.at.cmp(&a.at))
        });
        let Some(best) = best.filter(|best| best.value.abs() > MIN_GAIN) else { return chosen };
        let id = pool[best.at.0].id;
        if !chosen.contains(&id) {
            chosen.push(id);
        }
        exchange(&mut pool, &best);
    }
}

/// A coefficient of a row.
struct Entry {
    /// Index of the candidate, row and column.
    at: (usize, usize, usize),
    species: usize,
    value: f64,
}

/// The largest coefficient, in absolute value, of the rows of a species.
fn largest(pool: &[Projected], species: usize, allowed: impl Fn(i64) -> bool) -> Option<Entry> {
    let mut best: Option<Entry> = None;
    for (c, candidate) in pool.iter().enumerate().filter(|(_, candidate)| allowed(candidate.id)) {
        for (r, (_, row)) in candidate.rows.iter().enumerate().filter(|(_, (s, _))| *s == species) {
            for (k, &value) in row.iter().enumerate() {
                if best.as_ref().is_none_or(|b| value.abs() > b.value.abs()) {
                    best = Some(Entry { at: (c, r, k), species, value });
                }
            }
        }
    }
    best
}

/// Exchanges a row of the active set, and expresses all rows as combinations of the new active set.
fn exchange(pool: &mut [Projected], entry: &Entry) {
    let (c, r, k) = entry.at;
    let mut change = pool[c].rows[r].1.clone();
    change[k] -= 1.0;
    for (species, row) in pool.iter_mut().flat_map(|candidate| &mut candidate.rows) {
        if *species == entry.species {
            let factor = row[k] / entry.value;
            row.iter_mut().zip(&change).for_each(|(x, d)| *x -= factor * d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: i64, rows: &[&[f64]]) -> Projected {
        Projected { id, rows: rows.iter().map(|r| (0, r.to_vec())).collect() }
    }

    #[test]
    fn the_largest_gamma_is_first_and_spanned_candidates_are_not_selected() {
        let pool = vec![
            candidate(1, &[&[0.9, 0.1, 0.0]]),
            candidate(2, &[&[6.0, 0.0, 0.0]]),
            candidate(3, &[&[7.0, 0.1, 0.0]]),
            candidate(4, &[&[0.0, 0.2, -4.0]]),
        ];
        assert_eq!(select(pool.clone(), &[], 10), [3, 4]);
        assert_eq!(select(pool, &[], 1), [3]);
    }

    #[test]
    fn the_first_are_selected_whatever_their_gamma() {
        let pool = vec![candidate(1, &[&[0.2, 0.1]]), candidate(2, &[&[6.0, 0.0]]), candidate(3, &[&[f64::NAN, 0.0]])];
        assert_eq!(select(pool.clone(), &[1, 9], 10), [1, 9, 3, 2]);
        assert_eq!(select(pool.clone(), &[1, 9], 1), [1]);
        // Rows of the first enter the active set too: 4 is spanned by 2.
        let more = vec![pool[1].clone(), candidate(4, &[&[5.9, 0.0]])];
        assert_eq!(select(more, &[2], 10), [2]);
    }

    #[test]
    fn the_order_of_the_pool_does_not_matter() {
        let mut pool = vec![candidate(5, &[&[3.0, 1.0]]), candidate(2, &[&[3.0, 1.0]]), candidate(9, &[&[1.0, 2.5]])];
        let chosen = select(pool.clone(), &[], 10);
        pool.reverse();
        assert_eq!(select(pool, &[], 10), chosen);
        assert_eq!(chosen[0], 2, "the lower id of two equal candidates");
    }

    #[test]
    fn candidates_below_gamma_one_are_not_selected_and_those_with_nan_are() {
        assert!(select(vec![candidate(1, &[&[0.5, -1.0]])], &[], 3).is_empty());
        assert_eq!(select(vec![candidate(1, &[&[f64::NAN, 0.0]]), candidate(2, &[&[8.0, 0.0]])], &[], 3), [1, 2]);
    }

    #[test]
    fn exchanges_keep_rows_as_combinations_of_the_set() {
        let mut pool = vec![candidate(1, &[&[3.0, 1.0], &[0.5, 2.0]])];
        let best = largest(&pool, 0, |_| true).unwrap();
        exchange(&mut pool, &best);
        // The set is now (3, 1) and (0, 1): (0.5, 2) = (3, 1) / 6 + (0, 1) (2 - 1/6).
        assert_eq!(pool[0].rows[0].1, [1.0, 0.0]);
        let row = &pool[0].rows[1].1;
        assert!((row[0] - 1.0 / 6.0).abs() < 1e-15 && (row[1] - 11.0 / 6.0).abs() < 1e-15, "{row:?}");
    }
}
