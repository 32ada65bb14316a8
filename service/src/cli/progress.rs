//! Progress of what takes over a second: a bar on a terminal, a log line now and then elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use reranker_engine::LoadEvent;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// What is over by then shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between log lines.
const LINES: Duration = Duration::from_secs(10);

/// One piece of work with a known end.
pub(crate) struct Progress {
    terminal: bool,
    bar: Option<ProgressBar>,
    /// Before this, nothing is shown.
    next: Instant,
    task: String,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            next: Instant::now() + PATIENCE,
            task: String::new(),
        }
    }

    /// Shows how far loading is.
    pub(crate) fn load(&mut self, model: &str, event: LoadEvent<'_>) {
        match event {
            LoadEvent::Download { repository, bytes, total } => {
                let size = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
                let done = format!("{} of {}", size(bytes), size(total));
                self.show(&format!("downloading {repository}"), &done, bytes, total);
            }
            LoadEvent::Layers { done, total } => {
                self.count(&format!("loading {model}: layers"), done, total);
            }
            LoadEvent::Warmup => self.show(&format!("warming up {model}"), "", 0, 0),
            _ => {}
        }
    }

    /// Shows `done` of `total` things.
    pub(crate) fn count(&mut self, task: &str, done: usize, total: usize) {
        self.show(task, &format!("{done} of {total}"), done as u64, total as u64);
    }

    /// Shows `figures`, and that `done` of `total` is done.
    pub(crate) fn show(&mut self, task: &str, figures: &str, done: u64, total: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        if !self.terminal {
            tracing::info!("{task} {figures}");
            self.next = now + LINES;
            return;
        }
        if self.task != task {
            task.clone_into(&mut self.task);
            self.finish();
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg} {elapsed}");
            ProgressBar::new(total)
                .with_style(style.expect("the template is valid"))
                .with_prefix(task.to_owned())
        });
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(figures.to_owned());
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
