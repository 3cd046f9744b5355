// SPDX-License-Identifier: GPL-2.0-or-later
//! Image flags: how often an atom has crossed each periodic boundary, packed into one integer.

use crate::structure::Integers;

/// How LAMMPS packs the three image flags of an atom: `IMGBITS` bits for each, x in the lowest, with an offset that makes
/// them positive. They wrap around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImagePacking {
    bits: u32,
}

impl ImagePacking {
    /// That of image flags of 32 bits.
    pub(crate) const NARROW: Self = Self { bits: 10 };
    /// That of image flags of 64 bits (`-DLAMMPS_SIZES=bigbig`).
    pub(crate) const WIDE: Self = Self { bits: 21 };

    /// That of these image flags.
    pub(crate) fn of(images: Integers<'_>) -> Self {
        match images {
            Integers::I32(_) => Self::NARROW,
            Integers::I64(_) => Self::WIDE,
        }
    }

    /// The packed flags for these numbers of crossings.
    pub(crate) fn pack(self, crossings: [i64; 3]) -> i64 {
        let [x, y, z] = crossings.map(|n| (n + (1 << (self.bits - 1))) & self.mask());
        x | (y << self.bits) | (z << (2 * self.bits))
    }

    /// How often an atom has crossed each boundary between two packed flags.
    pub(crate) fn crossings(self, from: i64, to: i64) -> [f64; 3] {
        let flag = |packed: i64, k: u32| (packed >> (self.bits * k)) & self.mask();
        [0, 1, 2].map(|k| {
            let crossings = (flag(to, k) - flag(from, k)) & self.mask();
            let wrapped = if crossings > self.mask() / 2 { crossings - self.mask() - 1 } else { crossings };
            wrapped as f64
        })
    }

    fn mask(self) -> i64 {
        (1 << self.bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_packings_wrap_around() {
        for (packing, half) in [(ImagePacking::NARROW, 1 << 9), (ImagePacking::WIDE, 1 << 20)] {
            let crossings = |from, to| packing.crossings(packing.pack(from), packing.pack(to));
            assert_eq!(crossings([0; 3], [1, -2, 3]), [1.0, -2.0, 3.0]);
            assert_eq!(crossings([half - 1, 0, 5], [-half, -1, 5]), [1.0, -1.0, 0.0]);
            assert_eq!(crossings([-half, 0, -half], [half - 1, 0, half - 1]), [-1.0, 0.0, -1.0]);
        }
        // The numbers of LAMMPS's lmptype.h for an atom that has crossed nothing.
        assert_eq!(ImagePacking::NARROW.pack([0; 3]), (512 << 20) | (512 << 10) | 512);
        assert_eq!(ImagePacking::WIDE.pack([0; 3]), (1_048_576 << 42) | (1_048_576 << 21) | 1_048_576);
        // Narrow flags fit in 32 bits, wide flags in 63.
        assert!(i32::try_from(ImagePacking::NARROW.pack([511; 3])).is_ok());
        assert!(ImagePacking::WIDE.pack([(1 << 20) - 1; 3]) > 0);
    }
}
