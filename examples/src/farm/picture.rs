//! The live picture: who serves what while the farm runs.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// On a terminal it is drawn again so often.
const REDRAWN: Duration = Duration::from_millis(100);
/// Elsewhere there is a line so often, where something has changed.
const LINES: Duration = Duration::from_secs(1);
/// Servers with a line of their own: more than a terminal's window has room for are counted.
const ROWS: usize = 16;
/// Cells of a bar.
const BAR: usize = 24;

/// What the farm has done at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Requests that the program's own clients have finished.
    pub finished: usize,
    /// Those of them without the right response.
    pub errors: usize,
    /// Each server, in the order of their numbers.
    pub servers: Vec<ServerNow>,
}

/// What one server has done at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNow {
    /// Its name.
    pub name: String,
    /// Requests that its application has answered.
    pub served: u64,
    /// Connections bound here that clients have opened here.
    pub local: u64,
    /// Connections handed to other servers.
    pub migrated_out: u64,
    /// Connections that came from other servers.
    pub migrated_in: u64,
    /// Connections that are open.
    pub open: u32,
}

impl Now {
    /// The picture, line by line, of a run of so many requests.
    pub fn lines(&self, requests: usize) -> Vec<String> {
        let most = self.servers.iter().map(|server| server.served).max();
        let most = most.unwrap_or_default();
        let mut lines = vec![
            format!(
                "    {} {}",
                bar(self.finished as u64, requests as u64),
                self.summary(requests)
            ),
            format!(
                "    {:BAR$} {:>8} {:>8} {:>8} {:>8} {:>6}",
                "", "served", "local", "out", "in", "open"
            ),
        ];
        lines.extend(self.servers.iter().take(ROWS).map(|server| {
            let ServerNow {
                name,
                served,
                local,
                migrated_out,
                migrated_in,
                open,
            } = server;
            format!(
                "{name:<3} {} {served:>8} {local:>8} {migrated_out:>8} {migrated_in:>8} {open:>6}",
                bar(*served, most)
            )
        }));
        if self.servers.len() > ROWS {
            lines.push(format!("and {} more", self.servers.len() - ROWS));
        }
        lines
    }

    /// The progress in words.
    fn summary(&self, requests: usize) -> String {
        let Now {
            finished, errors, ..
        } = self;
        format!("{finished} of {requests} requests, {errors} failed")
    }

    /// One line, for logs.
    fn line(&self, requests: usize) -> String {
        let mut line = self.summary(requests);
        for (n, ServerNow { name, served, .. }) in self.servers.iter().take(ROWS).enumerate() {
            let before = if n == 0 { "; served" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(line, "{before} {name} {served}");
        }
        line
    }
}

/// A bar of [`BAR`] cells, `part` of `whole` full.
fn bar(part: u64, whole: u64) -> String {
    let full = match whole {
        0 => 0,
        // At most BAR, which fits.
        whole => (u128::from(part.min(whole)) * BAR as u128 / u128::from(whole)) as usize,
    };
    "█".repeat(full) + &"░".repeat(BAR - full)
}

/// Where the picture is drawn: over itself on a terminal, as lines elsewhere; both on standard error.
#[derive(Debug)]
pub struct Picture {
    requests: usize,
    /// `None`: nobody looks.
    screen: Option<ProgressBar>,
    last: Mutex<Last>,
}

/// What was drawn last.
#[derive(Debug)]
struct Last {
    at: Instant,
    line: String,
}

impl Picture {
    /// For a run of so many requests.
    pub fn new(requests: usize) -> Picture {
        Picture::on(Some(ProgressDrawTarget::stderr()), requests)
    }

    /// One that nobody sees.
    pub fn hidden() -> Picture {
        Picture::on(None, 0)
    }

    fn on(target: Option<ProgressDrawTarget>, requests: usize) -> Picture {
        let screen = target.map(|target| ProgressBar::with_draw_target(None, target));
        // The template is right: what it says is the message.
        let style = ProgressStyle::with_template("{msg}");
        Picture {
            requests,
            screen: match (screen, style) {
                (Some(screen), Ok(style)) => Some(screen.with_style(style)),
                (screen, _) => screen,
            },
            last: Mutex::new(Last {
                at: Instant::now(),
                line: String::new(),
            }),
        }
    }

    /// Says what is done before there is anything to see.
    pub fn say(&self, what: &'static str) {
        if let Some(screen) = &self.screen {
            screen.set_message(what);
        }
    }

    /// Draws what `look` sees, if it is time to.
    pub fn update(&self, look: impl FnOnce() -> Now) {
        let Some(screen) = &self.screen else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = if screen.is_hidden() { LINES } else { REDRAWN };
        if last.at.elapsed() < pause {
            return;
        }
        last.at = Instant::now();
        let now = look();
        if !screen.is_hidden() {
            screen.set_message(now.lines(self.requests).join("\n"));
            return;
        }
        let line = now.line(self.requests);
        if line != last.line {
            eprintln!("{line}");
            last.line = line;
        }
    }

    /// Takes the picture away; the next [`Picture::update`] draws it again.
    pub fn clear(&self) {
        if let Some(screen) = &self.screen {
            screen.set_message("");
            screen.finish_and_clear();
            screen.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, served: u64) -> ServerNow {
        ServerNow {
            name: name.into(),
            served,
            local: 1,
            migrated_out: 2,
            migrated_in: 3,
            open: 4,
        }
    }

    #[test]
    fn bars_are_parts_of_the_busiest_and_of_all() {
        let now = Now {
            finished: 30,
            errors: 1,
            servers: vec![server("s1", 20), server("s2", 10), server("s3", 0)],
        };
        let lines = now.lines(120);
        assert_eq!(
            lines,
            [
                "    ██████░░░░░░░░░░░░░░░░░░ 30 of 120 requests, 1 failed",
                "                               served    local      out       in   open",
                "s1  ████████████████████████       20        1        2        3      4",
                "s2  ████████████░░░░░░░░░░░░       10        1        2        3      4",
                "s3  ░░░░░░░░░░░░░░░░░░░░░░░░        0        1        2        3      4",
            ]
        );
        assert_eq!(
            now.line(120),
            "30 of 120 requests, 1 failed; served s1 20, s2 10, s3 0"
        );
    }

    #[test]
    fn nothing_yet_and_more_than_fits() {
        let empty = Now::default().lines(0);
        assert_eq!(empty.len(), 2);
        assert!(!empty.concat().contains('█'));
        let many = Now {
            servers: (1..=89).map(|n| server(&format!("s{n}"), n)).collect(),
            ..Now::default()
        };
        let lines = many.lines(10);
        assert_eq!(lines.len(), 2 + ROWS + 1);
        assert_eq!(lines.last().unwrap(), "and 73 more");
    }

    #[test]
    fn bars_have_one_length() {
        for (part, whole) in [(0, 0), (7, 0), (1, 3), (9, 3), (u64::MAX, u64::MAX)] {
            assert_eq!(bar(part, whole).chars().count(), BAR, "{part} of {whole}");
        }
    }
}
