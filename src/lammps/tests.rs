// SPDX-License-Identifier: GPL-2.0-or-later
//! Guarded calls with arguments that the rest of this crate never passes, and the lifetime of runs and instances.

use std::ffi::CStr;
use std::ptr::null_mut;

use super::{Failure, Lammps, Severity, guarded, sys};
use crate::comm::Comm;

#[path = "../../tests/common/throwing.rs"]
mod throwing;

fn failure<T>(body: impl FnOnce(*mut sys::otf_failure) -> T) -> (Option<Failure>, Option<T>) {
    match guarded("call", String::new, 1, body) {
        Ok(value) => (None, Some(value)),
        Err(failure) => (Some(failure), None),
    }
}

#[test]
fn calls_that_throw_and_calls_that_cannot() {
    // One test, because MPI allows calls from one thread at a time.
    let comm = Comm::single();
    let folder = tempfile::tempdir().unwrap();
    let mut lammps = Lammps::open(&["-screen", "none", "-log", "none"], &comm).unwrap();

    // The entry point without MPI.
    let mut argv = [c"lammps-otf".as_ptr().cast_mut(), c"-sufix".as_ptr().cast_mut(), null_mut()];
    // SAFETY: argv holds two valid strings and a null.
    let (error, _) = failure(|failure| unsafe { sys::otf_open_no_mpi(2, argv.as_mut_ptr(), failure) });
    let error = error.unwrap();
    assert_eq!(error.severity, Severity::AllRanks);
    assert!(error.message.contains("Invalid command-line argument: -sufix"), "{error}");

    // A global value is computed on request; per-atom vectors are only pointed at.
    lammps.load_plugin(&throwing::plugin(folder.path())).unwrap();
    lammps
        .command("region box block 0 4 0 4 0 4\ncreate_box 1 box\nmass 1 1.0\npair_style zero 2.0\npair_coeff * *")
        .unwrap();
    let handle = lammps.handle();
    let scalar = |id: &CStr| {
        let (style, kind) = (sys::LMP_STYLE_GLOBAL as i32, sys::LMP_TYPE_SCALAR as i32);
        // SAFETY: the handle is open and the id a valid C string; the result is freed below.
        failure(|failure| unsafe { sys::otf_extract_fix(handle, id.as_ptr(), style, kind, 0, 0, failure) })
    };
    for (kind, severity, words) in [
        ("lammps", Severity::AllRanks, "LAMMPS itself refuses at scalar"),
        ("standard", Severity::Foreign, "thrown at scalar"),
        ("memory", Severity::Foreign, "out of memory"),
        ("number", Severity::Foreign, "not a std::exception"),
    ] {
        lammps.command(&format!("fix t all otf/throw scalar {kind} 0")).unwrap();
        let error = scalar(c"t").0.unwrap();
        assert_eq!(error.severity, severity, "{error}");
        assert!(error.message.contains(words), "{error}");
        lammps.command("unfix t").unwrap();
    }
    let error = scalar(c"t").0.unwrap();
    assert_eq!(error.severity, Severity::AllRanks);
    assert!(error.message.contains("fix"), "{error}");
    lammps.command("fix t all otf/throw nowhere number 0").unwrap();
    let value = scalar(c"t").1.unwrap();
    // SAFETY: LAMMPS has allocated a double, to be freed by its own function.
    unsafe {
        assert_eq!(*value.cast::<f64>(), 4.5);
        sys::lammps_free(value);
    }
    let error = lammps.fix_vector("t").unwrap_err();
    assert_eq!(error.severity(), Some(Severity::AllRanks));
    assert!(error.to_string().contains("does not compute per-atom vector"), "{error}");

    // Thermodynamic output is only pointed at; a missing value has no address.
    lammps.command("create_atoms 1 single 1 2 3\nrun 1 post no").unwrap();
    for (what, index) in
        [(c"keyword", -1), (c"keyword", 1000), (c"type", i32::MAX), (c"data", i32::MIN), (c"nothing", 0)]
    {
        // SAFETY: the handle is open and `what` a valid C string.
        let (_, found) = failure(|failure| unsafe { sys::otf_last_thermo(handle, what.as_ptr(), index, failure) });
        assert!(found.is_none_or(|p| p.is_null()), "{what:?} {index}");
    }
    assert_eq!(lammps.last_thermo("Step").unwrap(), Some(1.0));
    assert_eq!(lammps.last_thermo("no such quantity").unwrap(), None);

    println!(
        "tried 12: `lammps_open_no_mpi`, `_extract_fix`, `_last_thermo` with what they cannot do: text, or nothing"
    );

    // Reading a box that LAMMPS refuses to run with leaves no error behind.
    lammps.command("fix a all deform 1 x scale 1.1\nfix b all deform 1 x scale 1.2").unwrap();
    assert_eq!(lammps.cell().vectors[0], [4.0, 0.0, 0.0]);
    lammps.command("unfix a\nunfix b").unwrap();

    // An error that was not read is not reported for the next call.
    // SAFETY: as above.
    unsafe { sys::lammps_commands_string(handle, c"no_such_command".as_ptr()) };
    assert_eq!(lammps.last_thermo("Step").unwrap(), Some(1.0));
    lammps.command("run 1 post no").unwrap();

    // Cached addresses are discarded before a command that moves the data.
    assert_eq!((lammps.step(), lammps.local_atoms(), lammps.last_thermo("Step").unwrap()), (2, 1, Some(2.0)));
    lammps.run(1, false, 0..10).unwrap();
    assert_eq!((lammps.step(), lammps.last_thermo("Step").unwrap()), (3, Some(3.0)));
    lammps.command("thermo_style custom temp atoms step").unwrap();
    lammps.run(2, true, 0..10).unwrap();
    assert_eq!(lammps.last_thermos(["Step", "Atoms", "TotEng"]).unwrap(), [Some(5.0), Some(1.0), None]);
    lammps
        .command(
            "clear\nregion box prism 0 6 0 5 0 4 1 0 0\ncreate_box 1 box\nmass 1 1.0\npair_style zero 2.0\n\
             pair_coeff * *\ncreate_atoms 1 single 1 2 3\ncreate_atoms 1 single 3 2 1",
        )
        .unwrap();
    assert_eq!((lammps.step(), lammps.local_atoms()), (0, 2));
    assert_eq!(lammps.cell().vectors, [[6.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 0.0, 4.0]]);
    lammps.run(4, true, 0..4).unwrap();
    assert_eq!(
        (lammps.step(), lammps.last_thermo("Step").unwrap(), lammps.last_thermo("Atoms").unwrap()),
        (4, Some(4.0), None)
    );

    // The next run reuses the stack of the last one. A run that is dropped stops first, and the instance stays usable.
    assert!(lammps.load_pause_fix().unwrap());
    lammps.pause_every(10).unwrap();
    lammps.run(0, true, 0..1000).unwrap();
    assert!(lammps.begin_run(100, 0..1000).unwrap());
    assert!(lammps.stack.is_none());
    lammps.end_run().unwrap();
    let base = |lammps: &Lammps| lammps.stack.as_ref().map(corosensei::stack::Stack::base);
    let first = base(&lammps);
    assert!(first.is_some());
    assert!(lammps.begin_run(90, 0..1000).unwrap());
    lammps.end_run().unwrap();
    assert_eq!(base(&lammps), first);
    assert!(lammps.begin_run(80, 0..1000).unwrap());
    let step = lammps.step();
    drop(lammps.paused.take());
    assert_eq!(lammps.step(), step);
    lammps.command("run 1 post no").unwrap();
    assert_eq!(lammps.step(), step + 1);

    // A suspended run keeps its instance open.
    lammps.run(0, true, 0..1000).unwrap();
    assert!(lammps.begin_run(50, 0..1000).unwrap());
    let run = lammps.paused.take();
    let instance = std::rc::Rc::downgrade(&lammps.instance);
    drop(lammps);
    assert!(instance.upgrade().is_some());
    drop(run);
    assert!(instance.upgrade().is_none());

    // A run that cannot be stopped, because this thread unwinds, is leaked with its instance.
    let mut lammps = Lammps::open(&["-screen", "none", "-log", "none"], &comm).unwrap();
    lammps
        .command(
            "region box block 0 4 0 4 0 4\ncreate_box 1 box\nmass 1 1.0\npair_style zero 2.0\npair_coeff * *\n\
             create_atoms 1 single 1 2 3",
        )
        .unwrap();
    lammps.pause_every(1).unwrap();
    lammps.run(0, true, 0..100).unwrap();
    assert!(lammps.begin_run(50, 0..100).unwrap());
    let instance = std::rc::Rc::downgrade(&lammps.instance);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _lammps = lammps;
        panic!("a panic while a run has paused");
    }));
    assert!(unwound.is_err() && instance.upgrade().is_some());
}
