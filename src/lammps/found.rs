// SPDX-License-Identifier: GPL-2.0-or-later
//! What LAMMPS finds by comparing names, found once for many polls.

use std::cell::OnceCell;
use std::ffi::{CStr, c_char, c_int, c_void};

use super::{Lammps, guarded, sys};
use crate::structure::Cell;

/// What was found since the last command that may have moved it: any but a run which goes on ([`Lammps::run`] without set-up,
/// [`Lammps::begin`], [`Lammps::go_on`]).
#[derive(Default)]
pub(super) struct Found {
    places: OnceCell<Places>,
    columns: OnceCell<Vec<Column>>,
    /// Id of a fix that has a per-atom vector.
    pub(super) vector: OnceCell<String>,
}

/// Where LAMMPS keeps numbers of the whole instance: null where it does not know the name.
///
/// They are members of objects that only the command `clear` replaces, and so may be read as long as nothing was commanded since
/// they were found, which [`Lammps`] sees to.
struct Places {
    step: *const i64,
    atoms: *const c_int,
    low: *const [f64; 3],
    high: *const [f64; 3],
    tilts: [*const f64; 3],
    periodic: *const [c_int; 3],
}

/// A column of the table of thermodynamic values, which only commands and the set-up of a run change.
pub(super) struct Column {
    pub(super) keyword: String,
    index: c_int,
    kind: c_int,
}

impl Lammps {
    /// Number of atoms of this rank.
    #[must_use]
    pub fn local_atoms(&self) -> usize {
        // SAFETY: an int, see `Places`.
        unsafe { self.places().atoms.as_ref() }.map_or(0, |n| usize::try_from(*n).unwrap_or(0))
    }

    /// The current time step.
    #[must_use]
    pub fn step(&self) -> i64 {
        // SAFETY: a bigint, checked to be 64 bits wide in preflight; see `Places`.
        unsafe { self.places().step.as_ref() }.copied().unwrap_or_default()
    }

    /// The simulation box.
    #[must_use]
    pub fn cell(&self) -> Cell {
        let Places { low, high, tilts, periodic, .. } = self.places();
        // Not `lammps_extract_box`, which prepares a run on the way, and may fail at it.
        // SAFETY: numbers of these kinds, see `Places`.
        unsafe {
            let corner = |at: *const [f64; 3]| at.as_ref().copied().unwrap_or_default();
            let tilts = tilts.map(|at| at.as_ref().copied().unwrap_or_default());
            let periodic = periodic.as_ref().copied().unwrap_or_default().map(|p| p != 0);
            Cell::from_lammps(corner(*low), corner(*high), tilts, periodic)
        }
    }

    fn places(&self) -> &Places {
        self.found.places.get_or_init(|| {
            // SAFETY: the handle is open and the name a valid C string; the call compares names.
            let find = |name: &CStr| unsafe { sys::lammps_extract_global(self.handle.as_ptr(), name.as_ptr()) };
            Places {
                step: find(c"ntimestep").cast(),
                atoms: find(c"nlocal").cast(),
                low: find(c"boxlo").cast(),
                high: find(c"boxhi").cast(),
                tilts: [c"xy", c"xz", c"yz"].map(|name| find(name).cast::<f64>().cast_const()),
                periodic: find(c"periodicity").cast(),
            }
        })
    }

    pub(super) fn columns(&self) -> &[Column] {
        self.found.columns.get_or_init(|| {
            // SAFETY: "num" and "type" are an int, "keyword" a C string that lives until the thermo style changes.
            unsafe {
                let number = |what, index| self.thermo(what, index).map(|p| *p.cast::<c_int>());
                let column = |index| {
                    let keyword = CStr::from_ptr(self.thermo(c"keyword", index)?.cast::<c_char>());
                    let keyword = keyword.to_string_lossy().into_owned();
                    Some(Column { keyword, index, kind: number(c"type", index)? })
                };
                (0..number(c"num", 0).unwrap_or(0)).filter_map(column).collect()
            }
        })
    }

    /// The value of a column as last printed.
    pub(super) fn printed(&self, column: &Column) -> Option<f64> {
        let data = self.thermo(c"data", column.index)?;
        // SAFETY: "data" is a value of the column's type.
        unsafe {
            match column.kind {
                0 => Some(f64::from(*data.cast::<i32>())),
                2 => Some(*data.cast::<f64>()),
                4 => Some(*data.cast::<i64>() as f64),
                _ => None,
            }
        }
    }

    fn thermo(&self, what: &CStr, index: c_int) -> Option<*const c_void> {
        let found = guarded(
            "lammps_last_thermo",
            || what.to_string_lossy().into_owned(),
            // SAFETY: the handle is open and `what` a valid C string.
            |failure| unsafe { sys::otf_last_thermo(self.handle.as_ptr(), what.as_ptr(), index, failure) },
        );
        found.ok().map(<*mut c_void>::cast_const).filter(|p| !p.is_null())
    }
}
