//! The kernels of `*.cu` on the processor: their sources, compiled as C++ against `emulated/card.h`.
//!
//! Shows that indices, fragments, barriers and copies are right without a card; not that the compiler for
//! cards or a card does what the PTX ISA says.

use super::launch::{Argument, Launch};
use candle_core::DType;
use half::bf16;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// A place in a [`Host`]: a buffer and an offset in values.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) buffer: usize,
    pub(super) offset: usize,
}

/// Buffers of a launch.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    buffers: Vec<(DType, Vec<u8>)>,
}

impl Host {
    /// Adds values, rounded to `dtype`.
    pub(super) fn push(&mut self, values: &[f32], dtype: DType) -> View {
        let bytes = match dtype {
            DType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        };
        self.add(dtype, bytes)
    }

    pub(super) fn push_numbers(&mut self, values: &[u32]) -> View {
        self.add(DType::U32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Adds room for `count` values; until they are written they are not numbers.
    pub(super) fn room(&mut self, count: usize, dtype: DType) -> View {
        self.add(dtype, vec![0xff; count * dtype.size_in_bytes()])
    }

    fn add(&mut self, dtype: DType, bytes: Vec<u8>) -> View {
        self.buffers.push((dtype, bytes));
        View { buffer: self.buffers.len() - 1, offset: 0 }
    }

    /// The values of a buffer.
    pub(super) fn read(&self, buffer: usize) -> Vec<f32> {
        let (dtype, bytes) = &self.buffers[buffer];
        match dtype {
            DType::F32 => {
                bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
            }
            _ => bytes
                .as_chunks()
                .0
                .iter()
                .map(|value| bf16::from_le_bytes(*value).to_f32())
                .collect(),
        }
    }
}

/// The buffers after the launch; none where there is no compiler, which the test's output says.
///
/// # Panics
/// If the kernel touches memory outside its buffers, waits for ever, or depends on the order of threads.
pub(super) fn emulate(launch: &Launch<View>, host: &Host) -> Option<Host> {
    static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(compile);
    let program = PROGRAM.as_ref()?;
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was just compiled");
    let mut stdin = child.stdin.take().expect("the input is piped");
    let input = encode(launch, host);
    // The program answers only when it has read everything.
    stdin.write_all(&input).expect("the program reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success(), "{}: {}", launch.kernel, output.status);
    let mut rest = output.stdout.as_slice();
    let buffers = host.buffers.iter().map(|(dtype, bytes)| {
        let (bytes, after) = rest.split_at(bytes.len());
        rest = after;
        (*dtype, bytes.to_vec())
    });
    Some(Host { buffers: buffers.collect() })
}

fn encode(launch: &Launch<View>, host: &Host) -> Vec<u8> {
    let mut input = Vec::new();
    let mut number = |number: u32, bytes: &[u8]| {
        input.extend(number.to_le_bytes());
        input.extend(bytes);
    };
    number(launch.kernel.len() as u32, launch.kernel.as_bytes());
    for count in launch.grid {
        number(count, &[]);
    }
    number(launch.threads, &[]);
    number(host.buffers.len() as u32, &[]);
    for (_, bytes) in &host.buffers {
        number(bytes.len() as u32, bytes);
    }
    number(launch.arguments.len() as u32, &[]);
    for argument in &launch.arguments {
        match argument {
            Argument::Number(value) => number(0, &value.to_le_bytes()),
            Argument::Float(value) => number(1, &value.to_le_bytes()),
            Argument::Buffer(View { buffer, offset }) => {
                let bytes = offset * host.buffers[*buffer].0.size_in_bytes();
                number(2, &(*buffer as u32).to_le_bytes());
                number(bytes as u32, &[]);
            }
        }
    }
    input
}

fn compile() -> Option<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/emulated");
    let program = Path::new(env!("OUT_DIR")).join("emulated-kernels");
    // Another test process may be running the program.
    let fresh = program.with_extension(std::process::id().to_string());
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let status = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-I"])
        .arg(&sources)
        .arg("-o")
        .arg(&fresh)
        .arg(sources.join("main.cpp"))
        .status();
    match status {
        Ok(status) => {
            assert!(status.success(), "the kernels do not compile as C++");
            std::fs::rename(&fresh, &program).expect("the build's folder is writable");
            Some(program)
        }
        Err(error) => {
            eprintln!(
                "skipped: no kernel runs on the processor, `{compiler}` does not start: {error}"
            );
            None
        }
    }
}
