// SPDX-License-Identifier: GPL-2.0-or-later
//! KOKKOS: how it was built, and where LAMMPS evaluates the pair style.

use super::{Error, Lammps, c_string, guarded, sys};

/// The KOKKOS package of this liblammps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Kokkos {
    /// The interface to GPUs, `cuda`, `hip` or `sycl`; `None` if it was built for CPUs only.
    pub gpu: Option<&'static str>,
    /// Precision of the computations: `double`, `mixed` or `single`.
    pub precision: &'static str,
}

impl Kokkos {
    /// The package as it was built into this liblammps; `None` without it. Needs no instance, and starts no device.
    #[must_use]
    pub fn of_library() -> Option<Self> {
        let has = |category: &std::ffi::CStr, setting: &str| {
            let setting = std::ffi::CString::new(setting).expect("a literal without NUL");
            // SAFETY: no instance is needed; all are valid C strings, and the call compares text.
            unsafe { sys::lammps_config_accelerator(c"KOKKOS".as_ptr(), category.as_ptr(), setting.as_ptr()) != 0 }
        };
        // SAFETY: as above.
        if unsafe { sys::lammps_config_has_package(c"KOKKOS".as_ptr()) } == 0 {
            return None;
        }
        let gpu = ["cuda", "hip", "sycl"].into_iter().find(|api| has(c"api", api));
        let precision = ["single", "mixed"].into_iter().find(|name| has(c"precision", name));
        Some(Self { gpu, precision: precision.unwrap_or("double") })
    }

    /// Whether this machine has a device file of a GPU for this package.
    #[must_use]
    pub fn has_device(self) -> bool {
        let exists = |folder: &str, start: &str| {
            let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
            names.filter_map(|name| name.into_string().ok()).any(|name| {
                name.strip_prefix(start).is_some_and(|rest| rest.bytes().all(|digit| digit.is_ascii_digit()))
            })
        };
        match self.gpu {
            Some("cuda") => exists("/dev", "nvidia"),
            Some("hip") => exists("/dev", "kfd"),
            Some("sycl") => exists("/dev/dri", "renderD"),
            _ => false,
        }
    }
}

/// Where LAMMPS evaluates a pair style.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairDevice {
    /// On the CPU, without KOKKOS.
    Cpu,
    /// On the CPU, as a style of KOKKOS.
    KokkosCpu,
    /// On a GPU, as a style of KOKKOS.
    KokkosGpu,
}

impl PairDevice {
    /// Checks that ML-PACE's pair style returns γ on this device. On a GPU it copies γ as double precision, whatever the precision in
    /// which it was computed.
    ///
    /// # Errors
    /// [`Error::Preflight`] for another precision on a GPU.
    pub fn check_precision(self) -> Result<(), Error> {
        match Kokkos::of_library() {
            Some(Kokkos { precision, .. }) if self == Self::KokkosGpu && precision != "double" => {
                Err(Error::Preflight(format!(
                    "KOKKOS of this liblammps computes in {precision} precision, with which the pair style of ML-PACE returns wrong \
                     γ on a GPU: build LAMMPS with -DKOKKOS_PREC=double."
                )))
            }
            _ => Ok(()),
        }
    }
}

impl Lammps {
    /// Where LAMMPS evaluates the pair style `style`, without suffix, which must be the one in use.
    ///
    /// # Errors
    /// LAMMPS's own text.
    ///
    /// # MPI
    /// Collective.
    pub fn pair_device(&mut self, style: &str) -> Result<PairDevice, Error> {
        if self.setting("kokkos_active") != 1 {
            return Ok(PairDevice::Cpu);
        }
        let on_host = self.pair_style_is(&format!("{style}/kk/host"))?;
        if !on_host
            && !self.pair_style_is(&format!("{style}/kk"))?
            && !self.pair_style_is(&format!("{style}/kk/device"))?
        {
            return Ok(PairDevice::Cpu);
        }
        let has_gpu = Kokkos::of_library().is_some_and(|kokkos| kokkos.gpu.is_some());
        let uses_gpu = has_gpu && self.setting("kokkos_ngpus") > 0 && !on_host;
        Ok(if uses_gpu { PairDevice::KokkosGpu } else { PairDevice::KokkosCpu })
    }

    /// Whether the pair style in use has the name `name`, where a suffix that LAMMPS has added may be left out.
    ///
    /// # Errors
    /// LAMMPS's own text.
    ///
    /// # MPI
    /// Collective.
    pub fn pair_style_is(&mut self, name: &str) -> Result<bool, Error> {
        const VARIABLE: &str = "otf_pair_style_is";
        // Other characters do not occur in names of styles, and would change the expression.
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"/_+-".contains(&c)) {
            return Ok(false);
        }
        self.command(&format!("variable {VARIABLE} equal is_active(pair_style,{name})"))?;
        let variable = c_string("the variable", VARIABLE)?;
        let handle = self.handle();
        let value = guarded(
            "lammps_extract_variable",
            || VARIABLE.to_owned(),
            self.comm().size(),
            |failure| {
                // SAFETY: the handle is open and the name a valid C string. The variable is of style equal, so that its value is a
                // double.
                unsafe { sys::otf_equal_variable(handle, variable.as_ptr(), failure) }
            },
        );
        let value = self.classify(value)?;
        self.command(&format!("variable {VARIABLE} delete"))?;
        Ok(value != 0.0)
    }
}
