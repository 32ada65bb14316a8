//! The real binary as a child process: signals, exit codes, environment, the command line.

use crate::LIMIT;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The binary that belongs to this test's build.
///
/// # Panics
/// If it has not been built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("tests lie in PROFILE/deps");
    let path = folder.join("reranker");
    assert!(path.is_file(), "{} is missing: run `cargo build -p reranker` first", path.display());
    path
}

/// A command of the binary that sees none of this process's own settings.
pub fn command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["RERANKER_", "HF_", "OTEL_", "RUST_LOG"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a command of the binary to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    command(args).output().expect("the binary runs")
}

/// What a finished command wrote to standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether this process may open so many files. If it may not, the test `name` runs here once more in a
/// process that may, and the caller has nothing left to do; if no process may, that is said.
///
/// # Errors
/// What the test fails with there.
pub fn descriptors_or_rerun(name: &str, needed: usize) -> Result<bool> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.context("a limit of open files")?.split_whitespace();
    let mut limit = || words.next().map_or(0, |word| word.parse().unwrap_or(usize::MAX));
    let (soft, hard) = (limit(), limit());
    if soft >= needed {
        return Ok(true);
    }
    if hard < needed {
        eprintln!("SKIPPED {name}: it needs {needed} file descriptors, `ulimit -Hn` is {hard}");
        return Ok(false);
    }
    let output = Command::new("sh")
        .args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &needed.to_string()])
        .arg(std::env::current_exe()?)
        .args([name, "--exact", "--nocapture"])
        .output()?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    ensure!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    Ok(false)
}

/// `reranker serve` on free ports of the loopback, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<Value>,
    reader: Option<JoinHandle<()>>,
    /// Base of the HTTP API, without `/v1`.
    pub http: String,
    /// Base of the admin listener.
    pub admin: String,
    /// Base of the gRPC listener.
    pub grpc: String,
}

impl Process {
    /// Starts `serve` with these flags and variables and waits until it listens.
    pub fn serve(flags: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let command = command([] as [&str; 0]);
        Self::start(command, flags, variables)
    }

    /// Like [`serve`](Self::serve), with no more file descriptors than `descriptors`.
    pub fn serve_with_descriptors(descriptors: u32, flags: &[&str]) -> Result<Self> {
        let script = "ulimit -n \"$0\" && exec \"$@\"";
        Self::serve_in_shell(script, &descriptors.to_string(), flags, &[])
    }

    /// Like [`serve`](Self::serve), by a shell script that becomes the server: its `$0` is `argument`,
    /// its `"$@"` the server's command.
    pub fn serve_in_shell(
        script: &str,
        argument: &str,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, argument]);
        let binary = command([] as [&str; 0]);
        for (name, value) in binary.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.arg(binary.get_program()).stdin(Stdio::null());
        Self::start(shell, flags, variables)
    }

    fn start(mut command: Command, flags: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let any = "127.0.0.1:0";
        let listen = ["--grpc-listen", any, "--http-listen", any, "--admin-listen", any];
        let mut child = command
            .args(["serve", "--log-format", "json"])
            .args(listen)
            .args(flags)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let (sender, lines) = mpsc::sync_channel(10_000);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let entry = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(entry).is_err() {
                    break;
                }
            }
        });
        let empty = String::new;
        let reader = Some(reader);
        let mut process =
            Self { child, lines, reader, http: empty(), admin: empty(), grpc: empty() };
        let listening = process.wait_for("listening")?;
        let base = |name: &str| Some(format!("http://{}", listening[name].as_str()?));
        process.http = base("http").context("the HTTP address is logged")?;
        process.admin = base("admin").context("the admin address is logged")?;
        process.grpc = base("grpc").context("the gRPC address is logged")?;
        Ok(process)
    }

    /// Waits until the models are loaded.
    pub fn ready(self) -> Result<Self> {
        self.wait_for("ready")?;
        Ok(self)
    }

    /// The next log entry with this message.
    pub fn wait_for(&self, message: &str) -> Result<Value> {
        self.read_until(message)?.pop().context("the entry is the last")
    }

    /// The log up to and with the next entry with this message.
    pub fn read_until(&self, message: &str) -> Result<Vec<Value>> {
        let end = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(entry) => {
                    let found = entry["message"] == message;
                    seen.push(entry);
                    if found {
                        return Ok(seen);
                    }
                }
                Err(error) => bail!("no `{message}` in the log ({error}):\n{seen:?}"),
            }
        }
    }

    /// Bytes of memory by the name that the kernel has for them, such as `VmRSS`, or `VmHWM` for the most
    /// since the start.
    pub fn memory(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("the field")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// The kernel's number for it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { bail!("kill: {sent}") }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end: the exit status, and what was logged since the last wait, a line each.
    pub fn end(mut self) -> Result<(ExitStatus, String)> {
        let end = Instant::now() + LIMIT;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > end => bail!("the server does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Some(reader) = self.reader.take() {
            reader.join().ok().context("the log's reader ends")?;
        }
        let lines: Vec<String> = self
            .lines
            .try_iter()
            .map(|entry| entry.as_str().map_or_else(|| entry.to_string(), str::to_owned))
            .collect();
        Ok((status, lines.join("\n")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
