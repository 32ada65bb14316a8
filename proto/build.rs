//! Compiles the contract in Rust, so that building needs no protoc.

use std::error::Error;
use std::path::PathBuf;

/// The files with services; they import the others.
const CONTRACT: [&str; 2] = ["reranker/v1/reranker.proto", "reranker/v1/collections.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=reranker");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_files(CONTRACT)?;
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("reranker_descriptor.bin");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
