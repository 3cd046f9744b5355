// SPDX-License-Identifier: GPL-2.0-or-later
//! LAMMPS in this process: the only folder with `unsafe` code.
//!
//! Every fallible call goes through a C++ guard (`guard.cpp`) that turns any exception into a [`Failure`]. Views of
//! LAMMPS's memory borrow the [`Lammps`], and commands take it mutably, so that no view outlives the memory that it shows:
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
//! A view of a paused simulation cannot be used after its next steps either:
//!
//! ```compile_fail
//! # fn f(mut simulation: lammps_otf::simulation::Simulation) {
//! let frame = simulation.last_valid();
//! simulation.advance().unwrap();
//! println!("{}", frame.step());
//! # }
//! ```
#![allow(unsafe_code)]

mod accelerator;
mod cache;
#[cfg(feature = "mpi")]
mod communicator;
mod error;
mod images;
mod pause;
mod preflight;
mod quote;
mod sys;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use corosensei::stack::DefaultStack;
use ndarray::{ArrayView1, ArrayView2};

pub use accelerator::{Kokkos, PairDevice};
#[cfg(feature = "mpi")]
pub use communicator::communicator;
pub use error::{Error, Failure, RankFailure, Severity};
pub(crate) use images::ImagePacking;
pub use preflight::{Build, loaded_libraries, mpi_libraries};
pub use quote::{quote, quote_path};

use crate::comm::Comm;
use crate::fault;
use crate::progress;
use crate::structure::{AtomId, AtomsView, Cell, Integers};
use cache::ExtractCache;
use pause::{PauseChannel, PausedRun};

/// The pair style that computes the extrapolation grade of ML-PACE.
pub const PACE_EXTRAPOLATION: &str = "pace/extrapolation";

/// Plugins of this project that an instance of this process has loaded.
static KNOWN_PLUGINS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// One LAMMPS instance, on all ranks of a [`Comm`].
///
/// # MPI
/// Opening, commands and closing are collective.
pub struct Lammps {
    /// A run that has paused.
    paused: Option<PausedRun>,
    /// The stack of the last run, for the next one.
    stack: Option<DefaultStack>,
    cache: ExtractCache,
    /// Whether atom ids and image flags have 64 bits, as this liblammps was built.
    wide: bool,
    instance: Rc<Instance>,
}

/// An open LAMMPS instance, closed with the last reference.
///
/// A suspended run holds a reference too ([`PausedRun`]). The raw handle and the `Rc` keep this, and so [`Lammps`], on the thread
/// that opened it.
struct Instance {
    handle: NonNull<c_void>,
    comm: Comm,
    pause: PauseChannel,
    /// After an error, closing would hang or crash. The memory is then left to the end of the process.
    unclosable: std::cell::Cell<bool>,
}

impl Instance {
    /// Makes an error of the failure of a call that changes the instance, and records what it means for later calls.
    fn fail(&self, failure: Failure, step: Option<i64>) -> Error {
        // Closing is collective, which an error on one rank makes impossible.
        if failure.severity != Severity::AllRanks {
            self.unclosable.set(true);
        }
        if failure.severity == Severity::Foreign && self.comm.size() == 1 {
            // After an exception in a run LAMMPS takes itself for running, and refuses one command.
            // SAFETY: the handle is open, and the text a valid C string. The caller has changed the instance.
            let _ = guarded("command", String::new, 1, |failure| unsafe {
                sys::otf_commands_string(self.handle.as_ptr(), c"".as_ptr(), failure)
            });
        }
        let error = Error::of(failure, step, &self.comm);
        if error.is_rank_failure() {
            self.unclosable.set(true);
        }
        error
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.unclosable.get() || self.comm.has_rank_failure() || std::thread::panicking() {
            return;
        }
        let (handle, ranks) = (self.handle.as_ptr(), self.comm.size());
        // SAFETY: the handle is open, and nothing can use it after this.
        let closed = guarded("lammps_close", String::new, ranks, |failure| unsafe { sys::otf_close(handle, failure) });
        // `drop` cannot report an error of all ranks. A rank failure aborts the job when this rank next communicates.
        let _ = closed.map_err(|failure| Error::of(failure, None, &self.comm));
    }
}

/// A view of LAMMPS's data between two commands, or where a run has paused: the box, and the n atoms of this rank, in LAMMPS's
/// units.
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
    pub ids: Integers<'a>,
    /// See [`Lammps::types`].
    pub types: ArrayView1<'a, i32>,
    /// See [`Lammps::images`].
    pub images: Integers<'a>,
    /// See [`Lammps::groups`].
    pub groups: ArrayView1<'a, i32>,
}

impl<'a> State<'a> {
    /// Coordinates, ids and types.
    #[must_use]
    pub fn atoms(&self) -> AtomsView<'a> {
        AtomsView { positions: self.positions, ids: self.ids, types: self.types }
    }
}

impl std::fmt::Debug for Lammps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lammps").field("comm", self.comm()).finish_non_exhaustive()
    }
}

impl Lammps {
    /// Opens an instance on the ranks of `comm`, with LAMMPS's own command-line arguments, e.g.
    /// `["-log", "none", "-screen", "none"]`, and checks that this liblammps can be used ([`Build::check`]).
    ///
    /// # Errors
    /// LAMMPS's own text, e.g. for invalid arguments; [`Error::Preflight`] for a library that cannot be used.
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
            // SAFETY: argv holds argc valid strings and a null, as for `main`, and LAMMPS does not keep them. The
            // communicator lives as long as `comm`, of which the instance keeps a clone.
            unsafe { open_raw(argc, argv.as_mut_ptr(), comm, failure) }
        });
        let handle = opened
            .and_then(|handle| NonNull::new(handle).ok_or_else(|| Failure::without_reason("lammps_open", line())))
            .map_err(|failure| Error::of(failure, None, comm))?;
        let instance = Instance {
            handle,
            comm: comm.clone(),
            pause: PauseChannel::new(),
            unclosable: std::cell::Cell::new(false),
        };
        let instance = Rc::new(instance);
        let mut lammps = Self { paused: None, stack: None, cache: ExtractCache::default(), wide: false, instance };
        let (ranks, world) = (comm.size(), lammps.setting("world_size"));
        let build = Build::of(&lammps);
        // The check refuses image flags of another width.
        lammps.wide = build.id_bits == 64;
        let checked = match build.check(comm) {
            Ok(()) if world != ranks as i64 => Err(Error::Preflight(format!(
                "LAMMPS sees {world} MPI ranks where this program sees {ranks}: they use different MPI libraries \
                 ({}). Build both with the same one.",
                mpi_libraries().join(", ")
            ))),
            checked => checked,
        };
        agreed(checked, comm)?;
        lammps.check_plugins()?;
        lammps.register_known_plugins()?;
        Ok(lammps)
    }

    /// The ranks that this instance runs on.
    #[must_use]
    pub fn comm(&self) -> &Comm {
        &self.instance.comm
    }

    fn handle(&self) -> *mut c_void {
        self.instance.handle.as_ptr()
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
        let handle = self.handle();
        let outcome = self.change(
            "command",
            Phase::Command,
            || command.to_owned(),
            |failure| {
                // Several commands are searched for continued lines, which costs as much as a short command.
                let run = if command.contains(['\n', '&', '"']) { sys::otf_commands_string } else { sys::otf_command };
                // SAFETY: the handle is open, the text is a valid C string, and &mut self means that no view is alive.
                unsafe { run(handle, text.as_ptr(), failure) }
            },
        );
        // `clear` has made new tables of styles. A set-up of the user does not contain it.
        if outcome.is_ok() && command.trim() == "clear" {
            self.register_known_plugins()?;
        }
        // LAMMPS crashes when it frees a potential that was read in part.
        if outcome.is_err() && command.lines().any(|l| l.trim_start().starts_with("pair_")) {
            self.instance.unclosable.set(true);
        }
        outcome
    }

    /// Runs `steps` steps of molecular dynamics. Quantities that are ramped, such as the temperature of a thermostat, have their
    /// first value at step `ramp.start` and their last value at step `ramp.end`.
    ///
    /// With `set_up`, forces, neighbour lists and fixes are set up anew. Without it, the run continues the previous one as if
    /// that had not ended, which is correct only if nothing but runs followed the last set-up.
    ///
    /// # Errors
    /// As [`Lammps::command`].
    ///
    /// # MPI
    /// Collective.
    pub fn run(&mut self, steps: i64, set_up: bool, ramp: std::ops::Range<i64>) -> Result<(), Error> {
        let cache = std::mem::take(&mut self.cache);
        let command = run_command(steps, set_up, &ramp);
        let text = c_string("the command", &command)?;
        let handle = self.handle();
        self.change(
            "command",
            Phase::Run,
            || command,
            |failure| {
                // SAFETY: as for any command.
                unsafe { sys::otf_command(handle, text.as_ptr(), failure) }
            },
        )?;
        if !set_up {
            self.cache = cache;
        }
        Ok(())
    }

    /// A guarded call that changes the instance. Ends a paused run and invalidates the cache first.
    fn change<T>(
        &mut self,
        call: &'static str,
        phase: Phase,
        argument: impl FnOnce() -> String,
        body: impl FnOnce(*mut sys::otf_failure) -> T,
    ) -> Result<T, Error> {
        self.end_run()?;
        self.cache = ExtractCache::default();
        let outcome = guarded(call, argument, self.comm().size(), body);
        self.classify(match phase {
            Phase::Command => outcome,
            Phase::Run => outcome.map_err(Failure::while_running),
        })
    }

    /// Makes an error of the failure of a call that changes the instance.
    fn classify<T>(&self, outcome: Result<T, Failure>) -> Result<T, Error> {
        outcome.map_err(|failure| self.instance.fail(failure, Some(self.step())))
    }

    /// Makes an error of the failure of a call that only reads.
    fn error(&self, failure: Failure) -> Error {
        Error::of(failure, Some(self.step()), self.comm())
    }

    /// An integer property such as `nlocal`, `triclinic`, `ntypes` (LAMMPS: `lammps_extract_setting`); -1 if unknown.
    #[must_use]
    pub fn setting(&self, name: &str) -> i64 {
        let Ok(name) = CString::new(name) else { return -1 };
        // SAFETY: the handle is open and the name a valid C string; the call compares names and reads a number.
        i64::from(unsafe { sys::lammps_extract_setting(self.handle(), name.as_ptr()) })
    }

    /// Number of atoms on all ranks, as LAMMPS last counted them.
    #[must_use]
    pub fn total_atoms(&self) -> u64 {
        // SAFETY: the handle is open; the call does not throw.
        unsafe { sys::lammps_get_natoms(self.handle()) as u64 }
    }

    /// The mass of each type; empty if masses are not set per type, or before the box is created.
    #[must_use]
    pub fn type_masses(&self) -> Vec<f64> {
        let types = usize::try_from(self.setting("ntypes")).unwrap_or(0);
        // SAFETY: the handle is open; "mass" is null or ntypes + 1 doubles, the first of which is unused, and they are
        // copied before the next command.
        unsafe {
            let masses = sys::lammps_extract_atom(self.handle(), c"mass".as_ptr()).cast::<f64>();
            if masses.is_null() { Vec::new() } else { std::slice::from_raw_parts(masses.add(1), types).to_vec() }
        }
    }

    /// Whether LAMMPS has this style, e.g. `("pair", "pace/extrapolation")`, built in or from a plugin.
    #[must_use]
    pub fn has_style(&self, category: &str, name: &str) -> bool {
        let (Ok(category), Ok(name)) = (CString::new(category), CString::new(name)) else { return false };
        // SAFETY: the handle is open and both are valid C strings; the call does not throw.
        unsafe { sys::lammps_has_style(self.handle(), category.as_ptr(), name.as_ptr()) != 0 }
    }

    /// Whether a fix, compute, group, … with this id is defined, e.g. `("fix", "gamma")`.
    #[must_use]
    pub fn has_id(&self, category: &str, id: &str) -> bool {
        let (Ok(category), Ok(id)) = (CString::new(category), CString::new(id)) else { return false };
        // SAFETY: the handle is open and both are valid C strings; the call does not throw.
        unsafe { sys::lammps_has_id(self.handle(), category.as_ptr(), id.as_ptr()) != 0 }
    }

    /// All arrays of this rank's atoms, and the box.
    #[must_use]
    pub fn state(&self) -> State<'_> {
        let n = self.local_atoms();
        let [positions, velocities, forces] = [c"x", c"v", c"f"].map(|name| self.atom_vectors(name, n));
        let [ids, images] = [c"id", c"image"].map(|name| self.atom_integers(name, n));
        let [types, groups] = [c"type", c"mask"].map(|name| self.atom_numbers(name, n));
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
        self.atom_numbers(c"type", self.local_atoms())
    }

    /// Ids of this rank's atoms; shape (n).
    #[must_use]
    pub fn ids(&self) -> Integers<'_> {
        self.atom_integers(c"id", self.local_atoms())
    }

    /// Image flags of this rank's atoms, packed as LAMMPS packs them (10 bits each, or 21 bits in 64-bit integers); shape (n).
    #[must_use]
    pub fn images(&self) -> Integers<'_> {
        self.atom_integers(c"image", self.local_atoms())
    }

    /// The groups that this rank's atoms are in, one bit for each group in the order of their definition; shape (n).
    #[must_use]
    pub fn groups(&self) -> ArrayView1<'_, i32> {
        self.atom_numbers(c"mask", self.local_atoms())
    }

    /// Coordinates, ids and types of this rank's atoms.
    #[must_use]
    pub fn atoms(&self) -> AtomsView<'_> {
        AtomsView { positions: self.positions(), ids: self.ids(), types: self.types() }
    }

    /// The per-atom vector of a fix, in the order of this rank's atoms; shape (n).
    ///
    /// Its values are those of the last step on which the fix computed them, which LAMMPS does not report.
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

    /// Checks that a fix has a per-atom vector. If the vector of a fix with a per-atom array is requested, LAMMPS returns the first
    /// numbers of the array.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such fix, or if it has no per-atom values, or an array; the same on all ranks.
    ///
    /// # MPI
    /// Must be called on all ranks or on none: LAMMPS synchronises the ranks before it reports that a fix has no values.
    pub fn check_vector(&self, id: &str) -> Result<(), Error> {
        if self.cache.vectors.borrow().iter().any(|checked| checked == id) {
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
        self.cache.vectors.borrow_mut().push(id.to_owned());
        Ok(())
    }

    /// A thermodynamic quantity as last printed to the log, e.g. `Temp`, `PotEng`; `None` if it was not printed.
    ///
    /// LAMMPS prints the last step of every `run` and every step at which one pauses. After these this is the value at the current
    /// step, without another evaluation.
    ///
    /// # Errors
    /// LAMMPS's own text.
    ///
    /// # MPI
    /// Must be called on all ranks or on none.
    pub fn last_thermo(&self, keyword: &str) -> Result<Option<f64>, Error> {
        self.last_thermos([keyword]).map(|[value]| value)
    }

    /// [`Lammps::last_thermo`] for several keywords.
    ///
    /// # Errors
    /// As [`Lammps::last_thermo`].
    ///
    /// # MPI
    /// As [`Lammps::last_thermo`].
    // `ci/bench profile` counts it by name.
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

    /// The values of keywords of the thermo output on the present state, which must have been set up. After a set-up at the step of the
    /// last thermo output, [`Lammps::last_thermos`] still has the values before it, because LAMMPS keeps those of a step.
    ///
    /// # Errors
    /// LAMMPS's own text, for example if the present set-up does not tally what a keyword requires.
    ///
    /// # MPI
    /// Collective.
    pub fn thermos_now<const N: usize>(&self, keywords: [&CStr; N]) -> Result<[f64; N], Error> {
        let mut values = [0.0; N];
        for (value, keyword) in values.iter_mut().zip(keywords) {
            let found = guarded(
                "lammps_get_thermo",
                || keyword.to_string_lossy().into_owned(),
                self.comm().size(),
                // SAFETY: the handle is open and the keyword a valid C string.
                |failure| unsafe { sys::otf_get_thermo(self.handle(), keyword.as_ptr(), failure) },
            );
            *value = found.map_err(|failure| self.error(failure))?;
        }
        Ok(values)
    }

    /// How this liblammps packs image flags.
    pub(crate) fn image_packing(&self) -> ImagePacking {
        if self.wide { ImagePacking::WIDE } else { ImagePacking::NARROW }
    }

    /// Creates atoms: each rank those that lie in its part of the box. Returns the number of atoms created on this rank.
    ///
    /// `ids`, `types` and `images` have length n, `positions` and `velocities` 3 n, in the units of the set-up. `images` are packed
    /// as in [`Lammps::images`].
    ///
    /// LAMMPS does not check whether the ids exist already.
    ///
    /// # Errors
    /// [`Error::Preflight`] for ids or image flags that do not fit in the 32 bits of this liblammps; LAMMPS's own text, e.g.
    /// without a box. If it fails after some atoms were created, `clear` must be the next command.
    ///
    /// # Panics
    /// If the lengths disagree, or if there are 2³¹ atoms or more.
    ///
    /// # MPI
    /// Collective; each rank passes the same atoms.
    pub fn create_atoms(
        &mut self,
        ids: &[AtomId],
        types: &[i32],
        positions: &[f64],
        velocities: &[f64],
        images: &[i64],
    ) -> Result<usize, Error> {
        let n = ids.len();
        assert!(types.len() == n && images.len() == n, "one type and image for each id");
        assert!(positions.len() == 3 * n && velocities.len() == 3 * n, "three coordinates for each id");
        let count = c_int::try_from(n).expect("LAMMPS counts the atoms of one call with 32 bits");
        let (id_array, image_array) = (self.packed(ids, "atom id")?, self.packed(images, "image flags")?);
        let handle = self.handle();
        let created = self.change(
            "lammps_create_atoms",
            Phase::Command,
            || format!("{n} atoms"),
            |failure| {
                // SAFETY: the handle is open, all arrays have the lengths that LAMMPS reads, asserted above, and ids and
                // images have its width.
                unsafe {
                    sys::otf_create_atoms(
                        handle,
                        count,
                        id_array.as_ptr(),
                        types.as_ptr(),
                        positions.as_ptr(),
                        velocities.as_ptr(),
                        image_array.as_ptr(),
                        failure,
                    )
                }
            },
        )?;
        let created = usize::try_from(created).unwrap_or(0);
        self.unwrap_created(created, ids, positions, images);
        Ok(created)
    }

    /// Sets the exact positions of the last `created` atoms of this rank. LAMMPS wraps created atoms into the box, while some atoms of
    /// a running simulation are slightly outside until neighbour lists are next built.
    fn unwrap_created(&mut self, created: usize, ids: &[AtomId], positions: &[f64], images: &[i64]) {
        let n = self.local_atoms();
        if created == 0 || created > n {
            return;
        }
        let by_id: std::collections::HashMap<AtomId, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let own: Vec<Option<usize>> = self.ids().iter().map(|id| by_id.get(&id).copied()).collect();
        // SAFETY: the handle is open, &mut self means that no view is alive, and "x" and "image" have nlocal rows; image flags
        // have the width found at the opening, and `create_atoms` has checked that these fit.
        unsafe {
            let x = sys::lammps_extract_atom(self.handle(), c"x".as_ptr()).cast::<*mut f64>();
            let image = sys::lammps_extract_atom(self.handle(), c"image".as_ptr());
            if x.is_null() || image.is_null() {
                return;
            }
            for (row, index) in own.iter().enumerate().skip(n - created) {
                if let Some(i) = *index {
                    (*x).add(3 * row).copy_from_nonoverlapping(positions[3 * i..].as_ptr(), 3);
                    if self.wide {
                        *image.cast::<i64>().add(row) = images[i];
                    } else {
                        *image.cast::<i32>().add(row) = images[i] as i32;
                    }
                }
            }
        }
    }

    /// Sets the group bits of the last `created` atoms of this rank, made by [`Lammps::create_atoms`]. `groups` are the bits of the
    /// atoms `ids`, in the form of [`Lammps::groups`].
    pub(crate) fn set_groups(&mut self, created: usize, ids: &[AtomId], groups: &[i32]) {
        let n = self.local_atoms();
        let by_id: std::collections::HashMap<AtomId, i32> = ids.iter().copied().zip(groups.iter().copied()).collect();
        let own: Vec<Option<i32>> = self.ids().iter().map(|id| by_id.get(&id).copied()).collect();
        // SAFETY: the handle is open, &mut self means that no view is alive, and "mask" has nlocal rows, n of them.
        unsafe {
            let mask = sys::lammps_extract_atom(self.handle(), c"mask".as_ptr()).cast::<i32>();
            if mask.is_null() {
                return;
            }
            for (row, groups) in own.iter().enumerate().skip(n.saturating_sub(created)) {
                if let Some(groups) = groups {
                    *mask.add(row) = *groups;
                }
            }
        }
    }

    /// Changes the box to `cell`. Coordinates stay the same.
    ///
    /// # Errors
    /// [`Error::Preflight`] for an invalid cell, or for a tilted one if the box was created without tilt; LAMMPS's own text, e.g. if
    /// there are atoms.
    ///
    /// # MPI
    /// Collective.
    pub fn reset_box(&mut self, cell: &Cell) -> Result<(), Error> {
        let lo = cell.origin;
        let hi = [0, 1, 2].map(|k| lo[k] + cell.vectors[k][k]);
        let (xy, xz, yz) = (cell.vectors[1][0], cell.vectors[2][0], cell.vectors[2][1]);
        // LAMMPS checks none of this.
        let refuse = |why: String| Err(Error::Preflight(why));
        if self.setting("box_exist") != 1 {
            return refuse("there is no simulation box to change".into());
        }
        if !(0..3).all(|k| lo[k] < hi[k] && lo[k].is_finite() && hi[k].is_finite()) {
            return refuse(format!("a box extends from a lower to a higher corner, not from {lo:?} to {hi:?}"));
        }
        let upright = [xy, xz, yz].iter().all(|tilt| *tilt == 0.0);
        if !upright && (self.setting("triclinic") != 1 || ![xy, xz, yz].iter().all(|tilt| tilt.is_finite())) {
            return refuse(format!(
                "the box cannot have the tilt {:?}: it was created without tilt, or the tilt is not finite",
                [xy, xz, yz]
            ));
        }
        let handle = self.handle();
        self.change("lammps_reset_box", Phase::Command, String::new, |failure| {
            // SAFETY: the handle is open and both arrays have three numbers.
            unsafe { sys::otf_reset_box(handle, lo.as_ptr(), hi.as_ptr(), xy, yz, xz, failure) }
        })?;
        Ok(())
    }

    /// Loads a plugin file, e.g. `paceplugin.so`, for this instance and all that are opened later in the process. Plugins are never
    /// unloaded.
    ///
    /// Plugins of this project register their styles themselves, with or without LAMMPS's PLUGIN package. All others are loaded by
    /// LAMMPS.
    ///
    /// # Errors
    /// [`Error::Preflight`] if the file cannot be loaded, was compiled for another version of LAMMPS, or is a plugin of another project
    /// and LAMMPS is too old for it.
    ///
    /// # MPI
    /// Collective.
    pub fn load_plugin(&mut self, file: &Path) -> Result<(), Error> {
        let registered = self.register_plugin(file)?;
        // Agreed, because one node may not have the file, or another one.
        if self.comm().any(registered.is_err()) {
            let why = registered.err().unwrap_or_else(|| "it cannot be used on another rank".into());
            let file = file.display();
            return Err(Error::Preflight(format!("LAMMPS cannot use the plugin {file}: {why}")));
        }
        if self.comm().any(registered == Ok(false)) {
            return self.load_foreign_plugin(file);
        }
        let mut known = KNOWN_PLUGINS.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|known| known == file) {
            known.push(file.to_owned());
        }
        Ok(())
    }

    /// Registers the styles of all plugins of this project that an instance of this process has loaded.
    fn register_known_plugins(&mut self) -> Result<(), Error> {
        let known = KNOWN_PLUGINS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Those of rank 0: an instance of one rank, such as that of a label, may have loaded more there.
        let known = preflight::broadcast_paths(&known, self.comm());
        known.iter().try_for_each(|plugin| self.load_plugin(plugin))
    }

    /// Registers the styles of a plugin of this project; `Ok(Ok(false))` for another plugin. The inner error is the reason why the file
    /// cannot be used.
    fn register_plugin(&mut self, file: &Path) -> Result<Result<bool, String>, Error> {
        // `dlopen` searches for a name without a slash.
        let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let text = c_string("the file", &path.display().to_string())?;
        let handle = self.handle();
        self.end_run()?;
        let registered = guarded(
            "load_plugin",
            || path.display().to_string(),
            self.comm().size(),
            |failure| {
                // SAFETY: the handle is open, the path a valid C string, and &mut self means that no view is alive.
                unsafe { sys::otf_register_plugin(handle, text.as_ptr(), failure) }
            },
        );
        match registered {
            Ok(known) => Ok(Ok(known != 0)),
            // An exception of the guard itself, on this rank alone or on all.
            Err(failure) if failure.severity == Severity::Foreign => Ok(Err(failure.message)),
            Err(failure) => self.classify(Err(failure)),
        }
    }

    /// Has LAMMPS load a plugin of another project.
    fn load_foreign_plugin(&mut self, file: &Path) -> Result<(), Error> {
        let quoted = quote_path(file)?;
        self.check_plugins_are_kept()?;
        self.command(&format!("plugin load {quoted}"))?;
        // LAMMPS prints a warning that the file could not be loaded, which is not shown.
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let loaded = loaded_libraries(|name| real.file_name().is_some_and(|own| own == name));
        // Agreed, because one node may not have the file.
        if self.comm().any(!loaded.iter().any(|l| Path::new(l) == real)) {
            return Err(Error::Preflight(format!(
                "LAMMPS could not load the plugin {}: the file does not exist, is not a LAMMPS plugin, or needs a library \
                 that is missing (`ldd` shows which)",
                file.display()
            )));
        }
        Ok(())
    }

    /// Checks that the plugins that LAMMPS has loaded itself, by a command or from `LAMMPS_PLUGIN_PATH`, stay loaded when another
    /// instance of the process closes. Otherwise the process would crash after the first check of a cut-out.
    ///
    /// # Errors
    /// [`Error::Preflight`] if there are such plugins and LAMMPS is older than 22 Jul 2025; the same on all ranks.
    ///
    /// # MPI
    /// Collective.
    pub(crate) fn check_plugins(&self) -> Result<(), Error> {
        // SAFETY: no instance is needed; the call reads a number.
        let here = unsafe { sys::lammps_plugin_count() } > 0;
        // Agreed, because one node may not have the file of a plugin.
        if self.comm().any(here) { self.check_plugins_are_kept() } else { Ok(()) }
    }

    fn check_plugins_are_kept(&self) -> Result<(), Error> {
        if !self.has_style("command", "plugin") {
            return Err(Error::Preflight(
                "this LAMMPS was built without its PLUGIN package, which plugins of other projects need: build it with -DPKG_PLUGIN=on"
                    .into(),
            ));
        }
        // SAFETY: the call only looks up a symbol.
        if unsafe { sys::otf_keeps_plugins() } != 0 {
            return Ok(());
        }
        Err(Error::Preflight(
            "LAMMPS before 22 Jul 2025 unloads its plugins while they are in use: use a newer LAMMPS, or remove `plugins` from the \
             configuration, `plugin load` from the set-up, and LAMMPS_PLUGIN_PATH from the environment. The plugins of this program \
             do not need them."
                .into(),
        ))
    }

    /// `n` is [`Lammps::local_atoms`].
    fn atom_vectors(&self, name: &CStr, n: usize) -> ArrayView2<'_, f64> {
        // SAFETY: the handle is open; x, v and f are arrays of nlocal or more rows of three doubles, in one block, that
        // live until the next command, which needs &mut self.
        unsafe {
            let rows = sys::lammps_extract_atom(self.handle(), name.as_ptr()).cast::<*const f64>();
            if rows.is_null() || n == 0 {
                return ArrayView2::from_shape((0, 3), &[]).expect("an empty view");
            }
            ArrayView2::from_shape_ptr((n, 3), *rows)
        }
    }

    /// `id` or `image`, which have 32 or 64 bits. `n` is [`Lammps::local_atoms`].
    fn atom_integers(&self, name: &CStr, n: usize) -> Integers<'_> {
        // SAFETY: both have the width found at the opening.
        unsafe {
            if self.wide { self.atom_array::<i64>(name, n).into() } else { self.atom_array::<i32>(name, n).into() }
        }
    }

    /// `type` or `mask`. `n` is [`Lammps::local_atoms`].
    fn atom_numbers(&self, name: &CStr, n: usize) -> ArrayView1<'_, i32> {
        // SAFETY: both are arrays of int.
        unsafe { self.atom_array(name, n) }
    }

    /// # Safety
    /// The elements of the per-atom array `name` must have the type `T`, and `n` must be [`Lammps::local_atoms`].
    unsafe fn atom_array<T>(&self, name: &CStr, n: usize) -> ArrayView1<'_, T> {
        // SAFETY: as in `atom_vectors`; the type as the caller guarantees.
        unsafe {
            let values = sys::lammps_extract_atom(self.handle(), name.as_ptr()).cast::<T>();
            if values.is_null() || n == 0 {
                return ArrayView1::from(&[]);
            }
            ArrayView1::from_shape_ptr(n, values)
        }
    }

    /// An array of ids or image flags in the width of this liblammps. `what` is the subject of the error message.
    fn packed<'a>(&self, values: &'a [i64], what: &str) -> Result<Packed<'a>, Error> {
        if self.wide {
            return Ok(Packed::I64(values));
        }
        let narrow = |&value: &i64| {
            i32::try_from(value).map_err(|_| {
                Error::Preflight(format!("{what} {value} cannot be stored by this liblammps, which has 32 bits for it"))
            })
        };
        values.iter().map(narrow).collect::<Result<_, _>>().map(Packed::I32)
    }

    /// Numbers that the pair style provides under this name, in its memory.
    ///
    /// # Errors
    /// [`Error::Missing`] if it provides none.
    pub(crate) fn pair_numbers<const N: usize>(&self, name: &str) -> Result<[f64; N], Error> {
        let numbers = self.pair_property(name)?.cast::<[f64; N]>();
        // SAFETY: the names in use are those of `PairPaceOpt::extract`, which are of numbers; that of several has as many as its only
        // reader expects. They live as long as the pair style, and nothing else accesses them now.
        Ok(unsafe { numbers.read() })
    }

    /// Sets a number that the pair style provides under this name. A run that has paused continues with it.
    ///
    /// # Errors
    /// [`Error::Missing`] if it provides none.
    ///
    /// # MPI
    /// Must be called with the same value on all ranks. Does not communicate.
    pub(crate) fn set_pair_number(&mut self, name: &str, value: f64) -> Result<(), Error> {
        let number = self.pair_property(name)?.cast::<f64>();
        // SAFETY: as in `pair_numbers`.
        unsafe { number.write(value) };
        Ok(())
    }

    /// As [`Lammps::set_pair_number`], for an integer.
    ///
    /// # Errors
    /// [`Error::Missing`] if it provides none.
    pub(crate) fn set_pair_integer(&mut self, name: &str, value: i32) -> Result<(), Error> {
        let number = self.pair_property(name)?.cast::<i32>();
        // SAFETY: as in `pair_numbers`; the name of an integer.
        unsafe { number.write(value) };
        Ok(())
    }

    fn pair_property(&self, name: &str) -> Result<NonNull<c_void>, Error> {
        let c_name = c_string("the name", name)?;
        let handle = self.handle();
        let found = guarded(
            "lammps_extract_pair",
            || name.to_owned(),
            self.comm().size(),
            // SAFETY: the handle is open and the name a valid C string.
            |failure| unsafe { sys::otf_extract_pair(handle, c_name.as_ptr(), failure) },
        );
        let hint = ", which [explore] requires: use `engine = \"opt\"` with the plugin of this version (plugins/build pace-opt)";
        let missing = Error::Missing { what: "property of the pair style", name: name.to_owned(), hint };
        found.map_err(|failure| self.error(failure)).and_then(|found| NonNull::new(found).ok_or(missing))
    }

    /// The per-atom data of a fix, of this kind.
    fn per_atom(&self, id: &str, kind: u32) -> Result<Option<NonNull<c_void>>, Error> {
        let c_id = c_string("the id", id)?;
        let (handle, style) = (self.handle(), sys::LMP_STYLE_ATOM as c_int);
        let found = guarded(
            "lammps_extract_fix",
            || id.to_owned(),
            self.comm().size(),
            // SAFETY: the handle is open and the id a valid C string.
            |failure| unsafe { sys::otf_extract_fix(handle, c_id.as_ptr(), style, kind as c_int, 0, 0, failure) },
        );
        found.map(NonNull::new).map_err(|failure| self.error(failure))
    }
}

/// Integers in the width of this liblammps.
enum Packed<'a> {
    I32(Vec<i32>),
    I64(&'a [i64]),
}

impl Packed<'_> {
    fn as_ptr(&self) -> *const c_void {
        match self {
            Self::I32(values) => values.as_ptr().cast(),
            Self::I64(values) => values.as_ptr().cast(),
        }
    }
}

/// What a call that changes the instance does.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Command,
    /// Steps of molecular dynamics.
    Run,
}

/// Makes a guarded C++ function throw: an exception of the standard library (0), out of memory (1), an integer (2), nothing (3).
/// For tests of the guard.
///
/// # Errors
/// The exception, as text.
#[doc(hidden)]
pub fn throw(kind: i32) -> Result<(), Failure> {
    // SAFETY: the function takes an integer and writes only to the failure.
    guarded("throw", String::new, 1, |failure| unsafe { sys::otf_throw(kind, failure) })
}

/// The highest atom id that this liblammps can store: 2³¹ - 1, or 2⁶³ - 1 if it was built with `-DLAMMPS_SIZES=bigbig`.
#[must_use]
pub fn max_id() -> AtomId {
    // SAFETY: the name is a valid C string, and this setting needs no instance.
    let bytes = unsafe { sys::lammps_extract_setting(std::ptr::null_mut(), c"tagint".as_ptr()) };
    if bytes == 8 { AtomId::MAX } else { i32::MAX.into() }
}

/// Flushes the files that LAMMPS has open.
pub(crate) fn flush() {
    // SAFETY: the C standard allows it at any time.
    unsafe { sys::otf_flush() };
}

/// Makes a fallible call: every one goes through this function.
///
/// `body` passes its argument, to which failures are written, to one function of the guard. `ranks` is the number of ranks that make
/// the call together.
fn guarded<T>(
    call: &'static str,
    argument: impl FnOnce() -> String,
    ranks: usize,
    body: impl FnOnce(*mut sys::otf_failure) -> T,
) -> Result<T, Failure> {
    if let Some(fault) = fault::before_call(call, ranks) {
        return Err(Failure { argument: argument(), ..Failure::injected(fault, call) });
    }
    // Uninitialised: clearing 8 kB for each call would dominate the cost of a poll.
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

/// The result of a check on this rank; an error if the check failed on any rank.
///
/// # MPI
/// Collective.
fn agreed(checked: Result<(), Error>, comm: &Comm) -> Result<(), Error> {
    let remote = || Error::Preflight("another rank cannot use its liblammps".into());
    if comm.any(checked.is_err()) { Err(checked.err().unwrap_or_else(remote)) } else { Ok(()) }
}

/// The command of [`Lammps::run`].
fn run_command(steps: i64, set_up: bool, ramp: &std::ops::Range<i64>) -> String {
    let pre = if set_up { "yes" } else { "no" };
    format!("run {steps} pre {pre} post no start {} stop {}", ramp.start, ramp.end)
}

fn c_string(what: &'static str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Text { what, text: text.to_owned(), why: "it contains a NUL character" })
}

/// # Safety
/// `argv` must hold `argc` valid strings followed by a null pointer.
#[cfg(feature = "mpi")]
unsafe fn open_raw(argc: c_int, argv: *mut *mut c_char, comm: &Comm, failure: *mut sys::otf_failure) -> *mut c_void {
    // The Fortran handle keeps mpi.h out of the bindings and works with every MPI.
    // SAFETY: the communicator is alive; argv as the caller guarantees.
    unsafe {
        let handle = mpi::ffi::MPI_Comm_c2f(comm.raw());
        sys::otf_open(argc, argv, handle, failure)
    }
}

/// # Safety
/// `argv` must hold `argc` valid strings followed by a null pointer.
#[cfg(not(feature = "mpi"))]
unsafe fn open_raw(argc: c_int, argv: *mut *mut c_char, _comm: &Comm, failure: *mut sys::otf_failure) -> *mut c_void {
    // SAFETY: argv as the caller guarantees.
    unsafe { sys::otf_open_no_mpi(argc, argv, failure) }
}
