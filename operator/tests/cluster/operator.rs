//! The operator's process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process, killed when dropped.
pub(crate) struct Operator {
    child: Child,
    log: PathBuf,
}

impl Operator {
    /// Starts one that works and has its lease in the namespace.
    pub(crate) fn start(kubeconfig: &Path, namespace: &str, identity: &str, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_reranker-operator"))
            .args(["run", "--listen", "127.0.0.1:0", "--scaler-listen", "127.0.0.1:0"])
            .args(["--namespace", namespace, "--watch-namespace", namespace])
            .args(["--identity", identity])
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "info,reranker_operator=debug")
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the operator starts");
        Self { child, log }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("is a child").is_some()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends as a pod does; whether it said goodbye.
    pub(crate) fn stop(&mut self) -> bool {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill is there");
        assert!(sent.success());
        self.child.wait().expect("ends").success()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}
