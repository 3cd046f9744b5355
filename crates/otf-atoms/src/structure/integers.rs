// SPDX-License-Identifier: GPL-2.0-or-later
//! Integers of 32 or 64 bits, borrowed.

use ndarray::ArrayView1;

use super::AtomId;

/// Integers whose width is known at run time only: LAMMPS stores atom ids and image flags with 32 or 64 bits, depending on how it
/// was built (`-DLAMMPS_SIZES`).
///
/// A loop over many atoms should match the width once, outside of the loop.
#[derive(Debug, Clone, Copy)]
pub enum Integers<'a> {
    /// 32 bits (`smallbig`, LAMMPS's default); shape (n).
    I32(ArrayView1<'a, i32>),
    /// 64 bits (`bigbig`); shape (n).
    I64(ArrayView1<'a, i64>),
}

impl<'a> Integers<'a> {
    /// The same integers, borrowed for a shorter time.
    #[must_use]
    pub fn view(&self) -> Integers<'_> {
        match self {
            Self::I32(values) => Integers::I32(values.view()),
            Self::I64(values) => Integers::I64(values.view()),
        }
    }

    /// The number of integers.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::I32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer at `index`, from 0.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> i64 {
        match self {
            Self::I32(values) => values[index].into(),
            Self::I64(values) => values[index],
        }
    }

    /// The integers in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = i64> + DoubleEndedIterator + Clone + use<'a> {
        let integers = *self;
        (0..integers.len()).map(move |index| integers.get(index))
    }

    /// The index of the first integer that equals `value`.
    #[must_use]
    pub fn position(&self, value: AtomId) -> Option<usize> {
        match self {
            Self::I32(values) => {
                let value = i32::try_from(value).ok()?;
                values.iter().position(|own| *own == value)
            }
            Self::I64(values) => values.iter().position(|own| *own == value),
        }
    }
}

impl<'a> From<ArrayView1<'a, i32>> for Integers<'a> {
    fn from(values: ArrayView1<'a, i32>) -> Self {
        Self::I32(values)
    }
}

impl<'a> From<ArrayView1<'a, i64>> for Integers<'a> {
    fn from(values: ArrayView1<'a, i64>) -> Self {
        Self::I64(values)
    }
}

impl<'a> From<&'a [i32]> for Integers<'a> {
    fn from(values: &'a [i32]) -> Self {
        Self::I32(values.into())
    }
}

impl<'a> From<&'a [i64]> for Integers<'a> {
    fn from(values: &'a [i64]) -> Self {
        Self::I64(values.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_widths_have_the_same_interface() {
        let (narrow, wide) = ([7_i32, -1, i32::MAX], [7_i64, -1, i64::MAX]);
        let (narrow, wide) = (Integers::from(&narrow[..]), Integers::from(&wide[..]));
        assert_eq!((narrow.len(), wide.len(), narrow.is_empty()), (3, 3, false));
        assert_eq!(narrow.iter().collect::<Vec<_>>(), [7, -1, i32::MAX.into()]);
        assert_eq!(wide.iter().rev().collect::<Vec<_>>(), [i64::MAX, -1, 7]);
        assert_eq!((narrow.position(-1), wide.position(-1)), (Some(1), Some(1)));
        // Equal only in the lower 32 bits.
        assert_eq!((narrow.position((1 << 32) + 7), wide.position((1 << 32) + 7)), (None, None));
        assert_eq!(wide.position(i64::MAX), Some(2));
    }
}
