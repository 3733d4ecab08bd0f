//! Ray's own event file: JSON lines that drivers print and the dashboard lists.
//!
//! Facts of Ray 2.60: the file is `<temp_dir>/session_latest/logs/events/event_AUTOSCALER.log`. One line is one `Event`
//! message in protobuf's JSON form with original field names: `event_id` (36 hex digits), `source_type`, `source_hostname`,
//! `source_pid`, `severity`, `label`, `message`, `timestamp` (Unix seconds *as a string*) and `custom_fields`. The log
//! monitor of the head follows the file by inode and sends each line to the drivers as `(autoscaler) …`.
//!
//! [`messages`] says what is worth a line, [`EventLog`] writes it.

use std::path::PathBuf;

use mobula_planner::{Plan, Snapshot};

/// How loud a line is. Drivers show [`Severity::Info`] and above.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For the file only.
    Debug,
    /// Something was done.
    Info,
    /// The user must act.
    Warning,
}

/// One thing to tell the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// How loud.
    pub severity: Severity,
    /// What, in the words that users of Ray know.
    pub message: String,
}

/// What Ray's drivers should be told of `plan`, which was made from `snapshot`: nodes that are added and removed, the size of
/// the cluster where it changes, and demand that no group could ever hold.
///
/// Lines of severity [`Severity::Info`] and below speak of what was done: write them once the plan has been applied. Warnings
/// hold whether it was applied or not; [`EventLog::write`] repeats an unchanged one only now and then.
pub fn messages(snapshot: &Snapshot, plan: &Plan) -> Vec<EventLine> {
    let _ = (snapshot, plan);
    Vec::new()
}

/// Where events go and who says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLogConfig {
    /// Ray's temporary directory (`/tmp/ray`).
    pub temp_dir: PathBuf,
    /// Host name, as `source_hostname`.
    pub hostname: String,
    /// Process id, as `source_pid`.
    pub pid: u32,
    /// Largest size of the file; a full one becomes `event_AUTOSCALER.log.1` and replaces the one before.
    pub limit_bytes: u64,
}

/// Appends to the event file. Never fails: what can't be written is said once in the log, and tried again with the next line.
#[derive(Debug)]
pub struct EventLog {
    config: EventLogConfig,
}

impl EventLog {
    /// A log that opens its file with the first line.
    pub fn new(config: EventLogConfig) -> Self {
        EventLog { config }
    }

    /// Writes `lines`, said at Unix time `now_ms`.
    pub fn write(&mut self, lines: &[EventLine], now_ms: i64) {
        let _ = (&self.config, lines, now_ms);
    }
}
