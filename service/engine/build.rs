//! With the feature `cuda`: the kernels as PTX, by the toolkit's `nvcc`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest architecture that the kernels run on. Drivers translate its PTX for every later card.
const ARCHITECTURE: &str = "compute_80";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=src/kernels");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    println!("cargo::rerun-if-env-changed=PATH");
    let nvcc = env::var_os("CUDA_HOME")
        .map_or_else(|| PathBuf::from("nvcc"), |home| Path::new(&home).join("bin/nvcc"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the folder"));
    let status = Command::new(&nvcc)
        .args([
            "--ptx",
            "-std=c++17",
            "-O3",
            "-Werror",
            "all-warnings",
            "-arch",
            ARCHITECTURE,
            "-o",
        ])
        .arg(out.join("kernels.ptx"))
        .arg("src/kernels/cuda/all.cu")
        .status();
    match status {
        Ok(status) => assert!(status.success(), "`{}` failed: {status}", nvcc.display()),
        Err(error) => panic!(
            "`{}` does not start: {error}; the feature `cuda` needs the CUDA toolkit, see `make cuda`",
            nvcc.display()
        ),
    }
}
