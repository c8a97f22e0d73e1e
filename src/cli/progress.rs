//! Shows events on standard error: bars on a terminal, a line a stage without one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::table::{bytes, duration};
use crate::progress::{Event, Reporter, Unit};

/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;
/// A bar has at least and at most so many columns.
const BAR: std::ops::RangeInclusive<usize> = 8..=28;
/// Without a terminal, a stage that takes long says how far it is this often.
const REMINDER: Duration = Duration::from_secs(30);

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(line: &str) {
    // A closed standard error is no reason to stop.
    drop(writeln!(io::stderr(), "{line}"));
}

/// What a bar says.
#[derive(Debug, Clone, Default)]
struct Stage {
    heading: String,
    item: String,
    total: u64,
    unit: Option<Unit>,
}

/// How far a stage is.
#[derive(Debug, Clone, Copy)]
struct State {
    done: u64,
    per_second: f64,
    left: Duration,
    elapsed: Duration,
}

/// How much of a stage is done, in its unit.
fn amount(stage: &Stage, done: u64) -> String {
    let total = stage.total;
    match stage.unit {
        Some(Unit::Bytes) if total == 0 && done == 0 => String::new(),
        Some(Unit::Bytes) if total == 0 => bytes(done),
        Some(Unit::Bytes) => format!("{} of {}", bytes(done), bytes(total)),
        _ if total == 0 => String::new(),
        Some(Unit::Packages) => format!("{done} of {total} packages"),
        Some(Unit::Frames) => format!("{done} of {total} frames"),
        None => format!("{done} of {total}"),
    }
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let short = text.chars().take(width.saturating_sub(1));
    short.chain((width > 0).then_some('…')).collect()
}

/// One line of at most `width` columns, in two parts so that the first can stand out. What there is no room for goes in
/// this order: the item, the bar, the speed, the end of the heading.
fn line(stage: &Stage, state: State, width: usize) -> (String, String) {
    let counted = amount(stage, state.done);
    let (speed, time) = if stage.total == 0 {
        (String::new(), duration(state.elapsed))
    } else if state.done == 0 || state.done >= stage.total {
        (String::new(), String::new())
    } else {
        // Shown with one decimal only, and never negative.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let per_second = state.per_second as u64;
        let speed = if stage.unit == Some(Unit::Bytes) { bytes(per_second) + "/s" } else { String::new() };
        (speed, format!("{} left", duration(state.left)))
    };
    let join = |parts: &[&str]| {
        let parts: Vec<_> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    };
    let heading_width = stage.heading.chars().count();
    let mut facts = join(&[&counted, &speed, &time]);
    if heading_width + 2 + facts.chars().count() > width {
        facts = join(&[&counted, &time]);
    }
    let facts_width = facts.chars().count();
    if heading_width + 2 + facts_width > width {
        let heading = shorten(&stage.heading, width.saturating_sub(facts_width + 2).max(width / 3));
        let room = width.saturating_sub(heading.chars().count() + 2);
        return (heading, if room == 0 { String::new() } else { format!("  {}", shorten(&facts, room)) });
    }
    let mut rest = String::new();
    let mut room = width - heading_width - 2 - facts_width;
    if stage.total > 0 && room >= BAR.start() + 2 {
        let columns = (room - 2).min(*BAR.end());
        let filled = u128::from(state.done.min(stage.total)) * columns as u128 / u128::from(stage.total);
        let filled = usize::try_from(filled).unwrap_or(columns);
        let _ = write!(rest, "  {}{}", "█".repeat(filled), "░".repeat(columns - filled));
        room -= columns + 2;
    }
    if !facts.is_empty() {
        let _ = write!(rest, "  {facts}");
    }
    if !stage.item.is_empty() && room >= 10 {
        let _ = write!(rest, "  {}", shorten(&stage.item, room - 2));
    }
    (stage.heading.clone(), rest)
}

/// A bar and what it says; whatever draws the bar reads the same.
type Shown = (ProgressBar, Arc<Mutex<Stage>>);

/// Bars on a terminal, by subject.
pub struct Bars {
    all: MultiProgress,
    bars: Mutex<BTreeMap<String, Shown>>,
    colour: bool,
}

impl Bars {
    /// Draws on standard error, with bold letters if `colour`.
    pub fn new(colour: bool) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { all, bars: Mutex::default(), colour }
    }

    /// A bar that draws `stage` anew for the width the terminal has at that moment.
    fn bar(&self, stage: &Arc<Mutex<Stage>>) -> ProgressBar {
        let (stage, colour) = (Arc::clone(stage), self.colour);
        let draw = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
            let columns = if columns == 0 { COLUMNS } else { usize::from(columns) };
            let now = State {
                done: state.pos(),
                per_second: state.per_sec(),
                left: state.eta(),
                elapsed: state.elapsed(),
            };
            // The spinner and its blank stand before, and the last column would wrap on some terminals.
            let (heading, rest) = line(&unpoisoned(&stage), now, columns.saturating_sub(3));
            let (bold, plain) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            let _ = write!(out, "{bold}{heading}{plain}{rest}");
        };
        let style = ProgressStyle::with_template("{spinner} {line}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("line", draw);
        self.all.add(ProgressBar::new(0).with_style(style))
    }
}

impl Drop for Bars {
    /// Takes every bar off the screen, also when the command fails half-way.
    fn drop(&mut self) {
        let bars = self.bars.get_mut().unwrap_or_else(PoisonError::into_inner);
        bars.values().for_each(|(bar, _)| bar.finish_and_clear());
    }
}

impl Reporter for Bars {
    fn report(&self, event: Event) {
        let mut bars = unpoisoned(&self.bars);
        match event {
            Event::Stage { subject, action, total, unit } => {
                let heading = format!("{subject}: {action}");
                let (bar, stage) = bars.entry(subject).or_insert_with(|| {
                    let stage = Arc::default();
                    (self.bar(&stage), stage)
                });
                *unpoisoned(stage) = Stage { heading, item: String::new(), total, unit: Some(unit) };
                bar.reset();
                bar.set_length(total);
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            Event::Progress { subject, done, item } => {
                if let Some((bar, stage)) = bars.get(&subject) {
                    unpoisoned(stage).item = item;
                    bar.set_position(done);
                }
            }
            Event::Finished { subject } => {
                if let Some((bar, _)) = bars.remove(&subject) {
                    bar.finish_and_clear();
                }
            }
            Event::Warning(text) => self.all.suspend(|| say(&format!("warning: {text}"))),
        }
    }
}

/// A subject at work, for [`Lines`].
struct Running {
    stage: Stage,
    begun: Instant,
    said: Instant,
}

/// One line when a stage begins, one now and then while it takes long, and one when all stages of a subject that took
/// long are over; for logs and pipes.
#[derive(Default)]
pub struct Lines {
    running: Mutex<BTreeMap<String, Running>>,
}

impl Lines {
    /// The line that `event` is worth at `now`.
    fn line(&self, event: Event, now: Instant) -> Option<String> {
        let mut running = unpoisoned(&self.running);
        match event {
            Event::Stage { subject, action, total, unit } => {
                let heading = format!("{subject}: {action}");
                let before = running.remove(&subject);
                let again = before.as_ref().is_some_and(|before| before.stage.heading == heading);
                let begun = before.as_ref().map_or(now, |before| before.begun);
                let said = before.filter(|_| again).map_or(now, |before| before.said);
                let stage = Stage { heading, item: String::new(), total, unit: Some(unit) };
                let amount = match unit {
                    _ if total == 0 => String::new(),
                    Unit::Bytes => format!(" ({})", bytes(total)),
                    Unit::Packages => format!(" ({total} packages)"),
                    Unit::Frames => format!(" ({total} frames)"),
                };
                let line = (!again).then(|| format!("{}{amount}", stage.heading));
                running.insert(subject, Running { stage, begun, said });
                line
            }
            Event::Progress { subject, done, .. } => {
                let running = running.get_mut(&subject)?;
                if now.duration_since(running.said) < REMINDER {
                    return None;
                }
                running.said = now;
                Some(format!("{}: {}", running.stage.heading, amount(&running.stage, done)))
            }
            Event::Finished { subject } => {
                let took = now.duration_since(running.remove(&subject)?.begun);
                let long = took > Duration::from_secs(1);
                long.then(|| format!("{subject}: took {:.1} s", took.as_secs_f64()))
            }
            Event::Warning(text) => Some(format!("warning: {text}")),
        }
    }
}

impl Reporter for Lines {
    fn report(&self, event: Event) {
        if let Some(line) = self.line(event, Instant::now()) {
            say(&line);
        }
    }
}

/// Warnings only.
pub struct Quiet;

impl Reporter for Quiet {
    fn report(&self, event: Event) {
        if let Event::Warning(text) = event {
            say(&format!("warning: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(unit: Unit, total: u64, item: &str) -> Stage {
        let heading = "qbittorrent, debian-13: fetching packages".to_owned();
        Stage { heading, item: item.to_owned(), total, unit: Some(unit) }
    }

    fn at(width: usize, stage: &Stage, done: u64) -> String {
        let (left, elapsed) = (Duration::from_secs(95), Duration::from_secs(7));
        let state = State { done, per_second: 2_500_000.0, left, elapsed };
        let (heading, rest) = line(stage, state, width);
        let text = heading + &rest;
        assert!(text.chars().count() <= width, "{text}");
        text
    }

    #[test]
    fn a_line_fits_every_width_and_loses_the_least_important_first() {
        let fetching = stage(Unit::Bytes, 46_977_024, "libc6");
        let lines = [140, 110, 86, 77, 60, 40, 20, 3, 0].map(|width| at(width, &fetching, 20_000_000));
        insta::assert_snapshot!(lines.join("\n"), @r"
        qbittorrent, debian-13: fetching packages  ███████████░░░░░░░░░░░░░░░░░  19.1 MiB of 44.8 MiB, 2.4 MiB/s, 1 min 35 s left  libc6
        qbittorrent, debian-13: fetching packages  ███████░░░░░░░░░░  19.1 MiB of 44.8 MiB, 2.4 MiB/s, 1 min 35 s left
        qbittorrent, debian-13: fetching packages  19.1 MiB of 44.8 MiB, 1 min 35 s left
        qbittorrent, debian-13: fetching pack…  19.1 MiB of 44.8 MiB, 1 min 35 s left
        qbittorrent, debian-…  19.1 MiB of 44.8 MiB, 1 min 35 s left
        qbittorrent,…  19.1 MiB of 44.8 MiB, 1 …
        qbitt…  19.1 MiB of…
        …
        ");
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        let cases = [
            (stage(Unit::Packages, 0, ""), 0),
            (stage(Unit::Packages, 71, "libc6"), 0),
            (stage(Unit::Packages, 71, "libc6"), 71),
            (stage(Unit::Bytes, 0, "trixie"), 1_500_000),
            (stage(Unit::Frames, 77, ""), 12),
        ];
        let lines = cases.map(|(stage, done)| at(117, &stage, done));
        insta::assert_snapshot!(lines.join("\n"), @r"
        qbittorrent, debian-13: fetching packages  7 s
        qbittorrent, debian-13: fetching packages  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░  0 of 71 packages  libc6
        qbittorrent, debian-13: fetching packages  ████████████████████████████  71 of 71 packages  libc6
        qbittorrent, debian-13: fetching packages  1.4 MiB, 7 s  trixie
        qbittorrent, debian-13: fetching packages  ████░░░░░░░░░░░░░░░░░░░░░░░░  12 of 77 frames, 1 min 35 s left
        ");
    }

    #[test]
    fn without_a_terminal_a_stage_is_a_line_and_a_long_one_says_how_far_it_is() {
        let (lines, begun) = (Lines::default(), Instant::now());
        let stage = |action: &str, total, unit| Event::Stage {
            subject: "image".into(),
            action: action.into(),
            total,
            unit,
        };
        let progress = |done| Event::Progress { subject: "image".into(), done, item: "libc6".into() };
        let events = [
            (0, stage("fetching packages", 4 << 20, Unit::Bytes)),
            (1, progress(1 << 20)),
            (31, progress(2 << 20)),
            (32, progress(3 << 20)),
            (33, stage("unpacking", 71, Unit::Packages)),
            (34, stage("unpacking", 71, Unit::Packages)),
            (35, Event::Finished { subject: "image".into() }),
            (36, Event::Finished { subject: "image".into() }),
            (37, Event::Warning("mind the gap".into())),
        ];
        let said: Vec<_> = events
            .into_iter()
            .filter_map(|(second, event)| lines.line(event, begun + Duration::from_secs(second)))
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        image: fetching packages (4.0 MiB)
        image: fetching packages: 2.0 MiB of 4.0 MiB
        image: unpacking (71 packages)
        image: took 35.0 s
        warning: mind the gap
        ");
    }
}
