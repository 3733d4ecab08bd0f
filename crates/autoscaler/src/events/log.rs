//! The file behind [`super::messages`].

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

use serde::Serialize;

use super::{EventLine, Severity};

/// A warning of the same topic is repeated after this time, in ms.
const REPEAT_MS: i64 = 300_000;
/// Most topics that are remembered.
const MAX_TOPICS: usize = 1_000;

/// Where events go and who says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLogConfig {
    /// Ray's temporary directory (`/tmp/ray`).
    pub temp_dir: PathBuf,
    /// Host name, as `source_hostname`.
    pub hostname: String,
    /// Process id, as `source_pid`.
    pub pid: u32,
    /// Largest size of the file; a full one becomes `event_AUTOSCALER.log.1`, in place of the one before.
    pub limit_bytes: u64,
}

/// Appends to the event file. Never fails: what can't be written is said once in the log, and the next line is tried again.
#[derive(Debug)]
pub struct EventLog {
    config: EventLogConfig,
    /// Lines written so far, for their ids.
    count: u64,
    /// Topic of a warning → when it was written last.
    warned_ms: BTreeMap<String, i64>,
    /// The failure that was said.
    failing: bool,
}

/// One line of the file, its fields in Ray's order.
#[derive(Serialize)]
struct Event<'a> {
    event_id: String,
    source_type: &'static str,
    source_hostname: &'a str,
    source_pid: u32,
    severity: &'static str,
    message: &'a str,
    timestamp: String,
    label: &'static str,
    custom_fields: BTreeMap<String, String>,
}

impl EventLog {
    /// A log that opens its file with the first line.
    pub fn new(config: EventLogConfig) -> Self {
        EventLog { config, count: 0, warned_ms: BTreeMap::new(), failing: false }
    }

    /// Writes `lines`, said at Unix time `now_ms`. Call it with all warnings that hold, in every tick that
    /// may have another plan than the one before.
    pub fn write(&mut self, lines: &[EventLine], now_ms: i64) {
        // Also where the clock was set back: better twice than never.
        self.warned_ms.retain(|_, at| (0..REPEAT_MS).contains(&now_ms.saturating_sub(*at)));
        let due: Vec<&EventLine> = lines.iter().filter(|line| !self.is_told(line)).collect();
        if due.is_empty() {
            return;
        }
        let mut text = String::new();
        for line in &due {
            text.push_str(&self.render(line, now_ms));
            text.push('\n');
        }
        match self.append(text.as_bytes()) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !self.failing {
                    let directory = self.directory();
                    tracing::warn!(%error, directory = %directory.display(), "Ray's drivers are not told what is done: no event file");
                }
                self.failing = true;
                return;
            }
        }
        let topics = due.into_iter().filter(|line| line.severity == Severity::Warning).map(|line| line.topic.clone());
        let room = MAX_TOPICS.saturating_sub(self.warned_ms.len());
        self.warned_ms.extend(topics.take(room).map(|topic| (topic, now_ms)));
    }

    fn is_told(&self, line: &EventLine) -> bool {
        line.severity == Severity::Warning
            && (self.warned_ms.contains_key(&line.topic) || self.warned_ms.len() >= MAX_TOPICS)
    }

    fn render(&mut self, line: &EventLine, now_ms: i64) -> String {
        self.count += 1;
        let event = Event {
            event_id: format!("{now_ms:016x}{:08x}{:012x}", self.config.pid, self.count & 0xffff_ffff_ffff),
            source_type: "AUTOSCALER",
            source_hostname: &self.config.hostname,
            source_pid: self.config.pid,
            severity: match line.severity {
                Severity::Info => "INFO",
                Severity::Warning => "WARNING",
            },
            message: &line.message,
            timestamp: now_ms.div_euclid(1_000).to_string(),
            label: "",
            custom_fields: BTreeMap::new(),
        };
        // Strings and numbers only: there is always a JSON form.
        serde_json::to_string(&event).unwrap_or_default()
    }

    fn directory(&self) -> PathBuf {
        self.config.temp_dir.join("session_latest").join("logs").join("events")
    }

    fn append(&self, text: &[u8]) -> io::Result<()> {
        let directory = self.directory();
        // Only the last level: a session that Ray has not made must not be made up.
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = directory.join("event_AUTOSCALER.log");
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let mut file: File = open()?;
        let size = file.metadata()?.len();
        if size > 0 && size.saturating_add(text.len() as u64) > self.config.limit_bytes {
            fs::rename(&path, directory.join("event_AUTOSCALER.log.1"))?;
            file = open()?;
        }
        file.write_all(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn log(temp_dir: &std::path::Path, limit_bytes: u64) -> EventLog {
        EventLog::new(EventLogConfig { temp_dir: temp_dir.to_owned(), hostname: "h".into(), pid: 7, limit_bytes })
    }

    fn session() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("session_latest/logs")).unwrap();
        dir
    }

    fn info(message: &str) -> EventLine {
        EventLine { severity: Severity::Info, message: message.into(), topic: String::new() }
    }

    fn warning(message: &str, topic: &str) -> EventLine {
        EventLine { severity: Severity::Warning, message: message.into(), topic: topic.into() }
    }

    fn lines(dir: &tempfile::TempDir, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(dir.path().join("session_latest/logs/events").join(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn told(dir: &tempfile::TempDir) -> Vec<String> {
        lines(dir, "event_AUTOSCALER.log").iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_line_has_the_fields_of_rays_own() {
        let dir = session();
        log(dir.path(), 1 << 20).write(&[info("Adding 1 node(s) of type \"é\".\nx")], 1_700_000_000_999);
        let expected = serde_json::json!({
            "event_id": "0000018bcfe56be700000007000000000001",
            "source_type": "AUTOSCALER",
            "source_hostname": "h",
            "source_pid": 7,
            "severity": "INFO",
            "message": "Adding 1 node(s) of type \"é\".\nx",
            "timestamp": "1700000000",
            "label": "",
            "custom_fields": {},
        });
        assert_eq!(lines(&dir, "event_AUTOSCALER.log"), [expected]);
    }

    #[test]
    fn a_warning_is_repeated_only_now_and_then_whatever_its_count() {
        let dir = session();
        let mut log = log(dir.path(), 1 << 20);
        log.write(&[warning("a*1", "a"), warning("b*1", "b")], 0);
        log.write(&[warning("a*2", "a")], REPEAT_MS - 1);
        log.write(&[warning("a*3", "a")], REPEAT_MS);
        assert_eq!(told(&dir), ["a*1", "b*1", "a*3"]);
    }

    #[test]
    fn what_was_done_is_told_each_time() {
        let dir = session();
        let mut log = log(dir.path(), 1 << 20);
        log.write(&[info("x")], 0);
        log.write(&[info("x")], 1);
        assert_eq!(told(&dir), ["x", "x"]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_silence_warnings_for_ever() {
        let dir = session();
        let mut log = log(dir.path(), 1 << 20);
        log.write(&[warning("a", "a")], 1_000_000_000);
        log.write(&[warning("a", "a")], 5);
        assert_eq!(told(&dir), ["a", "a"]);
    }

    #[test]
    fn a_full_file_is_rotated_and_the_two_stay_within_the_limit() {
        let dir = session();
        let mut log = log(dir.path(), 1_000);
        for i in 0..50 {
            log.write(&[info(&format!("{i}"))], i);
        }
        assert_eq!(told(&dir).last().map(String::as_str), Some("49"));
        for name in ["event_AUTOSCALER.log", "event_AUTOSCALER.log.1"] {
            let size = fs::metadata(dir.path().join("session_latest/logs/events").join(name)).unwrap().len();
            assert!((1..=1_000).contains(&size), "{name}: {size}");
        }
    }

    #[test]
    fn a_session_that_is_not_there_is_not_made_up_and_a_later_one_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 1 << 20);
        log.write(&[warning("a", "a")], 0);
        assert!(!dir.path().join("session_latest").exists());
        fs::create_dir_all(dir.path().join("session_latest/logs")).unwrap();
        log.write(&[warning("a", "a")], 1);
        assert_eq!(told(&dir), ["a"]);
    }
}
