// SPDX-License-Identifier: GPL-2.0-or-later
//! Fault injection, in debug builds: the test that no rank ever waits for one that has failed (`tests/faults.rs`) makes each call
//! into LAMMPS and each communication fail in turn, on each rank.
//!
//! `LAMMPS_OTF_FAULT=RANK:N:KIND` makes point N of that rank, counted from 0, fail: with LAMMPS's error of one rank (`one`), with an
//! error that LAMMPS wrongly reports for all ranks (`all`), with a foreign exception (`foreign`), or by never returning (`hang`).
//! Before a communication all kinds except `hang` are a panic. `LAMMPS_OTF_FAULT_LOG=FILE` lists the points, one per line, in
//! FILE.RANK. A release build ignores both.

/// How a call fails. A release build makes none fail.
#[cfg_attr(not(debug_assertions), expect(dead_code))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// With LAMMPS's error of one rank.
    One,
    /// With an error that LAMMPS reports for all ranks.
    All,
    /// With an exception that LAMMPS did not throw itself.
    Foreign,
}

/// Called before each call into an instance of `ranks` ranks. Returns how the call must fail, if it must.
#[cfg(not(debug_assertions))]
pub(crate) fn before_call(_call: &str, _ranks: usize) -> Option<Fault> {
    None
}

/// Called before each communication.
#[cfg(all(not(debug_assertions), feature = "mpi"))]
pub(crate) fn before_communication() {}

#[cfg(debug_assertions)]
pub(crate) use debug::before_call;
#[cfg(all(debug_assertions, feature = "mpi"))]
pub(crate) use debug::before_communication;

#[cfg(debug_assertions)]
mod debug {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Fault;

    struct Plan {
        /// The point that fails on this rank, and how; a fault of `None` hangs.
        fault: Option<(u64, Option<Fault>)>,
        log: Option<File>,
    }

    static POINTS: AtomicU64 = AtomicU64::new(0);

    /// `None` if no fault and no log is requested.
    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| {
            let (fault, log) = (std::env::var("LAMMPS_OTF_FAULT").ok(), std::env::var("LAMMPS_OTF_FAULT_LOG").ok());
            if fault.is_none() && log.is_none() {
                return None;
            }
            // From the launcher, because MPI may not be initialised.
            let rank = ["PMI_RANK", "OMPI_COMM_WORLD_RANK"].iter().find_map(|name| std::env::var(name).ok());
            let rank = rank.unwrap_or_else(|| "0".into());
            let parsed = fault.and_then(|text| {
                let mut parts = text.split(':');
                let here = parts.next()? == rank;
                let (point, kind) = (parts.next()?.parse().ok()?, parts.next()?);
                let kind = match kind {
                    "one" => Some(Fault::One),
                    "all" => Some(Fault::All),
                    "foreign" => Some(Fault::Foreign),
                    _ => None,
                };
                here.then_some((point, kind))
            });
            Some(Plan { fault: parsed, log: log.and_then(|path| File::create(format!("{path}.{rank}")).ok()) })
        })
        .as_ref()
    }

    /// Counts the next point. Returns how it fails, if it does.
    fn point(name: &str, ranks: usize) -> Option<Fault> {
        let plan = plan()?;
        let number = POINTS.fetch_add(1, Ordering::Relaxed);
        if let Some(mut log) = plan.log.as_ref() {
            let _ = writeln!(log, "{number} {ranks} {name}");
        }
        match plan.fault {
            Some((failing, kind)) if failing == number => match kind {
                Some(fault) => Some(fault),
                None => loop {
                    std::thread::sleep(std::time::Duration::from_secs(3600));
                },
            },
            _ => None,
        }
    }

    pub(crate) fn before_call(call: &str, ranks: usize) -> Option<Fault> {
        point(call, ranks)
    }

    #[cfg(feature = "mpi")]
    pub(crate) fn before_communication() {
        assert!(point("communication", 0).is_none(), "an injected fault before a communication");
    }
}
