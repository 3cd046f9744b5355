// SPDX-License-Identifier: GPL-2.0-or-later
//! What this liblammps is, and whether it can be used.

use std::collections::BTreeSet;
use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Error, Lammps, PACE_EXTRAPOLATION, sys};
use crate::comm::Comm;

/// The oldest version whose C interface has all that is called here (`lammps_last_thermo` of 2 Aug 2023).
const OLDEST: i32 = 20_230_802;

/// How this liblammps was built.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Build {
    /// Version as a date, e.g. 20250722.
    pub version: i32,
    /// Whether errors are exceptions, without which any error would end the process.
    pub exceptions: bool,
    /// Whether it was built with MPI.
    pub mpi: bool,
    /// Whether it was built with OpenMP.
    pub openmp: bool,
    /// Bits of atom ids.
    pub id_bits: u32,
    /// Bits of step numbers.
    pub step_bits: u32,
    /// Bits of image flags.
    pub image_bits: u32,
    /// Packages, sorted.
    pub packages: Vec<String>,
}

impl Build {
    /// Asks the library behind an instance.
    #[must_use]
    pub fn of(lammps: &Lammps) -> Self {
        let bits = |name| u32::try_from(lammps.setting(name)).unwrap_or(0) * 8;
        // SAFETY: the instance is open; the other functions need none, and none throws.
        unsafe {
            Self {
                version: sys::lammps_version(lammps.handle.as_ptr()),
                exceptions: sys::lammps_config_has_exceptions() != 0,
                mpi: sys::lammps_config_has_mpi_support() != 0,
                openmp: sys::lammps_config_has_omp_support() != 0,
                id_bits: bits("tagint"),
                step_bits: bits("bigint"),
                image_bits: bits("imageint"),
                packages: packages(),
            }
        }
    }

    /// Refuses a library that would be misread or that would end the process.
    ///
    /// # Errors
    /// [`Error::Preflight`] with what is wrong and what to do.
    pub fn check(&self, comm: &Comm) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Preflight(why));
        if self.version < OLDEST {
            return refuse(format!(
                "this liblammps is of {}, and {OLDEST} or newer is needed: install a newer LAMMPS and build again with \
                 LAMMPS_DIR set to it.",
                self.version
            ));
        }
        if !self.exceptions {
            return refuse(
                "this liblammps was built without exceptions, so that any error in LAMMPS would end this program: \
                 build LAMMPS with -DLAMMPS_EXCEPTIONS=on."
                    .into(),
            );
        }
        if self.id_bits != 32 || self.image_bits != 32 {
            return refuse(format!(
                "this liblammps has {}-bit atom ids and {}-bit image flags (BIGBIG), and its memory would be misread: \
                 build LAMMPS with -DLAMMPS_SIZES=smallbig, which is its default.",
                self.id_bits, self.image_bits
            ));
        }
        if self.step_bits != 64 {
            return refuse(format!(
                "this liblammps has {}-bit step numbers (SMALLSMALL), and they would be misread: build LAMMPS with \
                 -DLAMMPS_SIZES=smallbig, which is its default.",
                self.step_bits
            ));
        }
        if comm.size() > 1 && !self.mpi {
            return refuse(format!(
                "this liblammps was built without MPI, and {} ranks were started: build LAMMPS with -DBUILD_MPI=on, or \
                 run one process.",
                comm.size()
            ));
        }
        Ok(())
    }
}

/// Refuses a process with two MPI libraries, before anything is opened: it would crash.
pub(super) fn check_process() -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Preflight(why));
    several(&mpi_libraries()).map_or(Ok(()), refuse)
}

/// What is wrong with more than one MPI library.
fn several(libraries: &[String]) -> Option<String> {
    (libraries.len() > 1).then(|| {
        format!(
            "there are several MPI libraries in this process ({}), which cannot work together: build this program with \
             the mpicc of the MPI that LAMMPS uses (MPICC=/path/to/mpicc cargo build).",
            libraries.join(", ")
        )
    })
}

/// Package names, sorted.
fn packages() -> Vec<String> {
    // SAFETY: no instance is needed; the buffer is as long as is said, and LAMMPS ends what it writes with a NUL.
    let mut names: Vec<String> = unsafe {
        (0..sys::lammps_config_package_count())
            .filter_map(|i| {
                let mut buffer = [0 as c_char; 64];
                let known = sys::lammps_config_package_name(i, buffer.as_mut_ptr(), buffer.len() as i32) != 0;
                known.then(|| std::ffi::CStr::from_ptr(buffer.as_ptr()).to_string_lossy().into_owned())
            })
            .collect()
    };
    names.sort();
    names
}

/// The files of all MPI libraries in this process: more than one means that two parts of it talk to different MPIs.
#[must_use]
pub fn mpi_libraries() -> Vec<String> {
    loaded_libraries(|name| name.starts_with("libmpi.so"))
}

/// The mapped files of this process whose names satisfy `wanted`, sorted; e.g. the liblammps that is in use.
#[must_use]
pub fn loaded_libraries(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    libraries_in(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default(), wanted)
}

/// The libraries whose file name is wanted, in a text like that of `/proc/self/maps`.
fn libraries_in(maps: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let found: BTreeSet<PathBuf> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(line[at..].trim_end())))
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(&wanted))
        .map(Path::to_path_buf)
        .collect();
    found.into_iter().map(|p| p.display().to_string()).collect()
}

impl Lammps {
    /// Makes sure that a pair style is there, loading plugins if it is not built in.
    ///
    /// Plugins come from `extra`, from the folders of `LAMMPS_PLUGIN_PATH` (which LAMMPS reads itself when it opens),
    /// and last from the folder that belongs to the LAMMPS this crate was built with, or the one that
    /// `LAMMPS_OTF_PLUGINS` names in its place.
    ///
    /// # Errors
    /// [`Error::Preflight`] if the style is nowhere to be had; what LAMMPS says of a plugin that does not load.
    ///
    /// # MPI
    /// Collective.
    pub fn require_pair_style(&mut self, style: &str, extra: &[PathBuf]) -> Result<(), Error> {
        for plugin in extra {
            self.load_plugin(plugin)?;
        }
        // Agreed: a plugin that one node cannot see must not leave the others waiting for that node.
        let everywhere = |lammps: &Self| !lammps.comm().any(!lammps.has_style("pair", style));
        if everywhere(self) {
            return Ok(());
        }
        let folder = plugin_folder();
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).map(|entries| entries.flatten().map(|e| e.path()).collect()).unwrap_or_default();
        files.retain(|f| f.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.ends_with("plugin.so")));
        files.sort();
        // Of rank 0, because each file is loaded together, and a node may see others.
        let names = files.iter().map(|file| file.as_os_str().as_bytes()).collect::<Vec<_>>().join(&0);
        let names = self.comm().broadcast(0, names);
        let files: Vec<PathBuf> = names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| OsStr::from_bytes(name).into())
            .collect();
        for file in &files {
            self.load_plugin(file)?;
            if everywhere(self) {
                return Ok(());
            }
        }
        let what = if style.starts_with(PACE_EXTRAPOLATION) {
            "the extrapolation grade of ML-PACE needs"
        } else {
            "the potential needs"
        };
        let first = if style.ends_with("/opt") {
            "Take ML-PACE's own evaluator with `engine = \"ml-pace\"` in [potential]"
        } else {
            "Build LAMMPS with -DPKG_ML-PACE=on"
        };
        Err(Error::Preflight(format!(
            "this liblammps has no pair style `{style}`, which {what}. {first}, or give a plugin: `ci/setup` makes one \
             below .deps/lib/lammps/plugins/; name its file under `plugins` in the configuration, or its folder in \
             LAMMPS_PLUGIN_PATH. Looked in {} ({}).",
            folder.display(),
            match files.len() {
                0 => "no plugin there".to_owned(),
                n => format!("{n} plugins there, none with it"),
            }
        )))
    }
}

/// The plugin folder that `LAMMPS_OTF_PLUGINS` names, or that of the LAMMPS this crate was built with.
pub(super) fn plugin_folder() -> PathBuf {
    std::env::var_os("LAMMPS_OTF_PLUGINS").map_or_else(|| PathBuf::from(env!("LAMMPS_OTF_PLUGINS")), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mpi_libraries_are_both_named() {
        // As of a process that was linked with one MPI and whose LAMMPS brought another.
        let maps = "7f01-7f02 r--p 00000000 fe:00 11 /opt/mpich/lib/libmpi.so.12\n\
                    7f02-7f03 r-xp 00001000 fe:00 11 /opt/mpich/lib/libmpi.so.12\n\
                    7f05-7f06 r-xp 00000000 fe:00 12 /usr/lib/open mpi/libmpi.so.40.30.4\n\
                    7f07-7f08 r-xp 00000000 fe:00 13 /usr/lib/libmpi_cxx.so.40\n7f09-7f0a rw-p 00000000 00:00 0\n";
        let found = libraries_in(maps, |name| name.starts_with("libmpi.so"));
        assert_eq!(found, ["/opt/mpich/lib/libmpi.so.12", "/usr/lib/open mpi/libmpi.so.40.30.4"]);
        let message = several(&found).unwrap();
        assert!(found.iter().all(|library| message.contains(library.as_str())), "{message}");
        assert_eq!(several(&found[..1]), None);
    }

    #[test]
    #[cfg(feature = "mpi")]
    fn this_process_has_one_mpi_library() {
        assert_eq!(mpi_libraries().len(), 1);
    }
}
