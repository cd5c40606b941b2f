//! Progress on standard error: a bar on a terminal, else a plain line from time to time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between plain lines.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Progress of one stage.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    started: Instant,
    /// Progress at the first update, such as after a resume.
    first: Option<f64>,
    last_line: Instant,
    quiet: bool,
}

impl Progress {
    /// Starts a stage.
    pub fn new(name: &str, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(1_000);
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}");
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_string());
            bar
        });
        let now = Instant::now();
        Self { bar, name: name.into(), started: now, first: None, last_line: now, quiet }
    }

    /// Whether `update` would show anything now; saves building its message.
    pub fn wants_update(&self) -> bool {
        !self.quiet && (self.bar.is_some() || self.last_line.elapsed() >= LINE_EVERY)
    }

    /// Reports how far the stage is, from 0 to 1 if that is known.
    pub fn update(&mut self, done: Option<f64>, message: &str) {
        let first = done.map_or(0.0, |d| *self.first.get_or_insert(d));
        let left = done.filter(|d| *d - first > 0.001).map(|d| {
            let elapsed = self.started.elapsed().as_secs_f64();
            format!(", {} left", duration(elapsed * (1.0 - d.min(1.0)) / (d - first)))
        });
        let left = left.unwrap_or_default();
        if let Some(bar) = &self.bar {
            bar.set_position((done.unwrap_or(0.0) * 1_000.0) as u64);
            bar.set_message(format!("{message}{left}"));
        } else if self.wants_update() {
            self.last_line = Instant::now();
            let percent = done.map(|d| format!(" {:.0} %", d * 100.0)).unwrap_or_default();
            eprintln!("{}{percent}: {message}{left}", self.name);
        }
    }

    /// A line that stays, above the bar.
    pub fn line(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("{}: {message}", self.name)),
            None if !self.quiet => eprintln!("{}: {message}", self.name),
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Seconds as a person would say them.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3_600, s / 60 % 60),
    }
}
