//! Traces of work: jobs that come at a time, take a time, and need something.
//!
//! A file is CSV with a header, or Parquet with columns of the same names; which of them, its first bytes tell. Our own form, in which the order
//! of columns does not matter:
//!
//! | column | what | if it is missing |
//! |---|---|---|
//! | `arrival_s` | when it comes, in seconds from the beginning | refused |
//! | `duration_s` | how long it runs, in seconds | refused |
//! | `count` | bundles; more than one is a gang, which starts whole or not at all | 1 |
//! | `cpu`, `gpu`, `memory_gib` | what each bundle needs | 0 |
//! | `needs.NAME` | what each bundle needs of another resource of Ray | 0 |
//! | `strategy` | `pack`, `spread`, `strict-pack` or `strict-spread` | `pack` |
//! | `locality` | a label that all nodes of a gang share | none |
//! | `priority` | higher goes first, where somebody looks at it | 0 |
//! | `tenant` | whose it is | nobody |
//!
//! openb: a pod is a job that runs from when it was scheduled to when it was deleted; pods that were never scheduled are left out.
//! Philly (the reduced list `timestamp,duration,num_gpus,…,cluster`): a job of more than eight GPUs is a gang of nodes that share them
//! evenly. The list says nothing of CPUs: one a GPU is supposed.

use std::collections::BTreeMap;

use crate::lines::{BadLine, Line, Lines};

/// A job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// When it comes, in ms.
    pub arrival_ms: u64,
    /// How long it runs, in ms.
    pub duration_ms: u64,
    /// Bundles.
    pub count: u32,
    /// What each needs, in Ray's resources.
    pub needs: BTreeMap<String, f64>,
    /// `pack`, `spread`, `strict-pack` or `strict-spread`.
    pub strategy: String,
    /// Label that all nodes share.
    pub locality: Option<String>,
    /// Higher goes first.
    pub priority: i64,
    /// Whose it is.
    pub tenant: String,
}

/// A form of traces.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Our own.
    #[default]
    Mobula,
    /// Lists of pods of openb.
    Openb,
    /// The reduced list of Philly.
    Philly,
}

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;
const STRATEGIES: [&str; 4] = ["pack", "spread", "strict-pack", "strict-spread"];
/// GPUs of one node of Philly.
const PHILLY_GPUS: u32 = 8;

impl Form {
    /// All forms, by name.
    pub const ALL: [(&'static str, Form); 3] =
        [("mobula", Form::Mobula), ("openb", Form::Openb), ("philly", Form::Philly)];

    /// The form of this name.
    pub fn by_name(name: &str) -> Option<Form> {
        Form::ALL.iter().find(|(known, _)| *known == name).map(|(_, form)| *form)
    }
}

/// The jobs of a trace in the order in which they come. Times are from the first one on, but for our own form, which says them.
///
/// # Errors
/// Names line, field and value of the first that can't be used.
pub fn read(form: Form, file: &[u8]) -> Result<Vec<Job>, BadLine> {
    let mut jobs = match form {
        Form::Mobula => each(file, &["arrival_s", "duration_s"], own)?,
        Form::Openb => {
            each(file, &["cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time", "deletion_time"], openb)?
        }
        Form::Philly => each(file, &["timestamp", "duration", "num_gpus", "cluster"], philly)?,
    };
    jobs.sort_by_key(|job| job.arrival_ms);
    if form != Form::Mobula {
        let first_ms = jobs.first().map_or(0, |job| job.arrival_ms);
        jobs.iter_mut().for_each(|job| job.arrival_ms -= first_ms);
    }
    Ok(jobs)
}

fn each(
    file: &[u8],
    needed: &[&str],
    job: impl Fn(Line<'_>) -> Result<Option<Job>, BadLine>,
) -> Result<Vec<Job>, BadLine> {
    let lines = Lines::read(file, needed)?;
    lines.iter().filter_map(|line| job(line).transpose()).collect()
}

fn ms(line: Line<'_>, field: &str) -> Result<u64, BadLine> {
    if line.text(field).is_empty() {
        return Err(line.bad(field, "is missing"));
    }
    Ok((line.amount(field, 0.0)? * 1e3).round() as u64)
}

fn own(line: Line<'_>) -> Result<Option<Job>, BadLine> {
    let mut needs = BTreeMap::new();
    for (column, name, unit) in [("cpu", "CPU", 1.0), ("gpu", "GPU", 1.0), ("memory_gib", "memory", GIB)] {
        needs.insert(name.to_owned(), line.amount(column, 0.0)? * unit);
    }
    for column in line.columns() {
        if let Some(name) = column.strip_prefix("needs.") {
            needs.insert(name.to_owned(), line.amount(column, 0.0)?);
        }
    }
    needs.retain(|_, amount| *amount > 0.0);
    if needs.is_empty() {
        return Err(line.bad("cpu", "a job must need something"));
    }
    let count = if line.text("count").is_empty() { 1 } else { line.number("count")? };
    if !(1..=100_000).contains(&count) {
        return Err(line.bad("count", "must be from 1 to 100000"));
    }
    let strategy = match line.text("strategy") {
        "" => STRATEGIES[0],
        said if STRATEGIES.contains(&said) => said,
        _ => return Err(line.bad("strategy", format!("must be one of {}", STRATEGIES.join(", ")))),
    };
    let priority = match line.text("priority") {
        "" => 0,
        said => said.parse().map_err(|_| line.bad("priority", "must be a whole number"))?,
    };
    Ok(Some(Job {
        arrival_ms: ms(line, "arrival_s")?,
        duration_ms: ms(line, "duration_s")?,
        count,
        needs,
        strategy: strategy.to_owned(),
        locality: Some(line.text("locality").to_owned()).filter(|label| !label.is_empty()),
        priority,
        tenant: line.text("tenant").to_owned(),
    }))
}

fn openb(line: Line<'_>) -> Result<Option<Job>, BadLine> {
    if line.text("scheduled_time").is_empty() {
        return Ok(None);
    }
    let gpus = line.amount("num_gpu", 0.0)? * line.amount("gpu_milli", 0.0)? / 1e3;
    let needs = [
        ("CPU", line.amount("cpu_milli", 0.0)? / 1e3),
        ("GPU", gpus),
        ("memory", line.amount("memory_mib", 0.0)? * MIB),
    ];
    let needs = needs.into_iter().filter(|(_, amount)| *amount > 0.0);
    let (scheduled_ms, deleted_ms) = (ms(line, "scheduled_time")?, ms(line, "deletion_time")?);
    Ok(Some(Job {
        arrival_ms: ms(line, "creation_time")?,
        duration_ms: deleted_ms.saturating_sub(scheduled_ms),
        count: 1,
        needs: needs.map(|(name, amount)| (name.to_owned(), amount)).collect(),
        strategy: STRATEGIES[0].to_owned(),
        tenant: line.text("qos").to_owned(),
        ..Job::default()
    }))
}

fn philly(line: Line<'_>) -> Result<Option<Job>, BadLine> {
    let gpus = line.number("num_gpus")?;
    if gpus == 0 {
        return Err(line.bad("num_gpus", "must be 1 or more"));
    }
    let each = (1..=PHILLY_GPUS.min(gpus)).rev().find(|each| gpus % each == 0).unwrap_or(1);
    let arrival_s = unix_s(line.text("timestamp"))
        .ok_or_else(|| line.bad("timestamp", "must be a time such as 2017-10-09 07:01:55"))?;
    Ok(Some(Job {
        arrival_ms: arrival_s.saturating_mul(1_000),
        duration_ms: ms(line, "duration")?,
        count: gpus / each,
        needs: ["CPU", "GPU"].map(|name| (name.to_owned(), f64::from(each))).into(),
        strategy: STRATEGIES[0].to_owned(),
        tenant: line.text("cluster").to_owned(),
        ..Job::default()
    }))
}

/// Seconds since 1970 of `YYYY-MM-DD HH:MM:SS`, whatever its zone: only differences count.
fn unix_s(text: &str) -> Option<u64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let is_one = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    // Days since 1 March of year 0, in years that begin with March; 719,468 of them were before 1970.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = shifted_year * 365 + shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = days + (153 * shifted_month + 2) / 5 + day - 1;
    is_one.then(|| ((days - 719_468) * 24 + hour) * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_form_is_read_whatever_is_left_out() {
        let csv = "duration_s,arrival_s,gpu,count,strategy,tenant,needs.rdma,priority\n60,2.5,8,4,strict-spread,a,1,3\n1,0,1,,,,,\n";
        let jobs = read(Form::Mobula, csv.as_bytes()).unwrap();
        assert_eq!((jobs[0].arrival_ms, jobs[0].count, jobs[0].strategy.as_str()), (0, 1, "pack"));
        assert_eq!((jobs[1].arrival_ms, jobs[1].duration_ms, jobs[1].count), (2_500, 60_000, 4));
        assert_eq!(jobs[1].needs, BTreeMap::from([("GPU".to_owned(), 8.0), ("rdma".to_owned(), 1.0)]));
        assert_eq!((jobs[1].priority, jobs[1].tenant.as_str()), (3, "a"));
        let bad = |line: &str| {
            let csv = format!("arrival_s,duration_s,cpu,count,strategy\n{line}\n");
            read(Form::Mobula, csv.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(bad("soon,1,1,,"), "line 2: arrival_s: soon: must be a number of 0 or more");
        assert_eq!(bad("1,,1,,"), "line 2: duration_s: : is missing");
        assert_eq!(bad("1,1,0,,"), "line 2: cpu: 0: a job must need something");
        assert_eq!(bad("1,1,1,0,"), "line 2: count: 0: must be from 1 to 100000");
        assert!(bad("1,1,1,1,tight").contains("must be one of pack, spread"));
    }

    #[test]
    fn jobs_of_philly_are_spread_over_nodes_and_begin_with_the_first() {
        let csv = "timestamp,duration,num_gpus,gpu_time,cluster\n2017-10-09 07:01:55,66.0,1,66.0,b\n2017-10-08 23:59:55,10,24,0,a\n2017-10-09 00:00:00,10,12,0,a\n";
        let jobs = read(Form::Philly, csv.as_bytes()).unwrap();
        assert_eq!(jobs.iter().map(|job| job.arrival_ms).collect::<Vec<_>>(), [0, 5_000, 25_320_000]);
        assert_eq!(
            jobs.iter().map(|job| (job.count, job.needs["GPU"])).collect::<Vec<_>>(),
            [(3, 8.0), (2, 6.0), (1, 1.0)]
        );
        let bad = csv.replace("2017-10-08 23:59:55", "yesterday");
        assert!(read(Form::Philly, bad.as_bytes()).unwrap_err().to_string().contains("line 3: timestamp: yesterday"));
    }

    #[test]
    fn pods_of_openb_run_from_scheduling_to_deletion() {
        let csv = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time,scheduled_time\n\
                   a,500,1024,1,460,100,160,110\nb,1,1,0,0,50,60,\n";
        let jobs = read(Form::Openb, csv.as_bytes()).unwrap();
        assert_eq!((jobs.len(), jobs[0].arrival_ms, jobs[0].duration_ms), (1, 0, 50_000));
        assert_eq!((jobs[0].needs["GPU"], jobs[0].needs["CPU"]), (0.46, 0.5));
    }

    #[test]
    fn dates_are_counted() {
        assert_eq!(unix_s("1970-01-01 00:00:00"), Some(0));
        assert_eq!(unix_s("2017-10-09 07:01:55"), Some(1_507_532_515));
        assert_eq!(unix_s("2017-13-09 07:01:55"), None);
    }
}
