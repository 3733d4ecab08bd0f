//! RayCronJob `ray.io/v1`: a RayJob at every tick of a schedule.

use serde_json::Value;

use crate::{
    FieldError, ObjectMeta, RayJobSpec,
    object::{Field as _, object, read_object},
    schema::time,
};

object! {
    /// A RayCronJob. Reading and writing it again gives the same JSON.
    pub struct RayCronJob {
        /// ray.io/v1.
        api_version: String = optional "apiVersion",
        /// RayCronJob.
        kind: String = optional "kind",
        /// Name, labels, annotations, versions.
        metadata: ObjectMeta = required "metadata",
        /// What is wanted.
        spec: RayCronJobSpec = required "spec",
        /// What the operator says there is.
        status: Option<RayCronJobStatus> = optional "status",
    }
}

object! {
    /// What a RayCronJob wants.
    pub struct RayCronJobSpec {
        /// When, as cron has it.
        schedule: String = required "schedule",
        /// Time zone of the schedule, as Europe/Berlin.
        time_zone: Option<String> = optional "timeZone" as String::schema().min_chars(1),
        /// No more jobs are made.
        suspend: Option<bool> = optional "suspend",
        /// The job.
        job_template: RayJobSpec = required "jobTemplate",
    }
}

object! {
    /// Status of a RayCronJob.
    pub struct RayCronJobStatus {
        /// The last tick that made a job.
        last_schedule_time: Option<String> = optional "lastScheduleTime" as time(),
    }
}

impl RayCronJob {
    /// Reads a RayCronJob.
    ///
    /// # Errors
    /// Names the first field that is missing or of the wrong type.
    pub fn from_value(value: &Value) -> Result<RayCronJob, FieldError> {
        read_object(value, "RayCronJob")
    }

    /// The JSON it was read from, with the changes made since.
    pub fn to_value(&self) -> Value {
        self.write()
    }
}
