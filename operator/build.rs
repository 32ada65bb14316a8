//! Compiles the contract of KEDA's external scaler in Rust, so that building needs no protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=externalscaler.proto");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).open_files(["externalscaler.proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
