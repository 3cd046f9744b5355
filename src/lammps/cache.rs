// SPDX-License-Identifier: GPL-2.0-or-later
//! Addresses and ids that LAMMPS looks up by name, cached for many polls.

use std::cell::{OnceCell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};

use super::{Error, Lammps, guarded, sys};
use crate::structure::Cell;

/// The results of look-ups since the last command that may invalidate them: any except a run without set-up ([`Lammps::run`],
/// [`Lammps::begin_run`], [`Lammps::continue_run`]).
#[derive(Default)]
pub(super) struct ExtractCache {
    globals: OnceCell<GlobalPointers>,
    columns: OnceCell<Vec<Column>>,
    /// Ids of fixes that are known to have a per-atom vector.
    pub(super) vectors: RefCell<Vec<String>>,
}

/// Pointers to global quantities; null for a name that LAMMPS does not have.
///
/// They point to members of objects that only the command `clear` replaces. [`Lammps`] discards the cache before each command.
struct GlobalPointers {
    step: *const i64,
    /// The time at step `time_at`; `timestep` holds since then.
    time: *const f64,
    time_at: *const i64,
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
        // SAFETY: an int, see `GlobalPointers`.
        unsafe { self.globals().atoms.as_ref() }.map_or(0, |n| usize::try_from(*n).unwrap_or(0))
    }

    /// The current time step.
    #[must_use]
    pub fn step(&self) -> i64 {
        // SAFETY: a bigint, checked to be 64 bits wide in preflight; see `GlobalPointers`.
        unsafe { self.globals().step.as_ref() }.copied().unwrap_or_default()
    }

    /// The simulated time in the unit of the set-up (ps for metal), as the thermo keyword `time` prints it. It accounts for every
    /// change of the time step, and restart files contain it.
    #[must_use]
    pub fn time(&self) -> f64 {
        let GlobalPointers { time, time_at, .. } = self.globals();
        // SAFETY: numbers of these types, see `GlobalPointers`.
        let (time, at) = unsafe { (time.as_ref(), time_at.as_ref()) };
        let since = self.step() - at.copied().unwrap_or_default();
        time.copied().unwrap_or_default() + since as f64 * self.timestep()
    }

    /// The length of a time step in the unit of the set-up (ps for metal).
    #[must_use]
    pub fn timestep(&self) -> f64 {
        // SAFETY: a double, see `GlobalPointers`.
        unsafe { self.globals().timestep.as_ref() }.copied().unwrap_or_default()
    }

    /// Sets the simulated time at the current step.
    pub(crate) fn set_time(&mut self, time: f64) {
        let step = self.step();
        let GlobalPointers { time: target, time_at, .. } = self.globals();
        // SAFETY: numbers of these types, see `GlobalPointers`; &mut self means that no view of the instance is alive.
        unsafe {
            if let (Some(target), Some(at)) = (target.cast_mut().as_mut(), time_at.cast_mut().as_mut()) {
                (*target, *at) = (time, step);
            }
        }
    }

    /// The simulation box.
    #[must_use]
    pub fn cell(&self) -> Cell {
        let GlobalPointers { low, high, tilts, periodic, .. } = self.globals();
        // Not `lammps_extract_box`, which initialises a run, and can fail in it.
        // SAFETY: numbers of these types, see `GlobalPointers`.
        unsafe {
            let corner = |pointer: *const [f64; 3]| pointer.as_ref().copied().unwrap_or_default();
            let tilts = tilts.map(|pointer| pointer.as_ref().copied().unwrap_or_default());
            let periodic = periodic.as_ref().copied().unwrap_or_default().map(|p| p != 0);
            Cell::from_lammps(corner(*low), corner(*high), tilts, periodic)
        }
    }

    fn globals(&self) -> &GlobalPointers {
        self.cache.globals.get_or_init(|| {
            // SAFETY: the handle is open and the name a valid C string; the call compares names.
            let find = |name: &CStr| unsafe { sys::lammps_extract_global(self.handle(), name.as_ptr()) };
            GlobalPointers {
                step: find(c"ntimestep").cast(),
                time: find(c"atime").cast(),
                time_at: find(c"atimestep").cast(),
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
        if let Some(columns) = self.cache.columns.get() {
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
        Ok(self.cache.columns.get_or_init(|| columns))
    }

    /// The last printed value of a column.
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
            self.comm().size(),
            // SAFETY: the handle is open and `what` a valid C string.
            |failure| unsafe { sys::otf_last_thermo(self.handle(), what.as_ptr(), index, failure) },
        );
        let found = found.map_err(|failure| self.error(failure))?;
        Ok(Some(found.cast_const()).filter(|p| !p.is_null()))
    }
}
