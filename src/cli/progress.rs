//! Shows events on standard error: bars on a terminal, a line a stage without one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Event, Reporter, Unit};

/// Bars on a terminal.
pub struct Bars {
    all: MultiProgress,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    /// Draws on standard error.
    pub fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { all, bars: Mutex::new(BTreeMap::new()) }
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bars {
    /// Takes every bar off the screen, also when the command fails half-way.
    fn drop(&mut self) {
        let bars = self.bars.get_mut().unwrap_or_else(PoisonError::into_inner);
        bars.values().for_each(ProgressBar::finish_and_clear);
    }
}

fn style(unit: Unit, total: u64) -> ProgressStyle {
    let counts = match (unit, total) {
        (_, 0) => "{spinner} {prefix:.bold}  {msg}  {elapsed}".to_owned(),
        (Unit::Bytes, _) => {
            "{spinner} {prefix:.bold}  [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, \
             {eta} left  {wide_msg:.dim}"
                .to_owned()
        }
        (_, _) => "{spinner} {prefix:.bold}  [{bar:24}] {pos}/{len}, {eta} left  {wide_msg:.dim}".to_owned(),
    };
    ProgressStyle::with_template(&counts).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Reporter for Bars {
    fn report(&self, event: Event) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Stage { subject, action, total, unit } => {
                let bar =
                    bars.entry(subject.clone()).or_insert_with(|| self.all.add(ProgressBar::new(total)));
                bar.reset();
                bar.set_length(total);
                bar.set_style(style(unit, total));
                bar.set_prefix(format!("{subject}: {action}"));
                bar.set_message(String::new());
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            Event::Progress { subject, done, item } => {
                if let Some(bar) = bars.get(&subject) {
                    bar.set_position(done);
                    bar.set_message(item);
                }
            }
            Event::Finished { subject } => {
                if let Some(bar) = bars.remove(&subject) {
                    bar.finish_and_clear();
                }
            }
            Event::Warning(text) => {
                // Failing to warn on a closed standard error is no reason to stop.
                self.all.suspend(|| drop(writeln!(std::io::stderr(), "warning: {text}")));
            }
        }
    }
}

/// One line when a stage begins and one when it took long; for logs and pipes.
#[derive(Default)]
pub struct Lines {
    running: Mutex<BTreeMap<String, (String, Instant)>>,
}

impl Reporter for Lines {
    fn report(&self, event: Event) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            Event::Stage { subject, action, total, unit } => {
                let amount = match (unit, total) {
                    (_, 0) => String::new(),
                    (Unit::Bytes, total) => format!(" ({})", super::table::bytes(total)),
                    (Unit::Packages, total) => format!(" ({total} packages)"),
                    (Unit::Frames, total) => format!(" ({total} frames)"),
                };
                let previous = running.insert(subject.clone(), (action.clone(), Instant::now()));
                if previous.is_some_and(|(before, _)| before == action) {
                    return;
                }
                format!("{subject}: {action}{amount}")
            }
            Event::Finished { subject } => match running.remove(&subject) {
                Some((action, begun)) if begun.elapsed() > Duration::from_secs(1) => {
                    format!("{subject}: {action} took {:.1} s", begun.elapsed().as_secs_f64())
                }
                _ => return,
            },
            Event::Warning(text) => format!("warning: {text}"),
            Event::Progress { .. } => return,
        };
        // A closed standard error is no reason to stop.
        drop(writeln!(std::io::stderr(), "{line}"));
    }
}

/// Warnings only.
pub struct Quiet;

impl Reporter for Quiet {
    fn report(&self, event: Event) {
        if let Event::Warning(text) = event {
            drop(writeln!(std::io::stderr(), "warning: {text}"));
        }
    }
}
