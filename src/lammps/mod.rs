// SPDX-License-Identifier: GPL-2.0-or-later
//! LAMMPS in this process: the only folder with `unsafe`.
//!
//! Every fallible call goes through a C++ guard (`guard.cpp`) that turns any exception into a [`Failure`]. Views of
//! LAMMPS's memory borrow the [`Lammps`], commands take it mutably, so that no view outlives the memory it shows:
//!
//! ```compile_fail
//! # fn f(lammps: &mut lammps_otf::lammps::Lammps) {
//! let x = lammps.positions();
//! lammps.command("run 1").unwrap(); // LAMMPS may move its arrays
//! println!("{x}");
//! # }
//! ```
//!
//! LAMMPS stays on the thread that opened it:
//!
//! ```compile_fail
//! fn sent<T: Send>() {}
//! sent::<lammps_otf::lammps::Lammps>();
//! ```
//!
//! ```compile_fail
//! fn shared<T: Sync>() {}
//! shared::<lammps_otf::lammps::Lammps>();
//! ```
//!
//! Nor does a look at a paused simulation last into its next steps:
//!
//! ```compile_fail
//! # fn f(mut simulation: lammps_otf::simulation::Simulation) {
//! let frame = simulation.last_valid();
//! simulation.advance().unwrap();
//! println!("{}", frame.step());
//! # }
//! ```
#![allow(unsafe_code)]

mod error;
mod found;
mod pause;
mod preflight;
mod quote;
mod sys;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr::NonNull;

use ndarray::{ArrayView1, ArrayView2};

pub use error::{Error, Failure, RankFailure, Severity};
pub use preflight::{Build, loaded_libraries, mpi_libraries};
pub use quote::{quote, quote_path};

use crate::comm::Comm;
use crate::fault;
use crate::progress;
use crate::structure::{AtomsView, Cell};
use found::Found;

/// The pair style that computes the extrapolation grade of ML-PACE.
pub const PACE_EXTRAPOLATION: &str = "pace/extrapolation";

/// One LAMMPS instance, on all ranks of a [`Comm`].
///
/// # MPI
/// Opening, commands and closing are collective.
pub struct Lammps {
    handle: NonNull<c_void>,
    comm: Comm,
    found: Found,
    meeting: std::rc::Rc<pause::Meeting>,
    /// A run that has paused.
    paused: Option<pause::Paused>,
    /// An error after which closing would hang or crash: the memory is then left to the end of the process.
    unclosable: bool,
    /// LAMMPS must stay on the thread that opened it.
    _not_send: PhantomData<*mut ()>,
}

/// What LAMMPS holds between two commands, or where a run has paused, in place: the box, and this rank's n atoms in its units.
#[derive(Debug, Clone)]
pub struct State<'a> {
    /// The time step.
    pub step: i64,
    /// See [`Lammps::time`].
    pub time: f64,
    /// The box.
    pub cell: Cell,
    /// See [`Lammps::positions`].
    pub positions: ArrayView2<'a, f64>,
    /// See [`Lammps::velocities`].
    pub velocities: ArrayView2<'a, f64>,
    /// See [`Lammps::forces`].
    pub forces: ArrayView2<'a, f64>,
    /// See [`Lammps::ids`].
    pub ids: ArrayView1<'a, i32>,
    /// See [`Lammps::types`].
    pub types: ArrayView1<'a, i32>,
    /// See [`Lammps::images`].
    pub images: ArrayView1<'a, i32>,
    /// See [`Lammps::groups`].
    pub groups: ArrayView1<'a, i32>,
}

impl State<'_> {
    /// Coordinates, ids and types.
    #[must_use]
    pub fn atoms(&self) -> AtomsView<'_> {
        AtomsView { positions: self.positions.view(), ids: self.ids.view(), types: self.types.view() }
    }
}

impl std::fmt::Debug for Lammps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lammps").field("comm", &self.comm).finish_non_exhaustive()
    }
}

impl Lammps {
    /// Opens an instance on the ranks of `comm`, with LAMMPS's own command-line arguments, e.g.
    /// `["-log", "none", "-screen", "none"]`, and checks that this liblammps can be used ([`Build::check`]).
    ///
    /// # Errors
    /// What LAMMPS says of the arguments; [`Error::Preflight`] for a library that cannot be used.
    ///
    /// # MPI
    /// Collective over `comm`.
    pub fn open<S: AsRef<str>>(arguments: &[S], comm: &Comm) -> Result<Self, Error> {
        agreed(preflight::check_process(), comm)?;
        let mut owned = vec![CString::from(c"lammps-otf")];
        for argument in arguments {
            owned.push(c_string("the argument", argument.as_ref())?);
        }
        let mut argv: Vec<*mut c_char> = owned.iter().map(|a| a.as_ptr().cast_mut()).collect();
        let argc = argv.len() as c_int;
        argv.push(std::ptr::null_mut());

        let line = || arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        let opened = guarded("lammps_open", line, comm.size(), |failure| {
            // SAFETY: argv holds argc valid strings and a null, as main's would, and LAMMPS does not keep them; the
            // communicator lives as long as `comm`, which the instance keeps.
            unsafe { open_raw(argc, argv.as_mut_ptr(), comm, failure) }
        });
        let handle = opened
            .and_then(|handle| NonNull::new(handle).ok_or_else(|| Failure::without_reason("lammps_open", line())))
            .map_err(|failure| Error::of(failure, None, comm))?;
        let lammps = Self {
            handle,
            comm: comm.clone(),
            found: Found::default(),
            meeting: pause::Meeting::new(),
            paused: None,
            unclosable: false,
            _not_send: PhantomData,
        };
        let (ranks, world) = (comm.size(), lammps.setting("world_size"));
        let checked = match Build::of(&lammps).check(comm) {
            Ok(()) if world != ranks as i64 => Err(Error::Preflight(format!(
                "LAMMPS sees {world} MPI ranks where this program sees {ranks}: they use different MPI libraries \
                 ({}). Build both with the same one.",
                mpi_libraries().join(", ")
            ))),
            checked => checked,
        };
        agreed(checked, comm)?;
        Ok(lammps)
    }

    /// The ranks that this instance runs on.
    #[must_use]
    pub fn comm(&self) -> &Comm {
        &self.comm
    }

    /// Runs one command, or several separated by newlines, as in an input file.
    ///
    /// # Errors
    /// LAMMPS's own text. The instance stays usable after an [`Error::Failure`], and not after an [`Error::RankFailure`].
    ///
    /// # MPI
    /// Collective.
    pub fn command(&mut self, command: &str) -> Result<(), Error> {
        let text = c_string("the command", command)?;
        let handle = self.handle.as_ptr();
        let outcome = self.change(
            "command",
            || command.to_owned(),
            |failure| {
                // A list of lines is searched for continued ones, which costs as much as a short command.
                let run = if command.contains(['\n', '&', '"']) { sys::otf_commands_string } else { sys::otf_command };
                // SAFETY: the handle is open, the text is a valid C string, and &mut self says that no view is alive.
                unsafe { run(handle, text.as_ptr(), failure) }
            },
        );
        // LAMMPS cannot free a half-read potential (measured: it crashes).
        self.unclosable |= outcome.is_err() && command.lines().any(|l| l.trim_start().starts_with("pair_"));
        outcome
    }

    /// Runs `steps` steps of molecular dynamics. What is ramped, as a thermostat's temperature, begins at step `ramp.start`
    /// and ends at `ramp.end`.
    ///
    /// With `set_up`, forces, neighbour lists and fixes are set up anew; without, the run goes on as though it had never
    /// stopped, which is right where nothing but runs came since they were.
    ///
    /// # Errors
    /// As [`Lammps::command`].
    ///
    /// # MPI
    /// Collective.
    pub fn run(&mut self, steps: i64, set_up: bool, ramp: std::ops::Range<i64>) -> Result<(), Error> {
        let found = std::mem::take(&mut self.found);
        let command = run_command(steps, set_up, &ramp);
        let text = c_string("the command", &command)?;
        let handle = self.handle.as_ptr();
        self.change_running(
            "command",
            || command,
            |failure| {
                // SAFETY: as for any command.
                unsafe { sys::otf_command(handle, text.as_ptr(), failure) }
            },
        )?;
        if !set_up {
            self.found = found;
        }
        Ok(())
    }

    /// A guarded call that changes the instance.
    fn change<T>(
        &mut self,
        call: &'static str,
        argument: impl FnOnce() -> String,
        body: impl FnOnce(*mut sys::otf_failure) -> T,
    ) -> Result<T, Error> {
        self.end_run()?;
        self.found = Found::default();
        let outcome = guarded(call, argument, self.comm.size(), body);
        self.noted(outcome)
    }

    /// As [`Lammps::change`], of a call that does steps.
    fn change_running<T>(
        &mut self,
        call: &'static str,
        argument: impl FnOnce() -> String,
        body: impl FnOnce(*mut sys::otf_failure) -> T,
    ) -> Result<T, Error> {
        self.end_run()?;
        self.found = Found::default();
        let outcome = guarded(call, argument, self.comm.size(), body);
        self.noted(outcome.map_err(Failure::while_running))
    }

    /// Makes an error of what failed, and notes what the outcome of a call that changes the instance means for later ones.
    fn noted<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Error> {
        let failure = match outcome {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        // Closing is collective, which an error on one rank makes impossible.
        self.unclosable |= failure.severity != Severity::AllRanks;
        if failure.severity == Severity::Foreign && self.comm.size() == 1 {
            // Thrown in a run, LAMMPS believes that it still runs, until it has refused one command for that.
            let handle = self.handle.as_ptr();
            // SAFETY: as for any command.
            let _ = guarded("command", String::new, 1, |failure| unsafe {
                sys::otf_commands_string(handle, c"".as_ptr(), failure)
            });
        }
        let error = self.error(failure);
        self.unclosable |= error.is_rank_failure();
        Err(error)
    }

    /// Makes an error of what failed.
    fn error(&self, failure: Failure) -> Error {
        Error::of(failure, Some(self.step()), &self.comm)
    }

    /// An integer property such as `nlocal`, `triclinic`, `ntypes` (LAMMPS: `lammps_extract_setting`); -1 if unknown.
    #[must_use]
    pub fn setting(&self, name: &str) -> i64 {
        let Ok(name) = CString::new(name) else { return -1 };
        // SAFETY: the handle is open and the name a valid C string; the call compares names and reads a number.
        i64::from(unsafe { sys::lammps_extract_setting(self.handle.as_ptr(), name.as_ptr()) })
    }

    /// Number of atoms of all ranks, as LAMMPS has it noted.
    #[must_use]
    pub fn total_atoms(&self) -> u64 {
        // SAFETY: the handle is open; the call does not throw.
        unsafe { sys::lammps_get_natoms(self.handle.as_ptr()) as u64 }
    }

    /// The mass of each type; empty where LAMMPS has none for types, or no atoms yet.
    #[must_use]
    pub fn type_masses(&self) -> Vec<f64> {
        let types = usize::try_from(self.setting("ntypes")).unwrap_or(0);
        // SAFETY: the handle is open; "mass" is null or ntypes + 1 doubles, the first of which is not used, and they are
        // copied before anything is commanded.
        unsafe {
            let masses = sys::lammps_extract_atom(self.handle.as_ptr(), c"mass".as_ptr()).cast::<f64>();
            if masses.is_null() { Vec::new() } else { std::slice::from_raw_parts(masses.add(1), types).to_vec() }
        }
    }

    /// Whether LAMMPS has a style, e.g. `("pair", "pace/extrapolation")`, built in or from a plugin.
    #[must_use]
    pub fn has_style(&self, category: &str, name: &str) -> bool {
        let (Ok(category), Ok(name)) = (CString::new(category), CString::new(name)) else { return false };
        // SAFETY: the handle is open and both are valid C strings; the call does not throw.
        unsafe { sys::lammps_has_style(self.handle.as_ptr(), category.as_ptr(), name.as_ptr()) != 0 }
    }

    /// Whether the running set-up has something with this id, e.g. `("fix", "gamma")`.
    #[must_use]
    pub fn has_id(&self, category: &str, id: &str) -> bool {
        let (Ok(category), Ok(id)) = (CString::new(category), CString::new(id)) else { return false };
        // SAFETY: the handle is open and both are valid C strings; the call does not throw.
        unsafe { sys::lammps_has_id(self.handle.as_ptr(), category.as_ptr(), id.as_ptr()) != 0 }
    }

    /// All arrays of this rank's atoms, with the box, each asked for once.
    #[must_use]
    pub fn state(&self) -> State<'_> {
        let n = self.local_atoms();
        let [positions, velocities, forces] = [c"x", c"v", c"f"].map(|name| self.atom_vectors(name, n));
        let [ids, types, images, groups] = [c"id", c"type", c"image", c"mask"].map(|name| self.atom_integers(name, n));
        State {
            step: self.step(),
            time: self.time(),
            cell: self.cell(),
            positions,
            velocities,
            forces,
            ids,
            types,
            images,
            groups,
        }
    }

    /// Coordinates of this rank's atoms, shape (n, 3), in the distance unit of the set-up (Å for metal and real).
    #[must_use]
    pub fn positions(&self) -> ArrayView2<'_, f64> {
        self.atom_vectors(c"x", self.local_atoms())
    }

    /// Velocities of this rank's atoms, shape (n, 3), in the unit of the set-up (Å/ps for metal).
    #[must_use]
    pub fn velocities(&self) -> ArrayView2<'_, f64> {
        self.atom_vectors(c"v", self.local_atoms())
    }

    /// Forces on this rank's atoms, shape (n, 3), in the unit of the set-up (eV/Å for metal).
    #[must_use]
    pub fn forces(&self) -> ArrayView2<'_, f64> {
        self.atom_vectors(c"f", self.local_atoms())
    }

    /// Types of this rank's atoms, from 1; shape (n).
    #[must_use]
    pub fn types(&self) -> ArrayView1<'_, i32> {
        self.atom_integers(c"type", self.local_atoms())
    }

    /// Ids of this rank's atoms; shape (n).
    #[must_use]
    pub fn ids(&self) -> ArrayView1<'_, i32> {
        self.atom_integers(c"id", self.local_atoms())
    }

    /// Image flags of this rank's atoms, packed as LAMMPS packs them (10 bits each); shape (n).
    #[must_use]
    pub fn images(&self) -> ArrayView1<'_, i32> {
        self.atom_integers(c"image", self.local_atoms())
    }

    /// The groups that this rank's atoms are in, one bit for each group in the order of their definition; shape (n).
    #[must_use]
    pub fn groups(&self) -> ArrayView1<'_, i32> {
        self.atom_integers(c"mask", self.local_atoms())
    }

    /// Coordinates, ids and types of this rank's atoms.
    #[must_use]
    pub fn atoms(&self) -> AtomsView<'_> {
        AtomsView { positions: self.positions(), ids: self.ids(), types: self.types() }
    }

    /// The per-atom vector of a fix, in the order of this rank's atoms; shape (n).
    ///
    /// It is as old as the last step on which the fix filled it, and LAMMPS does not say when that was.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such fix, or if it has no per-atom vector.
    ///
    /// # MPI
    /// As [`Lammps::check_vector`].
    pub fn fix_vector(&self, id: &str) -> Result<ArrayView1<'_, f64>, Error> {
        self.check_vector(id)?;
        let vector = self.per_atom(id, sys::LMP_TYPE_VECTOR)?;
        let n = self.local_atoms();
        match vector {
            // SAFETY: a per-atom vector has nlocal or more doubles and lives until the next command, which needs &mut self.
            Some(vector) if n > 0 => Ok(unsafe { ArrayView1::from_shape_ptr(n, vector.cast::<f64>().as_ptr()) }),
            None if n > 0 => Err(Error::Missing {
                what: "fix",
                name: id.to_owned(),
                hint: ": it exists, but has no per-atom vector",
            }),
            _ => Ok(ArrayView1::from(&[])),
        }
    }

    /// Whether a fix has values for each atom, and one for each: asked for the vector of a fix with an array, LAMMPS gives the
    /// first numbers of the array.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such fix, or if it has no values or an array; the same on all ranks.
    ///
    /// # MPI
    /// To be called on all ranks or on none: LAMMPS waits for the others before it says that a fix has no values.
    pub fn check_vector(&self, id: &str) -> Result<(), Error> {
        let known = &self.found.vector;
        if known.get().is_some_and(|known| known == id) {
            return Ok(());
        }
        let missing = |hint| Err(Error::Missing { what: "fix", name: id.to_owned(), hint });
        if !self.has_id("fix", id) {
            return missing("");
        }
        // SAFETY: an int.
        match self.per_atom(id, sys::LMP_SIZE_COLS)?.map(|columns| unsafe { columns.cast::<c_int>().read() }) {
            Some(0) => {}
            Some(_) => {
                return missing(
                    ": it exists, but has an array instead of a per-atom vector; take a column with a variable",
                );
            }
            None => return missing(": it exists, but has no per-atom vector"),
        }
        // Of two that are asked for in turns, the first is remembered.
        let _ = known.set(id.to_owned());
        Ok(())
    }

    /// A thermodynamic quantity as last printed to the log, e.g. `Temp`, `PotEng`; `None` if it was not printed.
    ///
    /// The last step of every `run` is printed, and every step at which one pauses, so that then this is the value at the current
    /// step, without another evaluation.
    ///
    /// # Errors
    /// What LAMMPS says.
    ///
    /// # MPI
    /// To be called on all ranks or on none.
    pub fn last_thermo(&self, keyword: &str) -> Result<Option<f64>, Error> {
        self.last_thermos([keyword]).map(|[value]| value)
    }

    /// [`Lammps::last_thermo`] of several.
    ///
    /// # Errors
    /// As [`Lammps::last_thermo`].
    ///
    /// # MPI
    /// As [`Lammps::last_thermo`].
    // A name for `ci/bench profile` to count.
    #[inline(never)]
    pub fn last_thermos<const N: usize>(&self, keywords: [&str; N]) -> Result<[Option<f64>; N], Error> {
        let columns = self.columns()?;
        let mut values = [None; N];
        for (value, keyword) in values.iter_mut().zip(keywords) {
            if let Some(column) = columns.iter().find(|column| column.keyword == keyword) {
                *value = self.printed(column)?;
            }
        }
        Ok(values)
    }

    /// Offers atoms to all ranks: each rank takes those that lie in its part of the box. Gives the number taken here.
    ///
    /// All slices of length n, `positions` and `velocities` with 3 n numbers in the units of the set-up.
    ///
    /// LAMMPS does not look for ids that exist already.
    ///
    /// # Errors
    /// What LAMMPS says, e.g. without a box. Where it fails in the middle, `clear` must be the next command.
    ///
    /// # Panics
    /// If the lengths disagree.
    ///
    /// # MPI
    /// Collective; each rank passes the same atoms.
    pub fn create_atoms(
        &mut self,
        ids: &[i32],
        types: &[i32],
        positions: &[f64],
        velocities: &[f64],
        images: &[i32],
    ) -> Result<usize, Error> {
        let n = ids.len();
        assert!(types.len() == n && images.len() == n, "one type and image for each id");
        assert!(positions.len() == 3 * n && velocities.len() == 3 * n, "three coordinates for each id");
        let handle = self.handle.as_ptr();
        let taken = self.change(
            "lammps_create_atoms",
            || format!("{n} atoms"),
            |failure| {
                // SAFETY: the handle is open and all arrays have the lengths that LAMMPS reads, asserted above.
                unsafe {
                    sys::otf_create_atoms(
                        handle,
                        n as c_int,
                        ids.as_ptr(),
                        types.as_ptr(),
                        positions.as_ptr(),
                        velocities.as_ptr(),
                        images.as_ptr(),
                        failure,
                    )
                }
            },
        )?;
        let taken = usize::try_from(taken).unwrap_or(0);
        self.unwrap_created(taken, ids, positions, images);
        Ok(taken)
    }

    /// Puts the last `taken` atoms of this rank exactly where they were asked to be: LAMMPS wraps created atoms into the
    /// box, while a running simulation has some a little outside until the next re-neighbouring.
    fn unwrap_created(&mut self, taken: usize, ids: &[i32], positions: &[f64], images: &[i32]) {
        let n = self.local_atoms();
        if taken == 0 || taken > n {
            return;
        }
        let places: std::collections::HashMap<i32, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let own: Vec<Option<usize>> = self.ids().iter().map(|id| places.get(id).copied()).collect();
        // SAFETY: the handle is open, &mut self says that no view is alive, and "x" and "image" have nlocal rows.
        unsafe {
            let x = sys::lammps_extract_atom(self.handle.as_ptr(), c"x".as_ptr()).cast::<*mut f64>();
            let image = sys::lammps_extract_atom(self.handle.as_ptr(), c"image".as_ptr()).cast::<i32>();
            if x.is_null() || image.is_null() {
                return;
            }
            for (row, place) in own.iter().enumerate().skip(n - taken) {
                if let Some(i) = *place {
                    (*x).add(3 * row).copy_from_nonoverlapping(positions[3 * i..].as_ptr(), 3);
                    *image.add(row) = images[i];
                }
            }
        }
    }

    /// Puts the last `taken` atoms of this rank, which [`Lammps::create_atoms`] took, into groups: `groups` are those of `ids`,
    /// as [`Lammps::groups`] gives them.
    pub(crate) fn set_groups(&mut self, taken: usize, ids: &[i32], groups: &[i32]) {
        let n = self.local_atoms();
        let of: std::collections::HashMap<i32, i32> = ids.iter().copied().zip(groups.iter().copied()).collect();
        let own: Vec<Option<i32>> = self.ids().iter().map(|id| of.get(id).copied()).collect();
        // SAFETY: the handle is open, &mut self says that no view is alive, and "mask" has nlocal rows, n of them.
        unsafe {
            let mask = sys::lammps_extract_atom(self.handle.as_ptr(), c"mask".as_ptr()).cast::<i32>();
            if mask.is_null() {
                return;
            }
            for (row, groups) in own.iter().enumerate().skip(n.saturating_sub(taken)) {
                if let Some(groups) = groups {
                    *mask.add(row) = *groups;
                }
            }
        }
    }

    /// Changes the box to `cell`, leaving coordinates as they are.
    ///
    /// # Errors
    /// For a cell that is no box, or is tilted where LAMMPS has a box that was set up without; what LAMMPS says, e.g. where
    /// there are atoms.
    ///
    /// # MPI
    /// Collective.
    pub fn reset_box(&mut self, cell: &Cell) -> Result<(), Error> {
        let lo = cell.origin;
        let hi = [0, 1, 2].map(|k| lo[k] + cell.vectors[k][k]);
        let (xy, xz, yz) = (cell.vectors[1][0], cell.vectors[2][0], cell.vectors[2][1]);
        // LAMMPS looks at none of this.
        let refuse = |why: String| Err(Error::Preflight(why));
        if self.setting("box_exist") != 1 {
            return refuse("there is no simulation box that could be changed".into());
        }
        if !(0..3).all(|k| lo[k] < hi[k] && lo[k].is_finite() && hi[k].is_finite()) {
            return refuse(format!("a box goes from a lower to a higher corner, not from {lo:?} to {hi:?}"));
        }
        let upright = [xy, xz, yz].iter().all(|tilt| *tilt == 0.0);
        if !upright && (self.setting("triclinic") != 1 || ![xy, xz, yz].iter().all(|tilt| tilt.is_finite())) {
            return refuse(format!(
                "the box cannot be given the tilt {:?}: it was set up without, or it is no number",
                [xy, xz, yz]
            ));
        }
        let handle = self.handle.as_ptr();
        self.change("lammps_reset_box", String::new, |failure| {
            // SAFETY: the handle is open and both arrays have three numbers.
            unsafe { sys::otf_reset_box(handle, lo.as_ptr(), hi.as_ptr(), xy, yz, xz, failure) }
        })?;
        Ok(())
    }

    /// Loads a plugin file, e.g. `paceplugin.so`. Plugins are shared by all instances of the process.
    ///
    /// # Errors
    /// If the file cannot be loaded.
    ///
    /// # MPI
    /// Collective.
    pub fn load_plugin(&mut self, file: &Path) -> Result<(), Error> {
        let quoted = quote_path(file)?;
        self.command(&format!("plugin load {quoted}"))?;
        // LAMMPS only prints that it could not, and nobody sees what it prints.
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let loaded = loaded_libraries(|name| real.file_name().is_some_and(|own| own == name));
        // Agreed: one node may not see the file.
        if self.comm.any(!loaded.iter().any(|l| Path::new(l) == real)) {
            return Err(Error::Preflight(format!(
                "LAMMPS could not load the plugin {}: the file does not exist, is no LAMMPS plugin, or needs a library \
                 that is not found (`ldd` shows which)",
                file.display()
            )));
        }
        Ok(())
    }

    /// `n` is [`Lammps::local_atoms`].
    fn atom_vectors(&self, name: &CStr, n: usize) -> ArrayView2<'_, f64> {
        // SAFETY: the handle is open; x, v and f are arrays of nlocal or more rows of three doubles, in one block, that
        // live until the next command, which needs &mut self.
        unsafe {
            let rows = sys::lammps_extract_atom(self.handle.as_ptr(), name.as_ptr()).cast::<*const f64>();
            if rows.is_null() || n == 0 {
                return ArrayView2::from_shape((0, 3), &[]).expect("an empty view");
            }
            ArrayView2::from_shape_ptr((n, 3), *rows)
        }
    }

    /// `n` is [`Lammps::local_atoms`].
    fn atom_integers(&self, name: &CStr, n: usize) -> ArrayView1<'_, i32> {
        // SAFETY: as above; id, type and image are 32 bits wide, checked in preflight.
        unsafe {
            let values = sys::lammps_extract_atom(self.handle.as_ptr(), name.as_ptr()).cast::<i32>();
            if values.is_null() || n == 0 {
                return ArrayView1::from(&[]);
            }
            ArrayView1::from_shape_ptr(n, values)
        }
    }

    /// What a fix has of this kind for each atom.
    fn per_atom(&self, id: &str, kind: u32) -> Result<Option<NonNull<c_void>>, Error> {
        let c_id = c_string("the id", id)?;
        let (handle, style) = (self.handle.as_ptr(), sys::LMP_STYLE_ATOM as c_int);
        let found = guarded(
            "lammps_extract_fix",
            || id.to_owned(),
            self.comm.size(),
            // SAFETY: the handle is open and the id a valid C string.
            |failure| unsafe { sys::otf_extract_fix(handle, c_id.as_ptr(), style, kind as c_int, 0, 0, failure) },
        );
        found.map(NonNull::new).map_err(|failure| self.error(failure))
    }
}

impl Drop for Lammps {
    fn drop(&mut self) {
        let alone = self.comm.has_rank_failure();
        if !std::thread::panicking() && !alone {
            // Of one that fails here nothing is left to be told.
            let _ = self.end_run();
        }
        // What is on the stack of a run that cannot end is left as well.
        std::mem::forget(self.paused.take());
        if self.unclosable || self.comm.has_rank_failure() || std::thread::panicking() {
            return;
        }
        let (handle, ranks) = (self.handle.as_ptr(), self.comm.size());
        // SAFETY: the handle is open, and nothing can use it after this.
        let closed = guarded("lammps_close", String::new, ranks, |failure| unsafe { sys::otf_close(handle, failure) });
        // What fails on all ranks leaves nothing to be told. On one alone it does when that rank next communicates.
        let _ = closed.map_err(|failure| Error::of(failure, None, &self.comm));
    }
}

/// Makes the C++ guard throw: an exception of the standard library (0), out of memory (1), an integer (2), nothing (3).
/// For tests of the guard.
///
/// # Errors
/// What was thrown, as text.
#[doc(hidden)]
pub fn throw(kind: i32) -> Result<(), Failure> {
    // SAFETY: the function takes an integer and writes to the failure alone.
    guarded("throw", String::new, 1, |failure| unsafe { sys::otf_throw(kind, failure) })
}

/// Passes what LAMMPS has in the buffers of its files on to the system.
pub(crate) fn flush() {
    // SAFETY: the C standard allows it at any time.
    unsafe { sys::otf_flush() };
}

/// The one funnel of fallible calls: gives the guard a place to write to, and makes an error of what it wrote.
///
/// `body` passes the place to one function of the guard. `ranks` is the number of ranks that make the call together.
fn guarded<T>(
    call: &'static str,
    argument: impl FnOnce() -> String,
    ranks: usize,
    body: impl FnOnce(*mut sys::otf_failure) -> T,
) -> Result<T, Failure> {
    if let Some(fault) = fault::before_call(call, ranks) {
        return Err(Failure { argument: argument(), ..Failure::on_purpose(fault, call) });
    }
    // Not cleared: 8 kB for each call would cost a poll more than anything else does.
    let mut failure = MaybeUninit::<sys::otf_failure>::uninit();
    let value = body(failure.as_mut_ptr());
    progress::mark();
    // SAFETY: every function of the guard sets the severity.
    let severity = unsafe { (&raw const (*failure.as_ptr()).severity).read() };
    if severity == sys::OTF_OK as c_int {
        return Ok(value);
    }
    // SAFETY: with any other severity the guard has filled the message to its end.
    let failure = Failure::take(unsafe { failure.assume_init_ref() }, call);
    Err(Failure { argument: argument(), ..failure })
}

/// What this rank has found, unless another one has found something wrong: then all fail.
///
/// # MPI
/// Collective.
fn agreed(found: Result<(), Error>, comm: &Comm) -> Result<(), Error> {
    let elsewhere = || Error::Preflight("another rank cannot use its liblammps".into());
    if comm.any(found.is_err()) { Err(found.err().unwrap_or_else(elsewhere)) } else { Ok(()) }
}

/// The command of [`Lammps::run`].
fn run_command(steps: i64, set_up: bool, ramp: &std::ops::Range<i64>) -> String {
    let pre = if set_up { "yes" } else { "no" };
    format!("run {steps} pre {pre} post no start {} stop {}", ramp.start, ramp.end)
}

fn c_string(what: &'static str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Text { what, text: text.to_owned(), why: "it holds a NUL character" })
}

/// # Safety
/// `argv` must hold `argc` valid strings followed by a null pointer.
#[cfg(feature = "mpi")]
unsafe fn open_raw(argc: c_int, argv: *mut *mut c_char, comm: &Comm, failure: *mut sys::otf_failure) -> *mut c_void {
    // The Fortran handle keeps mpi.h out of the bindings and works with every MPI.
    // SAFETY: the communicator is alive; argv by the caller's word.
    unsafe {
        let handle = mpi::ffi::MPI_Comm_c2f(comm.raw());
        sys::otf_open(argc, argv, handle, failure)
    }
}

/// # Safety
/// `argv` must hold `argc` valid strings followed by a null pointer.
#[cfg(not(feature = "mpi"))]
unsafe fn open_raw(argc: c_int, argv: *mut *mut c_char, _comm: &Comm, failure: *mut sys::otf_failure) -> *mut c_void {
    // SAFETY: argv by the caller's word.
    unsafe { sys::otf_open_no_mpi(argc, argv, failure) }
}
