// SPDX-License-Identifier: GPL-2.0-or-later
//! Crashes of a run of 108 atoms of aluminium, for the tests and for the table in docs/crashes.md.
#![allow(dead_code)]

use lammps_otf::simulation::CrashKind;

/// Polls are every 10 steps; the run crashes after step 20.
pub const COMMON: &str = "temperature = 300\nsteps = 100\nsampling_interval = 10\nseed = 11\n\
                      uncertainty = { compute = \"u\" }\nuncertainty_threshold = 1e9\n";

/// A cause of a crash.
pub struct Way {
    /// The description.
    pub name: &'static str,
    /// The commands, each a quoted TOML string.
    pub setup: &'static str,
    /// The commands that remove the cause, for the continued run.
    pub undo: &'static str,
    pub kinds: &'static [CrashKind],
    /// The step of the last valid poll.
    pub last_valid: i64,
}

pub const WAYS: [Way; 6] = [
    Way {
        // Atom 1 is pulled out of a non-periodic box around the crystal with 8 Å of vacuum.
        name: "lost atoms",
        setup: "\"change_box all boundary f f f x delta -8 8 y delta -8 8 z delta -8 8\", \
                \"variable away equal -5000*(step>20)\", \"group one id 1\", \"fix away one addforce v_away 0 0\"",
        undo: "unfix away",
        kinds: &[CrashKind::LostAtoms],
        last_valid: 20,
    },
    Way {
        name: "NaN in x",
        setup: "\"group one id 1\", \"variable big atom 1e308*(1+99*(step>22))\", \"variable nan atom v_big-v_big\", \
                \"variable nought equal 0\", \"fix bad one move variable v_nan NULL NULL v_nought NULL NULL\"",
        undo: "unfix bad",
        kinds: &[CrashKind::NotFinite],
        last_valid: 20,
    },
    Way {
        name: "NaN in v",
        setup: "\"group one id 1\", \"variable big atom 1e308*(1+99*(step>22))\", \"variable nan atom v_big-v_big\", \
                \"variable nought equal 0\", \"fix bad one move variable v_nought NULL NULL v_nan NULL NULL\"",
        undo: "unfix bad",
        kinds: &[CrashKind::NotFinite],
        last_valid: 20,
    },
    Way {
        name: "NaN in f",
        setup: "\"group one id 1\", \"variable big atom 1e308*(1+99*(step>22))\", \"variable nan atom v_big-v_big\", \
                \"fix bad one addforce v_nan 0 0\"",
        undo: "unfix bad",
        kinds: &[CrashKind::NotFinite],
        last_valid: 20,
    },
    Way {
        // A large force, as from an invalid potential, moves atoms through the crystal.
        name: "an explosion",
        setup: "\"group one id 1\", \"variable push equal 3e5*(step>22)\", \"fix bad one addforce v_push 0 0\"",
        undo: "unfix bad",
        kinds: &[CrashKind::LimitExceeded, CrashKind::NotFinite, CrashKind::LostAtoms],
        last_valid: 20,
    },
    Way {
        name: "two atoms in one place",
        // A displacement of 2 Å in one step moves atom 2 onto atom 1, where Lennard-Jones diverges. (`fix move` is
        // not usable, because LAMMPS would wrap the atom back without end.)
        setup: "\"pair_style lj/cut 6.0\", \"pair_coeff * * 0.392 2.62\", \"group two id 2\", \
                \"variable shove atom -5600*(step==21)\", \"fix bad two addforce 0 v_shove v_shove\"",
        undo: "unfix bad",
        kinds: &[CrashKind::LimitExceeded, CrashKind::NotFinite, CrashKind::LostAtoms],
        last_valid: 20,
    },
];

impl Way {
    /// Keys of the configuration, before its tables.
    pub fn keys(&self) -> String {
        format!("{COMMON}setup = [\"compute u all ke/atom\", {}]\n", self.setup)
    }
}

/// A tabulated pair potential for Al between `low` and 6 Å, for `pair_style table`, which throws an error below
/// `low`.
pub fn morse_table(low: f64) -> String {
    let (high, rows) = (6.0, 2000);
    let mut text = format!("MORSE\nN {rows} R {low} {high}\n\n");
    // Morse potential of Al: D = 0.27 eV, a = 1.16 /Å, r0 = 3.25 Å.
    for i in 0..rows {
        let r = low + (high - low) * f64::from(i) / f64::from(rows - 1);
        let x = (-1.16 * (r - 3.25_f64)).exp();
        let (energy, force) = (0.27 * (x * x - 2.0 * x), 2.0 * 0.27 * 1.16 * (x * x - x));
        text += &format!("{} {r:.10} {energy:.12} {force:.12}\n", i + 1);
    }
    text
}

/// The configuration with the table in the file `table`: one atom is driven into another.
pub fn table_config(table: &std::path::Path) -> String {
    format!(
        "structure = \"al.extxyz\"\n{}setup = [\"compute u all ke/atom\", \"group two id 2\", \
         \"fix hit two move linear 0 -20 -20\"]\n[potential]\npair_style = \"table linear 2000\"\n\
         pair_coeff = [\"* * {} MORSE\"]\ncutoff = 6.0\n[embedding]\nradius = 4.0\nbuffer = 3.5\n",
        COMMON.replace("sampling_interval = 10", "sampling_interval = 5"),
        table.display()
    )
}
