// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of the evaluation end plain `lmp` with `pace/opt` with a message that identifies the atoms.

mod common;

use common::root;

/// Runs aluminium after `change`, which must fail, and returns the output of `lmp`.
fn error_after(style: &str, files: &str, change: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let input = format!(
        "units metal\natom_modify map array\nlattice fcc 4.05\nregion box block 0 3 0 3 0 3\ncreate_box 1 box\n\
         create_atoms 1 box\nmass 1 26.98\npair_style {style}\npair_coeff * * {files} Al\n{change}\nrun 0\n"
    );
    std::fs::write(folder.path().join("in.lammps"), input).unwrap();
    let output = common::run_lmp(folder.path());
    let said = common::text(&output);
    assert!(!output.status.success() && output.status.code() != Some(124), "{said}");
    said
}

#[test]
fn overlapping_atoms_and_nan_are_reported() {
    let al = root().join("potentials/al/Al");
    let (yace, graded) = (format!("{}.yace", al.display()), format!("{0}.yaml {0}.asi", al.display()));
    for (style, files) in [("pace/opt", &yace), ("pace/extrapolation/opt", &graded)] {
        // Moves atom 7 to the position of atom 3, up to 0.1 mÅ.
        let place = "variable d atom x[3]+0.0001\nvariable e atom y[3]\nvariable f atom z[3]\n\
                     group one id 7\nset group one x v_d y v_e z v_f";
        let said = error_after(style, files, place);
        assert!(said.contains("ERROR") && said.contains("too close to evaluate"), "{said}");
        assert!(said.contains("atom IDs are 3 and 7") || said.contains("atom IDs are 7 and 3"), "{said}");
        let nan = "variable big equal 1e308\nvariable n atom v_big*10-v_big*10\ngroup one id 7\n\
                   fix bad one addforce v_n 0 0\nfix nve all nve\nrun 2 post no\nunfix bad";
        let said = error_after(style, files, nan);
        assert!(said.contains("ERROR") && said.contains("atom 7"), "{said}");
    }
}
