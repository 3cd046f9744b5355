// SPDX-License-Identifier: GPL-2.0-or-later
//! The C interface, declared in `include/pace_opt.h`. Panics are caught and returned as errors.

use crate::{Bias, Error, Evaluator, Output, Potential, System};
use std::ffi::{CStr, c_char, c_double, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// An evaluator, as the opaque type of the C interface.
pub struct Handle {
    evaluator: Evaluator,
    names: Vec<std::ffi::CString>,
}

/// Buffer for an error message.
#[repr(C)]
pub struct ErrorText {
    /// The message, terminated by zero; truncated to fit.
    pub text: [c_char; 1024],
    /// Indices of the atoms that the error concerns, or -1.
    pub atoms: [c_int; 2],
}

impl ErrorText {
    fn set(&mut self, error: &Error) {
        self.atoms = match *error {
            Error::Overlap { i, j, .. } | Error::NotFinite { i, j } => [i as c_int, j as c_int],
            _ => [-1, -1],
        };
        self.write(&error.to_string());
    }

    fn write(&mut self, message: &str) {
        let mut end = message.len().min(self.text.len() - 1);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        for (c, b) in self.text.iter_mut().zip(message[..end].bytes().chain([0])) {
            *c = b as c_char;
        }
    }
}

/// Runs `body`; writes its error or the message of its panic to `error`.
fn guarded<T>(error: Option<&mut ErrorText>, body: impl FnOnce() -> Result<T, Error>) -> Option<T> {
    match (catch_unwind(AssertUnwindSafe(body)), error) {
        (Ok(Ok(value)), _) => Some(value),
        (Ok(Err(e)), Some(text)) => {
            text.set(&e);
            None
        }
        (Err(panic), Some(text)) => {
            let reason = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown reason");
            text.atoms = [-1, -1];
            text.write(&format!("internal error (a panic) in pace-opt: {reason}"));
            None
        }
        (_, None) => None,
    }
}

/// Text of a C string; empty for a null pointer.
///
/// # Safety
/// `p` is null or points to a string terminated by zero.
unsafe fn text<'a>(p: *const c_char) -> Result<&'a str, Error> {
    if p.is_null() {
        return Ok("");
    }
    // SAFETY: not null, and terminated by zero as the caller promises.
    unsafe { CStr::from_ptr(p) }.to_str().map_err(|_| Error::Argument("a file name is not UTF-8".into()))
}

/// Opens a potential, with an active set unless that is null or empty. Returns null on error.
///
/// # Safety
/// The names are null or strings terminated by zero; `error` is null or points to an [`ErrorText`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_open(
    potential: *const c_char,
    active_set: *const c_char,
    error: *mut ErrorText,
) -> *mut Handle {
    // SAFETY: the caller's promise.
    let (potential, active_set, error) = unsafe { (text(potential), text(active_set), error.as_mut()) };
    guarded(error, || {
        let active_set = active_set?;
        let asi = (!active_set.is_empty()).then(|| Path::new(active_set));
        let evaluator = Evaluator::new(Potential::read(Path::new(potential?), asi)?);
        let names = evaluator
            .potential()
            .elements()
            .iter()
            .map(|e| std::ffi::CString::new(e.as_str()).map_err(|_| Error::Argument("an element's name".into())))
            .collect::<Result<_, _>>()?;
        Ok(Box::into_raw(Box::new(Handle { evaluator, names })))
    })
    .unwrap_or(std::ptr::null_mut())
}

/// Frees a handle; null is ignored.
///
/// # Safety
/// `handle` is null or comes from [`pace_opt_open`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_close(handle: *mut Handle) {
    if !handle.is_null() {
        // SAFETY: the handle was made by `Box::into_raw`, and the caller does not use it again.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle) })));
    }
}

/// Number of elements.
///
/// # Safety
/// `handle` comes from [`pace_opt_open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_elements(handle: *const Handle) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { handle.as_ref() }.map_or(0, |h| h.names.len() as c_int)
}

/// Symbol of an element, or null if the index is out of range. Valid until the handle is closed.
///
/// # Safety
/// `handle` comes from [`pace_opt_open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_element(handle: *const Handle, index: c_int) -> *const c_char {
    // SAFETY: the caller's promise.
    let h = unsafe { handle.as_ref() };
    h.and_then(|h| h.names.get(usize::try_from(index).ok()?)).map_or(std::ptr::null(), |n| n.as_ptr())
}

/// Cutoff of an ordered pair of elements in Å; zero if there is no such pair.
///
/// # Safety
/// `handle` comes from [`pace_opt_open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_cutoff(handle: *const Handle, i: c_int, j: c_int) -> c_double {
    // SAFETY: the caller's promise.
    let h = unsafe { handle.as_ref() };
    let (Ok(i), Ok(j)) = (usize::try_from(i), usize::try_from(j)) else { return 0.0 };
    h.map_or(0.0, |h| h.evaluator.potential().pair_cutoff(i, j))
}

/// Name of the instruction set in use, for messages.
///
/// # Safety
/// `handle` comes from [`pace_opt_open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_isa(handle: *const Handle) -> *const c_char {
    use crate::Isa;
    // SAFETY: the caller's promise.
    match unsafe { handle.as_ref() }.map(|h| h.evaluator.isa()) {
        Some(Isa::Avx512) => c"avx512".as_ptr(),
        Some(Isa::Avx2) => c"avx2".as_ptr(),
        Some(_) => c"portable".as_ptr(),
        None => c"".as_ptr(),
    }
}

/// Sets a bias towards large extrapolation grades: its strength in eV, the grades at which it begins and ends, and the shortest distance as a
/// share of the sum of the covalent radii ([`Bias`]). It stays until it is set again; strength 0 removes it, except for
/// [`Results::bias_forces`]. Returns 0, or 1 after an error, which `error` describes.
///
/// # Safety
/// `handle` comes from [`pace_opt_open`]; `error` is null or points to an [`ErrorText`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_set_bias(
    handle: *mut Handle,
    strength: c_double,
    onset: c_double,
    limit: c_double,
    shortest: c_double,
    error: *mut ErrorText,
) -> c_int {
    // SAFETY: the caller's promise.
    let (handle, error) = unsafe { (handle.as_mut(), error.as_mut()) };
    let done = guarded(error, || match handle {
        Some(handle) => handle.evaluator.set_bias(Some(Bias { strength, onset, limit, shortest })),
        None => Err(Error::Argument("a null pointer".into())),
    });
    c_int::from(done.is_none())
}

/// Sets the number of threads of evaluations, 1 to 1024; the calling thread is one of them. Results do not depend on it. Returns 0, or 1
/// after an error, which `error` describes; the number is then unchanged.
///
/// # Safety
/// `handle` comes from [`pace_opt_open`]; `error` is null or points to an [`ErrorText`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_set_threads(handle: *mut Handle, threads: c_int, error: *mut ErrorText) -> c_int {
    // SAFETY: the caller's promise.
    let (handle, error) = unsafe { (handle.as_mut(), error.as_mut()) };
    let done = guarded(error, || match handle {
        Some(handle) => handle.evaluator.set_threads(usize::try_from(threads).unwrap_or(0)),
        None => Err(Error::Argument("a null pointer".into())),
    });
    c_int::from(done.is_none())
}

/// Neighbour lists of the caller.
struct Lists {
    numneigh: *const c_int,
    firstneigh: *const *const c_int,
}

// SAFETY: the arrays are only read, and the caller of `pace_opt_compute` does not change them during the call.
unsafe impl Sync for Lists {}

impl Lists {
    /// Neighbours of an atom.
    ///
    /// # Safety
    /// The arrays have an entry for the atom, and its list has the stated length.
    unsafe fn of<'a>(&self, atom: usize) -> &'a [c_int] {
        // SAFETY: the caller's promise.
        unsafe {
            let n = *self.numneigh.add(atom);
            if n <= 0 { &[] } else { std::slice::from_raw_parts(*self.firstneigh.add(atom), n as usize) }
        }
    }
}

/// Input of [`pace_opt_compute`].
#[repr(C)]
pub struct Input {
    /// Number of atoms, images included.
    pub nall: c_int,
    /// Positions in Å, `nall` × 3.
    pub x: *const c_double,
    /// Types, `nall`.
    pub types: *const c_int,
    /// Element index of each type, `ntypes`; negative for none.
    pub element_of_type: *const c_int,
    /// Number of types.
    pub ntypes: c_int,
    /// Factor of the energies of atoms of each type, `ntypes`; null means one.
    pub scales: *const c_double,
    /// Number of atoms to evaluate.
    pub inum: c_int,
    /// Their indices.
    pub ilist: *const c_int,
    /// Number of neighbours, indexed by atom.
    pub numneigh: *const c_int,
    /// Neighbours, indexed by atom.
    pub firstneigh: *const *const c_int,
    /// Bit mask of neighbour indices.
    pub mask: c_int,
}

/// Output of [`pace_opt_compute`]. All pointers but that of the forces may be null.
#[repr(C)]
pub struct Results {
    /// Forces in eV/Å, `nall` × 3; added to.
    pub f: *mut c_double,
    /// Energies per atom in eV, `nall`; set for evaluated atoms.
    pub energies: *mut c_double,
    /// Virials per atom in eV, `nall` × 6 (xx, yy, zz, xy, xz, yz); added to.
    pub virials: *mut c_double,
    /// Fraction of the many-body energy that core repulsion has switched off, `nall`; set for evaluated atoms.
    pub core_shares: *mut c_double,
    /// The largest share of a neighbour's radial functions that the inner cutoff has switched off, `nall`; set for evaluated atoms.
    pub inner_shares: *mut c_double,
    /// Extrapolation grades, `nall`; set for evaluated atoms.
    pub grades: *mut c_double,
    /// Forces of the bias alone per unit of its strength, in 1/Å, `nall` × 3; added to. Not null only with a bias.
    pub bias_forces: *mut c_double,
    /// Total energy in eV, without the bias.
    pub energy: c_double,
    /// Energy of the bias in eV.
    pub bias: c_double,
    /// With a bias, the smallest distance of two atoms as a share of the sum of their covalent radii; infinite if not known.
    pub closest: c_double,
    /// Total virial in eV: xx, yy, zz, xy, xz, yz.
    pub virial: [c_double; 6],
}

/// Evaluates atoms. Returns 0, or 1 after an error, which `error` describes.
///
/// # Safety
/// `handle` comes from [`pace_opt_open`]; the arrays have the stated lengths and do not overlap; `error` is
/// null or points to an [`ErrorText`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pace_opt_compute(
    handle: *mut Handle,
    input: *const Input,
    results: *mut Results,
    error: *mut ErrorText,
) -> c_int {
    // SAFETY: the caller's promise.
    let (handle, input, results, error) =
        unsafe { (handle.as_mut(), input.as_ref(), results.as_mut(), error.as_mut()) };
    let done = guarded(error, || {
        let (Some(handle), Some(input), Some(results)) = (handle, input, results) else {
            return Err(Error::Argument("a null pointer".into()));
        };
        (results.energy, results.bias, results.closest, results.virial) = (0.0, 0.0, f64::INFINITY, [0.0; 6]);
        if input.inum <= 0 || input.nall <= 0 {
            return Ok(());
        }
        let (nall, inum) = (input.nall as usize, input.inum as usize);
        let required =
            [input.x.is_null(), input.types.is_null(), input.element_of_type.is_null(), input.ilist.is_null()];
        if required.contains(&true) || input.numneigh.is_null() || input.firstneigh.is_null() || results.f.is_null() {
            return Err(Error::Argument("a null pointer".into()));
        }
        // SAFETY: the caller's promise about lengths; null was checked.
        let (positions, types, element_of_type, scales, atoms, forces) = unsafe {
            let ntypes = input.ntypes.max(0) as usize;
            (
                std::slice::from_raw_parts(input.x.cast::<[f64; 3]>(), nall),
                std::slice::from_raw_parts(input.types, nall),
                std::slice::from_raw_parts(input.element_of_type, ntypes),
                if input.scales.is_null() { &[][..] } else { std::slice::from_raw_parts(input.scales, ntypes) },
                std::slice::from_raw_parts(input.ilist, inum),
                std::slice::from_raw_parts_mut(results.f.cast::<[f64; 3]>(), nall),
            )
        };
        // SAFETY: the caller's promise about lengths; null was checked.
        let per_atom = |p: *mut c_double| (!p.is_null()).then(|| unsafe { std::slice::from_raw_parts_mut(p, nall) });
        let mut output = Output {
            forces,
            energies: per_atom(results.energies),
            // SAFETY: the caller's promise about lengths; null was checked.
            virials: (!results.virials.is_null())
                .then(|| unsafe { std::slice::from_raw_parts_mut(results.virials.cast::<[f64; 6]>(), nall) }),
            core_shares: per_atom(results.core_shares),
            inner_shares: per_atom(results.inner_shares),
            grades: per_atom(results.grades),
            coefficients: None,
            // SAFETY: the caller's promise about lengths; null was checked.
            bias_forces: (!results.bias_forces.is_null())
                .then(|| unsafe { std::slice::from_raw_parts_mut(results.bias_forces.cast::<[f64; 3]>(), nall) }),
        };
        let lists = Lists { numneigh: input.numneigh, firstneigh: input.firstneigh };
        // SAFETY: the caller's promise about lengths; `evaluate` asks for atoms only after checking that they are below nall.
        let neighbours = |k: usize| unsafe { lists.of(atoms[k] as usize) };
        let system = System { positions, types, element_of_type, scales, atoms, neighbours, mask: input.mask };
        let totals = handle.evaluator.evaluate(&system, &mut output)?;
        (results.energy, results.bias) = (totals.energy, totals.bias);
        (results.closest, results.virial) = (totals.closest, totals.virial);
        Ok(())
    });
    c_int::from(done.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> ErrorText {
        ErrorText { text: [1; 1024], atoms: [7, 7] }
    }

    fn said(error: &ErrorText) -> String {
        error.text.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect()
    }

    #[test]
    fn a_panic_becomes_an_error_text() {
        type Body = fn() -> Result<(), Error>;
        let panics: [(Body, &str); 4] = [
            (|| panic!("a reason"), "in pace-opt: a reason"),
            (|| panic!("reason {}", 5), "in pace-opt: reason 5"),
            (|| Err(Error::Argument([""; 3][std::hint::black_box(3)].into())), "index out of bounds"),
            (|| std::panic::panic_any(5), "in pace-opt: unknown reason"),
        ];
        for (body, words) in panics {
            let mut error = empty();
            assert!(guarded(Some(&mut error), body).is_none());
            let said = said(&error);
            assert!(said.starts_with("internal error (a panic) in pace-opt") && said.contains(words), "{said}");
            assert_eq!(error.atoms, [-1, -1]);
            assert!(guarded(None, body).is_none(), "the buffer for the text may be missing");
        }
        let mut error = empty();
        assert!(guarded(Some(&mut error), || -> Result<(), Error> { panic!("{}", "é".repeat(1000)) }).is_none());
        assert_eq!(error.text.iter().position(|c| *c == 0).map(|end| end > 1000), Some(true), "truncated to fit");
        println!("tried {}: panics in pace-opt, called from C: text", panics.len() + 1);
    }

    #[test]
    fn invalid_calls_from_c_become_errors() {
        let mut error = empty();
        let bad_name = [b'a', 0xff, 0];
        // SAFETY: each name is null or terminated by zero; every function accepts a null handle.
        unsafe {
            for (name, words) in [
                (std::ptr::null(), "potential files are .yaml"),
                (c"/nowhere/x.yace".as_ptr(), "cannot read /nowhere/x.yace"),
                (bad_name.as_ptr().cast(), "a file name is not UTF-8"),
            ] {
                assert!(pace_opt_open(name, std::ptr::null(), &raw mut error).is_null());
                assert!(said(&error).contains(words), "{}", said(&error));
                assert!(pace_opt_open(name, std::ptr::null(), std::ptr::null_mut()).is_null());
            }
            let null = std::ptr::null_mut();
            assert_eq!(pace_opt_compute(null, std::ptr::null(), std::ptr::null_mut(), &raw mut error), 1);
            assert!(said(&error).contains("a null pointer"), "{}", said(&error));
            assert_eq!(pace_opt_set_bias(null, 0.0, 0.0, 1.0, 0.5, &raw mut error), 1);
            assert!(said(&error).contains("a null pointer"), "{}", said(&error));
            assert_eq!(pace_opt_set_threads(null, 2, &raw mut error), 1);
            assert!(said(&error).contains("a null pointer"), "{}", said(&error));
            assert_eq!((pace_opt_elements(null), pace_opt_cutoff(null, 0, -1)), (0, 0.0));
            assert!(pace_opt_element(null, 0).is_null());
            pace_opt_close(null);

            let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/small.yace");
            let name = std::ffi::CString::new(small.to_str().unwrap()).unwrap();
            let handle = pace_opt_open(name.as_ptr(), std::ptr::null(), &raw mut error);
            assert!(!handle.is_null(), "{}", said(&error));
            assert!(pace_opt_element(handle, 1).is_null() && pace_opt_element(handle, -1).is_null());
            assert_eq!(pace_opt_cutoff(handle, 0, 9), 0.0);
            assert_eq!(pace_opt_set_bias(handle, 0.1, 1.0, 10.0, 0.65, &raw mut error), 1);
            assert!(said(&error).contains("requires an active set"), "{}", said(&error));
            for threads in [-1, 0, 2000] {
                assert_eq!(pace_opt_set_threads(handle, threads, &raw mut error), 1);
                assert!(said(&error).contains("required is 1 to 1024"), "{}", said(&error));
            }
            let (x, types, element_of_type, mut f) = ([0.0, 0.0, 0.0, 2.5, 0.0, 0.0], [1, 1], [-1, 0], [0.0; 6]);
            let results = || Results {
                core_shares: std::ptr::null_mut(),
                inner_shares: std::ptr::null_mut(),
                f: std::ptr::null_mut(),
                energies: std::ptr::null_mut(),
                virials: std::ptr::null_mut(),
                grades: std::ptr::null_mut(),
                bias_forces: std::ptr::null_mut(),
                energy: 0.0,
                bias: 0.0,
                closest: 0.0,
                virial: [0.0; 6],
            };
            // Atoms and neighbours that do not exist, then a valid call.
            for (atom, neighbour, words) in
                [(0, 1, ""), (5, 1, "atom 5"), (-1, 1, "atom -1"), (0, 7, "7"), (0, -3, "neighbour")]
            {
                let (lists, numbers) = ([neighbour; 6], [1; 6]);
                let first = [lists.as_ptr(); 6];
                let input = Input {
                    nall: 2,
                    x: x.as_ptr(),
                    types: types.as_ptr(),
                    element_of_type: element_of_type.as_ptr(),
                    ntypes: 2,
                    scales: std::ptr::null(),
                    inum: 1,
                    ilist: &raw const atom,
                    numneigh: numbers.as_ptr(),
                    firstneigh: first.as_ptr(),
                    mask: -1,
                };
                let mut out = Results { f: f.as_mut_ptr(), ..results() };
                let failed = pace_opt_compute(handle, &raw const input, &raw mut out, &raw mut error);
                assert_eq!(failed, c_int::from(!words.is_empty()), "{atom} {neighbour}");
                assert!(words.is_empty() || said(&error).contains(words), "{}", said(&error));
            }
            pace_opt_close(handle);
        }
        println!("tried 14: what a caller in C can get wrong: text");
    }
}
