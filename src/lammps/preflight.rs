// SPDX-License-Identifier: GPL-2.0-or-later
//! The build of this liblammps, and whether it can be used.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Error, Kokkos, Lammps, PACE_EXTRAPOLATION, sys};
use crate::comm::Comm;

/// The oldest supported version: the first with `lammps_last_thermo` (2 Aug 2023).
const MIN_VERSION: i32 = 20_230_802;

/// How this liblammps was built.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Build {
    /// Version as a date, e.g. 20250722.
    pub version: i32,
    /// Whether errors are exceptions; otherwise any error ends the process.
    pub exceptions: bool,
    /// Whether it was built with MPI.
    pub mpi: bool,
    /// Whether it was built with OpenMP; `None` if it does not tell (before 22 Jul 2025).
    pub openmp: Option<bool>,
    /// Bits of atom ids.
    pub id_bits: u32,
    /// Bits of step numbers.
    pub step_bits: u32,
    /// Bits of image flags.
    pub image_bits: u32,
    /// The KOKKOS package.
    pub kokkos: Option<Kokkos>,
    /// Packages, sorted.
    pub packages: Vec<String>,
}

impl Build {
    /// The build of the library of an instance.
    #[must_use]
    pub fn of(lammps: &Lammps) -> Self {
        let bits = |name| u32::try_from(lammps.setting(name)).unwrap_or(0) * 8;
        // SAFETY: the instance is open; the other functions need none, and none throws.
        unsafe {
            Self {
                version: sys::lammps_version(lammps.handle()),
                exceptions: sys::lammps_config_has_exceptions() != 0,
                mpi: sys::lammps_config_has_mpi_support() != 0,
                openmp: u32::try_from(sys::otf_has_openmp()).ok().map(|has| has != 0),
                id_bits: bits("tagint"),
                step_bits: bits("bigint"),
                image_bits: bits("imageint"),
                kokkos: Kokkos::of_library(),
                packages: packages(),
            }
        }
    }

    /// Checks that the library can be used: that its data have the expected sizes, and that its errors do not end the process.
    ///
    /// # Errors
    /// [`Error::Preflight`], which states the problem and its remedy.
    pub fn check(&self, comm: &Comm) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Preflight(why));
        if self.version < MIN_VERSION {
            return refuse(format!(
                "this liblammps has the version {}, and {MIN_VERSION} or newer is required: install a newer LAMMPS and build this \
                 program with it (ci/install).",
                self.version
            ));
        }
        if !self.exceptions {
            return refuse(
                "this liblammps was built without exceptions, so that any error in LAMMPS would end this program: build LAMMPS \
                 with -DLAMMPS_EXCEPTIONS=on."
                    .into(),
            );
        }
        if !matches!((self.id_bits, self.image_bits), (32, 32) | (64, 64)) {
            return refuse(format!(
                "this liblammps has {}-bit atom ids and {}-bit image flags, and 32 bits or 64 bits are required for both: build \
                 LAMMPS with -DLAMMPS_SIZES=smallbig, which is its default, or bigbig.",
                self.id_bits, self.image_bits
            ));
        }
        if self.step_bits != 64 {
            return refuse(format!(
                "this liblammps has {}-bit step numbers (SMALLSMALL), and 64 bits are required: build LAMMPS with \
                 -DLAMMPS_SIZES=smallbig, which is its default, or bigbig.",
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

/// Checks that the process has one MPI library, before LAMMPS is opened: with two it would crash.
pub(super) fn check_process() -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Preflight(why));
    several_libraries(&mpi_libraries()).map_or(Ok(()), refuse)
}

/// The error message for more than one MPI library.
fn several_libraries(libraries: &[String]) -> Option<String> {
    (libraries.len() > 1).then(|| {
        format!(
            "there are several MPI libraries in this process ({}), which cannot work together: build this program for \
             the MPI that LAMMPS uses (ci/install).",
            libraries.join(", ")
        )
    })
}

/// Package names, sorted.
fn packages() -> Vec<String> {
    // SAFETY: no instance is needed; the buffer has the given length, and LAMMPS terminates the name with a NUL.
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

/// The files of all MPI libraries in this process: those that define `PMPI_Init` for a library whose name starts with `libmpi`,
/// such as `libmpi_cray.so` or `libmpi-2dae7d75.so.12`. With more than one, two parts of the process use different MPIs.
#[must_use]
pub fn mpi_libraries() -> Vec<String> {
    let named: Vec<String> = loaded_libraries(|name| name.starts_with("libmpi"));
    let providers: BTreeSet<String> = named.iter().filter_map(|file| mpi_of(file)).collect();
    providers.into_iter().collect()
}

/// The file of the MPI library that this loaded library is or depends on, with all links resolved.
fn mpi_of(file: &str) -> Option<String> {
    let file = CString::new(file).ok()?;
    let mut path = [0 as c_char; 4096];
    // SAFETY: the file is a valid C string, and the buffer has the given length. The library is loaded already, and none of its
    // functions is called.
    let found = unsafe { sys::otf_mpi_of(file.as_ptr(), path.as_mut_ptr(), path.len() as i32) } != 0;
    // SAFETY: the function terminated the path with a NUL.
    let path = found.then(|| unsafe { std::ffi::CStr::from_ptr(path.as_ptr()) }.to_string_lossy().into_owned())?;
    Some(std::fs::canonicalize(&path).map_or(path, |real| real.display().to_string()))
}

/// The mapped files of this process whose names satisfy `wanted`, sorted; e.g. the liblammps in use.
#[must_use]
pub fn loaded_libraries(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    libraries_in(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default(), wanted)
}

/// The files whose names satisfy `wanted`, from text in the format of `/proc/self/maps`.
fn libraries_in(maps: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let found: BTreeSet<PathBuf> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|start| Path::new(line[start..].trim_end())))
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(&wanted))
        .map(Path::to_path_buf)
        .collect();
    found.into_iter().map(|p| p.display().to_string()).collect()
}

impl Lammps {
    /// Makes a pair style available, from a plugin if it is not built in.
    ///
    /// Plugins are the files `extra`, those in the folders of `LAMMPS_PLUGIN_PATH` (which LAMMPS loads when it opens),
    /// and last those in the folder of the LAMMPS that this crate was built with, or in the folder `LAMMPS_OTF_PLUGINS` instead.
    ///
    /// # Errors
    /// [`Error::Preflight`] if the style is not found; LAMMPS's own text for a plugin that does not load.
    ///
    /// # MPI
    /// Collective.
    pub fn require_pair_style(&mut self, style: &str, extra: &[PathBuf]) -> Result<(), Error> {
        // Without arguments, as in `lj/cut 8.0`.
        let style = style.split_whitespace().next().unwrap_or(style);
        for plugin in extra {
            self.load_plugin(plugin)?;
        }
        // Agreed, because one node may not have a plugin that the others have.
        let everywhere = |lammps: &Self| !lammps.comm().any(!lammps.has_style("pair", style));
        if everywhere(self) {
            return Ok(());
        }
        let folder = plugin_folder();
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).map(|entries| entries.flatten().map(|e| e.path()).collect()).unwrap_or_default();
        files.retain(|f| f.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.ends_with("plugin.so")));
        files.sort();
        // The files of rank 0: loading is collective, and the folders of the nodes may differ.
        let files = broadcast_paths(&files, self.comm());
        let mut refused = String::new();
        for file in &files {
            match self.load_plugin(file) {
                // Another one may have the style.
                Err(Error::Preflight(why)) => refused += &format!(" {why}."),
                outcome => outcome?,
            }
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
            "Use ML-PACE's own evaluator with `engine = \"ml-pace\"` in [potential]"
        } else {
            "Build LAMMPS with -DPKG_ML-PACE=on"
        };
        Err(Error::Preflight(format!(
            "this liblammps has no pair style `{style}`, which {what}.{refused} {first}, or use a plugin: `ci/install` and \
             `ci/setup` build one. Give its file under `plugins` in the configuration, or its folder in \
             LAMMPS_PLUGIN_PATH. Searched {} ({}).",
            folder.display(),
            match files.len() {
                0 => "no plugins".to_owned(),
                n => format!("{n} plugins without this style"),
            }
        )))
    }
}

/// The paths of rank 0.
///
/// # MPI
/// Collective.
pub(super) fn broadcast_paths(paths: &[PathBuf], comm: &Comm) -> Vec<PathBuf> {
    let names = paths.iter().map(|path| path.as_os_str().as_bytes()).collect::<Vec<_>>().join(&0);
    let names = comm.broadcast(0, names);
    names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name).into()).collect()
}

/// The plugin folder: `LAMMPS_OTF_PLUGINS`, or that of the LAMMPS that this crate was built with.
pub(super) fn plugin_folder() -> PathBuf {
    std::env::var_os("LAMMPS_OTF_PLUGINS").map_or_else(|| PathBuf::from(env!("LAMMPS_OTF_PLUGINS")), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mpi_libraries_are_both_named() {
        // A process that was linked with one MPI and whose LAMMPS loaded another.
        let maps = "7f01-7f02 r--p 00000000 fe:00 11 /opt/mpich/lib/libmpi.so.12\n\
                    7f02-7f03 r-xp 00001000 fe:00 11 /opt/mpich/lib/libmpi.so.12\n\
                    7f05-7f06 r-xp 00000000 fe:00 12 /usr/lib/open mpi/libmpi.so.40.30.4\n\
                    7f07-7f08 r-xp 00000000 fe:00 13 /usr/lib/libmpi_cxx.so.40\n7f09-7f0a rw-p 00000000 00:00 0\n";
        let found = libraries_in(maps, |name| name.starts_with("libmpi.so"));
        assert_eq!(found, ["/opt/mpich/lib/libmpi.so.12", "/usr/lib/open mpi/libmpi.so.40.30.4"]);
        let message = several_libraries(&found).unwrap();
        assert!(found.iter().all(|library| message.contains(library.as_str())), "{message}");
        assert_eq!(several_libraries(&found[..1]), None);
    }

    #[test]
    #[cfg(feature = "mpi")]
    fn this_process_has_one_mpi_library() {
        assert_eq!(mpi_libraries().len(), 1);
    }
}
