// SPDX-License-Identifier: GPL-2.0-or-later
//! Faults on purpose, in debug builds: the test that no rank ever waits for one that has failed (`tests/faults.rs`) makes each call
//! into LAMMPS and each communication fail in turn, on each rank.
//!
//! `LAMMPS_OTF_FAULT=RANK:N:KIND` makes point N of that rank, counted from 0, fail: as LAMMPS's error of one rank (`one`), as one
//! that LAMMPS wrongly calls an error of all ranks (`all`), as a foreign exception (`foreign`), or by never returning (`hang`).
//! Before a communication all but `hang` are a panic. `LAMMPS_OTF_FAULT_LOG=FILE` makes a line of each point, in FILE.RANK.
//! A release build looks at neither.

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// LAMMPS's error of one rank.
    One,
    /// An error that LAMMPS ascribes to all ranks.
    All,
    /// An exception that is not LAMMPS's.
    Foreign,
}

/// Before a call into an instance of that many ranks; whether it is to fail instead, and how.
#[cfg(not(debug_assertions))]
pub(crate) fn before_call(_call: &str, _ranks: usize) -> Option<Fault> {
    None
}

/// Before a communication.
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
        /// The point that fails on this rank, and how; `None` for one that hangs.
        at: Option<(u64, Option<Fault>)>,
        log: Option<File>,
    }

    static POINTS: AtomicU64 = AtomicU64::new(0);

    /// `None` outside of the test.
    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| {
            let (fault, log) = (std::env::var("LAMMPS_OTF_FAULT").ok(), std::env::var("LAMMPS_OTF_FAULT_LOG").ok());
            if fault.is_none() && log.is_none() {
                return None;
            }
            // Asked of the launcher, because MPI may not have begun.
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
            Some(Plan { at: parsed, log: log.and_then(|path| File::create(format!("{path}.{rank}")).ok()) })
        })
        .as_ref()
    }

    /// The next point; what is to happen at it.
    fn point(name: &str, ranks: usize) -> Option<Fault> {
        let plan = plan()?;
        let number = POINTS.fetch_add(1, Ordering::Relaxed);
        if let Some(mut log) = plan.log.as_ref() {
            let _ = writeln!(log, "{number} {ranks} {name}");
        }
        match plan.at {
            Some((at, kind)) if at == number => match kind {
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
        assert!(point("communication", 0).is_none(), "a fault on purpose before a communication");
    }
}
