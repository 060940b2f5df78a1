"""batch/v1: Job and CronJob"""

from datetime import datetime
from typing import Any

from msgspec import field

from schemas.kubernetes.base import (
    Condition,
    KubeObject,
    KubeStruct,
    LabelSelector,
    ObjectMeta,
    ObjectReference,
    Tally,
    condition_status,
)
from schemas.kubernetes.container import PodTemplate
from schemas.kubernetes.kind import NAME, NAMESPACE, Kind, selectable
from schemas.kubernetes.workload import selector_column, template_columns


class JobSpec(KubeStruct):
    """batch/v1 JobSpec; times in seconds."""

    parallelism: int | None = None
    completions: int | None = None
    completion_mode: str = ""
    backoff_limit: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    suspend: bool = False
    selector: LabelSelector | None = None
    template: PodTemplate = field(default_factory=PodTemplate)


class JobStatus(KubeStruct):
    """batch/v1 JobStatus"""

    active: int = 0
    ready: int | None = None
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    completed_indexes: str = ""
    failed_indexes: str = ""
    conditions: list[Condition] | None = None


class Job(KubeObject):
    """batch/v1 Job"""

    spec: JobSpec = field(default_factory=JobSpec)
    status: JobStatus = field(default_factory=JobStatus)

    @property
    def state(self) -> str:
        """The word under STATUS, by the rules of the API server's printer."""
        conditions = self.status.conditions
        if condition_status(conditions, "Complete") == "True":
            return "Complete"
        if condition_status(conditions, "Failed") == "True":
            return "Failed"
        if self.metadata.deletion_timestamp:
            return "Terminating"
        if condition_status(conditions, "Suspended") == "True":
            return "Suspended"
        going = (type_ for type_ in _ENDING if condition_status(conditions, type_) == "True")
        return next(going, "Running")

    def tally(self) -> Tally:
        desired = 1 if self.spec.completions is None else self.spec.completions
        return Tally(self.state, desired, self.status.succeeded)

    def columns(self) -> dict[str, Any]:
        status, parallelism = self.status, self.spec.parallelism or 0
        if self.spec.completions is not None:
            of = str(self.spec.completions)
        else:
            of = f"1 of {parallelism}" if parallelism > 1 else "1"
        started, ended = status.start_time, status.completion_time
        return {
            "status": self.state,
            "completions": f"{status.succeeded}/{of}",
            "started_at": started,
            "duration_seconds": int((ended - started).total_seconds()) if started and ended else None,
            **template_columns(self.spec.template),
            **selector_column(self.spec.selector),
        }


_ENDING = ("FailureTarget", "SuccessCriteriaMet")


class JobTemplate(KubeStruct):
    """batch/v1 JobTemplateSpec"""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: JobSpec = field(default_factory=JobSpec)


class CronJobSpec(KubeStruct):
    """batch/v1 CronJobSpec"""

    schedule: str = ""
    time_zone: str = ""
    suspend: bool = False
    concurrency_policy: str = ""
    starting_deadline_seconds: int | None = None
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None
    job_template: JobTemplate = field(default_factory=JobTemplate)


class CronJobStatus(KubeStruct):
    """batch/v1 CronJobStatus"""

    active: list[ObjectReference] | None = None
    last_schedule_time: datetime | None = None
    last_successful_time: datetime | None = None


class CronJob(KubeObject):
    """batch/v1 CronJob"""

    spec: CronJobSpec = field(default_factory=CronJobSpec)
    status: CronJobStatus = field(default_factory=CronJobStatus)

    def columns(self) -> dict[str, Any]:
        job = self.spec.job_template.spec
        return {
            "schedule": self.spec.schedule,
            "timezone": self.spec.time_zone,
            "suspend": self.spec.suspend,
            "active": len(self.status.active or []),
            "last_schedule": self.status.last_schedule_time,
            **template_columns(job.template),
            **selector_column(job.selector),
        }


JOB = Kind(
    resource="jobs",
    kind="Job",
    model=Job,
    group="batch",
    selectable=(NAME, NAMESPACE, selectable("status.successful", "status.succeeded", absent="0")),
)
CRON_JOB = Kind(resource="cronjobs", kind="CronJob", model=CronJob, group="batch")
