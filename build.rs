// SPDX-License-Identifier: GPL-2.0-or-later
//! Finds liblammps, generates the Rust bindings from its header, and compiles the exception guard.
//!
//! Search order: `LAMMPS_DIR` (exclusively, if set), `.deps/` in this package (created by `ci/setup`), pkg-config. If none
//! of them has LAMMPS, the error lists all of them. `ci/install` sets these variables:
//! - `LAMMPS_LIBRARY`, `LAMMPS_INCLUDE`: liblammps, and the folder that contains `lammps/library.h`, instead of `LAMMPS_DIR`;
//! - `LAMMPS_OTF_PLUGINS`: the folder of the plugins, by default `lib/lammps/plugins` of the prefix;
//! - `LAMMPS_OTF_RPATH`: the folders that are written into the command, by default that of liblammps. `no`: none, so that the
//!   environment decides where liblammps is found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths of a LAMMPS installation.
struct Installation {
    include: PathBuf,
    lib: PathBuf,
    /// The file to link, e.g. `liblammps.so.0`.
    library: String,
    plugins: PathBuf,
}

fn main() {
    for file in ["wrapper.h", "src/lammps/guard.h", "src/lammps/guard.cpp", "plugins/pause/pause.h"] {
        println!("cargo:rerun-if-changed={file}");
    }
    for variable in [
        "LAMMPS_DIR",
        "LAMMPS_LIBRARY",
        "LAMMPS_INCLUDE",
        "LAMMPS_OTF_PLUGINS",
        "LAMMPS_OTF_RPATH",
        "LIBCLANG_PATH",
        "PKG_CONFIG_PATH",
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    let installation = find().unwrap_or_else(|tried| {
        eprintln!(
            "No LAMMPS was found. Looked at:\n{}\nRun `ci/setup` to install it in .deps/, `ci/install` to use the LAMMPS of this \
             machine, or set LAMMPS_DIR to the prefix of an installation with include/lammps/library.h and lib/liblammps.so.",
            tried.iter().map(|t| format!("  - {t}")).collect::<Vec<_>>().join("\n")
        );
        std::process::exit(1);
    });
    println!("cargo:rerun-if-changed={}", installation.include.join("lammps/library.h").display());

    link(&installation);
    compile_guard(&installation);
    generate_bindings(&installation);
    let plugins = variable("LAMMPS_OTF_PLUGINS").map_or(installation.plugins, PathBuf::from);
    println!("cargo:rustc-env=LAMMPS_OTF_PLUGINS={}", plugins.display());
}

fn find() -> Result<Installation, Vec<String>> {
    if let (Some(library), Some(include)) = (variable("LAMMPS_LIBRARY"), variable("LAMMPS_INCLUDE")) {
        return at_file(Path::new(&library), Path::new(&include)).map_err(|why| vec![format!("LAMMPS_LIBRARY: {why}")]);
    }
    if let Some(prefix) = variable("LAMMPS_DIR") {
        return at_prefix(Path::new(&prefix)).map_err(|why| vec![format!("LAMMPS_DIR: {why}")]);
    }
    let mut tried = Vec::new();
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    match at_prefix(&package.join(".deps")) {
        Ok(found) => return Ok(found),
        Err(why) => tried.push(format!(".deps: {why}")),
    }
    match by_pkg_config() {
        Ok(found) => Ok(found),
        Err(why) => {
            tried.push(format!("pkg-config: {why}"));
            Err(tried)
        }
    }
}

/// The value of an environment variable that is set and not empty.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn at_prefix(prefix: &Path) -> Result<Installation, String> {
    let include = prefix.join("include");
    if !include.join("lammps/library.h").is_file() {
        return Err(format!("no {}", include.join("lammps/library.h").display()));
    }
    let libs = ["lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"];
    for lib in libs.map(|l| prefix.join(l)) {
        if let Some(library) = liblammps_in(&lib) {
            return Ok(Installation { plugins: lib.join("lammps/plugins"), include, lib, library });
        }
    }
    Err(format!("the header exists, but there is no liblammps.so in {} (or lib64)", prefix.join("lib").display()))
}

fn at_file(library: &Path, include: &Path) -> Result<Installation, String> {
    let (Some(lib), Some(name)) = (library.parent(), library.file_name().and_then(|n| n.to_str())) else {
        return Err(format!("{} is no file", library.display()));
    };
    for file in [library, &include.join("lammps/library.h")] {
        if !file.is_file() {
            return Err(format!("no {}", file.display()));
        }
    }
    let (lib, library) = (lib.to_owned(), name.to_owned());
    Ok(Installation { plugins: lib.join("lammps/plugins"), include: include.to_owned(), lib, library })
}

/// The name of liblammps in this folder: `liblammps.so`, or that of a build with `LAMMPS_MACHINE`, such as `liblammps_mpi.so`.
fn liblammps_in(folder: &Path) -> Option<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    let usual = ["liblammps.so", "liblammps.so.0", "liblammps.dylib"].map(String::from);
    let of_machine =
        |name: &&String| name.starts_with("liblammps_") && (name.ends_with(".so") || name.ends_with(".so.0"));
    usual.iter().find(|name| names.contains(name)).or_else(|| names.iter().find(of_machine)).cloned()
}

fn by_pkg_config() -> Result<Installation, String> {
    let of_package = |name: &str| -> Result<PathBuf, String> {
        let out = Command::new("pkg-config")
            .args([&format!("--variable={name}"), "liblammps"])
            .output()
            .map_err(|e| format!("cannot run pkg-config ({e})"))?;
        let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        if out.status.success() && !text.is_empty() { Ok(text.into()) } else { Err("no liblammps".into()) }
    };
    at_prefix(&of_package("prefix")?)
}

fn link(installation: &Installation) {
    let lib = installation.lib.display();
    println!("cargo:rustc-link-search=native={lib}");
    println!("cargo:rustc-link-lib=dylib:+verbatim={}", installation.library);
    // DT_RPATH instead of DT_RUNPATH, because it is also searched for the dependencies of liblammps (MPI).
    let folders =
        variable("LAMMPS_OTF_RPATH").map_or_else(|| lib.to_string(), |text| text.to_string_lossy().into_owned());
    if folders != "no" {
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{folders}");
    }
    // liblammps may find its own dependencies only through the environment.
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
    println!("cargo:prefix={lib}");
}

fn compile_guard(installation: &Installation) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(&installation.include)
        .file("src/lammps/guard.cpp")
        .warnings(true)
        .compile("lammps_otf_guard");
}

fn generate_bindings(installation: &Installation) {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_arg(format!("-I{}", installation.include.display()))
        .allowlist_function("lammps_.*|otf_.*")
        .allowlist_var("LMP_.*|LAMMPS_.*|OTF_.*")
        .blocklist_function("lammps_open|lammps_set_fix_external_callback")
        .allowlist_type("_LMP_.*|otf_pause")
        .prepend_enum_name(false)
        .layout_tests(false)
        .merge_extern_blocks(true)
        .generate_comments(false);
    // A libclang from a package registry has no compiler headers (stddef.h), so those of the C compiler are used.
    if let Some(include) = compiler_headers() {
        builder = builder.clang_arg(format!("-idirafter{}", include.display()));
    }
    let bindings = builder.generate().unwrap_or_else(|e| {
        eprintln!(
            "bindgen could not read wrapper.h: {e}\nbindgen requires libclang: run `ci/setup`, or set LIBCLANG_PATH."
        );
        std::process::exit(1);
    });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    bindings.write_to_file(&out).unwrap_or_else(|e| panic!("cannot write {}: {e}", out.display()));
}

fn compiler_headers() -> Option<PathBuf> {
    let out = Command::new("cc").arg("-print-file-name=include").output().ok()?;
    let path = PathBuf::from(String::from_utf8(out.stdout).ok()?.trim());
    path.is_absolute().then_some(path)
}
