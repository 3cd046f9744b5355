// SPDX-License-Identifier: GPL-2.0-or-later
//! What LAMMPS finds by comparing names, found once for many polls.

use std::cell::OnceCell;
use std::ffi::{CStr, c_char, c_int, c_void};

use super::{Error, Lammps, guarded, sys};
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
    /// The time at the step `time_step`, and the time step since then.
    time: *const f64,
    time_step: *const i64,
    timestep: *const f64,
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

    /// The simulated time in the unit of the set-up (ps for metal): that of the thermo keyword `time`. It follows every change of
    /// the time step, and a restart file holds it.
    #[must_use]
    pub fn time(&self) -> f64 {
        let Places { time, time_step, .. } = self.places();
        // SAFETY: numbers of these kinds, see `Places`.
        let (time, at) = unsafe { (time.as_ref(), time_step.as_ref()) };
        let since = self.step() - at.copied().unwrap_or_default();
        time.copied().unwrap_or_default() + since as f64 * self.timestep()
    }

    /// The present time step in the unit of the set-up (ps for metal).
    #[must_use]
    pub fn timestep(&self) -> f64 {
        // SAFETY: a double, see `Places`.
        unsafe { self.places().timestep.as_ref() }.copied().unwrap_or_default()
    }

    /// Makes `time` that of the present step.
    pub(crate) fn set_time(&mut self, time: f64) {
        let step = self.step();
        let Places { time: at, time_step, .. } = self.places();
        // SAFETY: numbers of these kinds, see `Places`, which LAMMPS reads when it needs the time; &mut self says that no view of
        // the instance is alive.
        unsafe {
            if let (Some(at), Some(time_step)) = (at.cast_mut().as_mut(), time_step.cast_mut().as_mut()) {
                (*at, *time_step) = (time, step);
            }
        }
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
                time: find(c"atime").cast(),
                time_step: find(c"atimestep").cast(),
                timestep: find(c"dt").cast(),
                atoms: find(c"nlocal").cast(),
                low: find(c"boxlo").cast(),
                high: find(c"boxhi").cast(),
                tilts: [c"xy", c"xz", c"yz"].map(|name| find(name).cast::<f64>().cast_const()),
                periodic: find(c"periodicity").cast(),
            }
        })
    }

    pub(super) fn columns(&self) -> Result<&[Column], Error> {
        if let Some(columns) = self.found.columns.get() {
            return Ok(columns);
        }
        // SAFETY: "num" is an int.
        let number = self.thermo(c"num", 0)?.map_or(0, |p| unsafe { *p.cast::<c_int>() });
        let mut columns = Vec::new();
        for index in 0..number {
            let (keyword, kind) = (self.thermo(c"keyword", index)?, self.thermo(c"type", index)?);
            let Some((keyword, kind)) = keyword.zip(kind) else { continue };
            // SAFETY: "keyword" is a C string that lives until the thermo style changes, and "type" an int.
            let (keyword, kind) = unsafe { (CStr::from_ptr(keyword.cast::<c_char>()), *kind.cast::<c_int>()) };
            columns.push(Column { keyword: keyword.to_string_lossy().into_owned(), index, kind });
        }
        Ok(self.found.columns.get_or_init(|| columns))
    }

    /// The value of a column as last printed.
    pub(super) fn printed(&self, column: &Column) -> Result<Option<f64>, Error> {
        let Some(data) = self.thermo(c"data", column.index)? else { return Ok(None) };
        // SAFETY: "data" is a value of the column's type.
        Ok(unsafe {
            match column.kind {
                0 => Some(f64::from(*data.cast::<i32>())),
                2 => Some(*data.cast::<f64>()),
                4 => Some(*data.cast::<i64>() as f64),
                _ => None,
            }
        })
    }

    fn thermo(&self, what: &CStr, index: c_int) -> Result<Option<*const c_void>, Error> {
        let found = guarded(
            "lammps_last_thermo",
            || what.to_string_lossy().into_owned(),
            self.comm.size(),
            // SAFETY: the handle is open and `what` a valid C string.
            |failure| unsafe { sys::otf_last_thermo(self.handle.as_ptr(), what.as_ptr(), index, failure) },
        );
        let found = found.map_err(|failure| self.error(failure))?;
        Ok(Some(found.cast_const()).filter(|p| !p.is_null()))
    }
}
