// SPDX-License-Identifier: GPL-2.0-or-later
//! Finds liblammps, generates the Rust bindings from its header, and compiles the exception guard.
//!
//! Search order: `LAMMPS_DIR` (exclusively, if set), `.deps/` in this package (created by `ci/setup`), pkg-config. If none
//! of them has LAMMPS, the error lists all of them.

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
    for variable in ["LAMMPS_DIR", "LIBCLANG_PATH", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    let installation = find().unwrap_or_else(|tried| {
        eprintln!(
            "No LAMMPS was found. Looked at:\n{}\nRun `ci/setup` to install it in .deps/, or set LAMMPS_DIR to the prefix of an \
             installation with include/lammps/library.h and lib/liblammps.so.",
            tried.iter().map(|t| format!("  - {t}")).collect::<Vec<_>>().join("\n")
        );
        std::process::exit(1);
    });
    println!("cargo:rerun-if-changed={}", installation.include.join("lammps/library.h").display());

    link(&installation);
    compile_guard(&installation);
    generate_bindings(&installation);
    println!("cargo:rustc-env=LAMMPS_OTF_PLUGINS={}", installation.plugins.display());
}

fn find() -> Result<Installation, Vec<String>> {
    if let Some(prefix) = env::var_os("LAMMPS_DIR").filter(|v| !v.is_empty()) {
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

fn at_prefix(prefix: &Path) -> Result<Installation, String> {
    let include = prefix.join("include");
    if !include.join("lammps/library.h").is_file() {
        return Err(format!("no {}", include.join("lammps/library.h").display()));
    }
    let libs = ["lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"];
    for lib in libs.map(|l| prefix.join(l)) {
        for library in ["liblammps.so", "liblammps.so.0", "liblammps.dylib"] {
            if lib.join(library).exists() {
                return Ok(Installation { plugins: lib.join("lammps/plugins"), include, lib, library: library.into() });
            }
        }
    }
    Err(format!("the header exists, but there is no liblammps.so in {} (or lib64)", prefix.join("lib").display()))
}

fn by_pkg_config() -> Result<Installation, String> {
    let variable = |name: &str| -> Result<PathBuf, String> {
        let out = Command::new("pkg-config")
            .args([&format!("--variable={name}"), "liblammps"])
            .output()
            .map_err(|e| format!("cannot run pkg-config ({e})"))?;
        let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        if out.status.success() && !text.is_empty() { Ok(text.into()) } else { Err("no liblammps".into()) }
    };
    at_prefix(&variable("prefix")?)
}

fn link(installation: &Installation) {
    let lib = installation.lib.display();
    println!("cargo:rustc-link-search=native={lib}");
    println!("cargo:rustc-link-lib=dylib:+verbatim={}", installation.library);
    // DT_RPATH instead of DT_RUNPATH, because it is also searched for the dependencies of liblammps (MPI).
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{lib}");
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
