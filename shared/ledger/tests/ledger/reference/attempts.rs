//! How a holder keeps, ends or loses its attempt.

use super::*;

impl Reference {
    /// Whether the attempt has the job now.
    pub(crate) fn holds(&self, holder: &Holder) -> bool {
        self.pending.get(&holder.job_id).is_some_and(|job| {
            job.status == JobStatus::Claimed
                && job.attempt == holder.attempt
                && job.lease_token == Some(holder.lease_token)
                && job.lease_expires_at.is_some_and(|expiry| expiry > self.now)
        })
    }

    pub(crate) fn heartbeat(&mut self, holder: &Holder, lease: Duration, answer: &Result<Timestamp, Error>) {
        let expiry = match answer {
            Err(Error::Stale) => {
                assert!(!self.holds(holder), "who holds the job may extend it");
                return self.saw("a heartbeat is stale");
            }
            Err(error) => panic!("{error:?}"),
            Ok(expiry) => *expiry,
        };
        assert!(self.holds(holder), "only who holds the job may extend it");
        let now = self.now;
        let job = self.write(holder.job_id);
        let longest = job.claimed_at.unwrap() + LEASE_MAX;
        assert_eq!(expiry, (now + SignedDuration::try_from(lease).unwrap()).min(longest));
        job.lease_expires_at = Some(expiry);
        self.saw("a lease is extended");
    }

    /// A report over HTTP is looked up before the fence; a worker's has none.
    pub(crate) fn report(
        &mut self,
        holder: &Holder,
        end: &End,
        report: Option<&Report>,
        jitter: f64,
        answer: &Reported,
    ) {
        if let Some(report) = report {
            let Some(job) = self.find(holder.job_id) else {
                assert!(matches!(answer, Reported::Unknown), "{answer:?}");
                return self.saw("a report is of no job");
            };
            let is_known = job.report_token == Some(report.token);
            let is_same = is_known && job.report_digest.as_deref() == Some(report.digest.as_slice());
            match answer {
                Reported::Repeated(Replay::Same(record)) => {
                    assert!(is_same, "only the last accepted report is a repetition");
                    job.is_the_record(record);
                    return self.saw("a report is repeated");
                }
                Reported::Repeated(Replay::Other) => {
                    assert!(is_known && !is_same);
                    return self.saw("a report differs from the accepted one");
                }
                _ => assert!(!is_known, "{answer:?}"),
            }
        }
        let (fenced, transition) = match answer {
            Reported::Stale => {
                assert!(!self.holds(holder), "who holds the job passes the fence");
                return self.saw("a report is stale");
            }
            Reported::Settled(fenced, transition) => (fenced, transition),
            Reported::Repeated(_) | Reported::Unknown => panic!("{answer:?}"),
        };
        assert!(self.holds(holder), "only who holds the job passes the fence");
        let job = &self.pending[&holder.job_id];
        assert_eq!(fenced.job, job.claimed());
        assert_eq!(fenced.route, self.route(&job.kind).unwrap_or(job.route));
        let verdict = match end {
            End::Complete(result) => return self.complete(holder.job_id, result, report, transition),
            End::Fail(failure) => self.judge(job, failure, JobEventType::RetryScheduled, jitter),
            End::Release(after) => {
                let at = self.now + SignedDuration::try_from(after.unwrap_or_default()).unwrap();
                self.defer(job, At::From(at), true, jitter)
            }
            End::Defer { until, counted } => self.defer(job, At::Exactly(*until), *counted, jitter),
        };
        self.turn(holder.job_id, &verdict, report, transition);
    }

    pub(super) fn defer(&self, job: &Job, at: At, counted: bool, jitter: f64) -> Verdict {
        if !counted || job.deferrals < DEFERRALS_FREE {
            return Verdict::Return { at, counted, charged: None };
        }
        let (At::Exactly(until) | At::From(until)) = at;
        let failure = Failure {
            code: "deferred_too_often".into(),
            message: format!("the job was put off {} times", job.deferrals + 1),
            permanent: false,
            retry_after: Duration::try_from(until.duration_since(self.now)).ok(),
        };
        match self.judge(job, &failure, JobEventType::RetryScheduled, jitter) {
            Verdict::Return { at, charged, .. } => Verdict::Return { at, counted: true, charged },
            bury @ Verdict::Bury { .. } => bury,
        }
    }

    pub(super) fn judge(&self, job: &Job, failure: &Failure, event: JobEventType, jitter: f64) -> Verdict {
        let cause = |event| Cause { code: failure.code.clone(), message: failure.message.clone(), event };
        if failure.permanent {
            return Verdict::Bury {
                status: JobStatus::Failed,
                charge: 1,
                cause: cause(JobEventType::Failed),
            };
        }
        let failures = job.failures + 1;
        if failures >= job.max_failures {
            return Verdict::Bury {
                status: JobStatus::DeadLetter,
                charge: 1,
                cause: cause(JobEventType::DeadLettered),
            };
        }
        let policy = self.registry.get(&job.kind).unwrap();
        let (base_s, cap_s) = match self.kinds.get(&job.kind) {
            Some(row) => (f64::from(row.settings.base_seconds), f64::from(row.settings.cap_seconds)),
            None => (policy.base.as_secs_f64(), policy.cap.as_secs_f64()),
        };
        let bound_s = (base_s * f64::from(failures - 1).exp2()).min(cap_s).max(1.0);
        let floor_s = failure.retry_after.unwrap_or_default().as_secs_f64().min(6.0 * 3_600.0);
        let pause_s = (1.0 + (bound_s - 1.0) * jitter).max(floor_s);
        let at = At::From(self.now + SignedDuration::try_from_secs_f64(pause_s).unwrap());
        Verdict::Return { at, counted: false, charged: Some(cause(event)) }
    }

    /// A job leaves its lease (or, cancelled, the queue), as every transition of a claimed row does but completion.
    pub(super) fn turn(
        &mut self,
        id: JobId,
        verdict: &Verdict,
        report: Option<&Report>,
        answer: &Transition,
    ) {
        let now = self.now;
        let before = self.pending[&id].clone();
        let route = self.route(&before.kind).unwrap_or(before.route);
        let mut expected = before.transition(JobStatus::Queued);
        let cause = match verdict {
            Verdict::Return { at, counted, charged } => {
                self.saw(match (charged.as_ref().map(|cause| cause.code.as_str()), counted) {
                    (Some("deferred_too_often"), _) => "put off too often",
                    (Some("lease_expired"), _) => "a lease is reaped",
                    (Some(_), _) => "retried",
                    (None, true) => "put off, counted",
                    (None, false) => "put off, for pace",
                });
                let at = self.instant(at, answer.next_run_at.expect("a queued job has its instant"));
                expected.failures += i32::from(charged.is_some());
                expected.next_run_at = Some(at);
                let is_soon = at <= now + HORIZON + self.client_lag;
                expected.wake = (is_soon && route == Route::Internal).then_some(id);
                let error = charged.as_ref().map(|cause| error_json(&expected, cause));
                let job = self.write(id);
                job.status = JobStatus::Queued;
                job.route = route;
                job.next_run_at = to_the_column(at);
                job.failures = expected.failures;
                job.deferrals += i32::from(*counted);
                (job.lease_token, job.lease_expires_at, job.claimed_at) = (None, None, None);
                (job.module, job.hinted_until, job.rerun) = (None, None, false);
                if let Some(report) = report {
                    job.report_token = Some(report.token);
                    job.report_digest = Some(report.digest.to_vec());
                }
                job.last_error = error.or(job.last_error.take());
                charged.clone()
            }
            Verdict::Bury { status, charge, cause } => {
                self.saw(match (status, before.rerun) {
                    (_, true) => "dead, and again by a rerun",
                    (JobStatus::DeadLetter, _) => "dead",
                    (_, _) if cause.event == JobEventType::Cancelled => "cancelled",
                    _ => "failed",
                });
                expected.status = *status;
                expected.failures += charge;
                let error = error_json(&expected, cause);
                let mut job = self.leave(id, *status, report);
                job.failures = expected.failures;
                (job.last_error, job.error) = (Some(error.clone()), Some(error));
                self.dead.insert(id, job);
                self.rerun(&before, answer, &mut expected);
                expected.terminal = expected.rerun.is_none().then(|| TerminalJob {
                    id,
                    kind: before.kind.clone(),
                    target_type: TARGET_TYPE.to_owned(),
                    target_id: before.target_id,
                    inputs: before.inputs.clone(),
                    status: *status,
                    code: cause.code.clone(),
                    message: cause.message.clone(),
                    attempt: before.attempt,
                    trace_context: before.trace_context.clone(),
                });
                Some(cause.clone())
            }
        };
        expected.event = cause.map(|cause| event(&expected, before.status, &cause, &before));
        assert_eq!(*answer, expected);
    }

    pub(super) fn instant(&self, at: &At, found: Timestamp) -> Timestamp {
        match *at {
            At::Exactly(at) => assert_eq!(found, at),
            At::From(at) => {
                let late = found.duration_since(at);
                // The model counts in floating seconds.
                let is_near = late >= -SignedDuration::from_micros(1) && late <= self.client_lag;
                assert!(is_near, "{found} should be {at}, or {} later", self.client_lag);
            }
        }
        found
    }

    /// What changes of any job that moves to the archive or to the dead.
    pub(super) fn leave(&mut self, id: JobId, status: JobStatus, report: Option<&Report>) -> Job {
        let now = self.now;
        let mut job = self.remove(id);
        job.touch(now);
        (job.status, job.finished_at, job.rerun) = (status, Some(now), false);
        (job.lease_token, job.lease_expires_at, job.hinted_until) = (None, None, None);
        if let Some(report) = report {
            job.report_token = Some(report.token);
            job.report_digest = Some(report.digest.to_vec());
        }
        job
    }

    /// The fresh job that follows the end of a job which was enqueued again while it was claimed.
    pub(super) fn rerun(&mut self, before: &Job, answer: &Transition, expected: &mut Transition) {
        if !before.rerun {
            return;
        }
        let made = answer.rerun.as_ref().expect("a rerun makes a fresh job");
        let fresh = self.rerun_job(before, made.id);
        let due_soon = fresh.route == Route::Internal;
        self.insert(fresh);
        expected.wake = due_soon.then_some(made.id);
        expected.rerun = Some(Enqueued { id: made.id, kind: before.kind.clone(), inserted: true, due_soon });
    }

    pub(super) fn rerun_job(&self, before: &Job, id: JobId) -> Job {
        assert!(!self.known.contains(&id), "a new id");
        Job {
            inputs: before.inputs.clone(),
            route: self.route(&before.kind).unwrap_or(before.route),
            priority: before.priority,
            max_failures: self.max_failures(&before.kind).unwrap_or(before.max_failures),
            trace_context: before.trace_context.clone(),
            ..self.fresh(id, &before.kind, before.target_id)
        }
    }

    pub(super) fn complete(
        &mut self,
        id: JobId,
        result: &Value,
        report: Option<&Report>,
        answer: &Transition,
    ) {
        let before = self.pending[&id].clone();
        self.saw(if before.rerun { "done, and again by a rerun" } else { "done" });
        let mut job = self.leave(id, JobStatus::Done, report);
        job.result = Some(result.clone());
        self.archive.insert(id, job);
        let mut expected = before.transition(JobStatus::Done);
        self.rerun(&before, answer, &mut expected);
        assert_eq!(*answer, expected);
    }

    /// The fresh jobs of reruns are named only where they may be woken for: `made` tells them all.
    pub(crate) fn complete_batch(
        &mut self,
        attempts: &[(Holder, Value)],
        answer: &BatchCompleted,
        made: &BTreeMap<Key, JobId>,
    ) {
        let (mut done, mut stale, mut wake) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        for (holder, result) in attempts {
            if !self.holds(holder) {
                self.saw("a batch is stale");
                stale.push(*holder);
                continue;
            }
            self.saw("a batch completes");
            let id = holder.job_id;
            let before = self.pending[&id].clone();
            let mut job = self.leave(id, JobStatus::Done, None);
            job.result = Some(result.clone());
            self.archive.insert(id, job);
            done.insert(id);
            if before.rerun {
                let fresh = self.rerun_job(&before, made[&before.key()]);
                if fresh.route == Route::Internal {
                    wake.insert(fresh.id);
                }
                self.insert(fresh);
            }
        }
        assert_eq!(answer.done.iter().copied().collect::<BTreeSet<_>>(), done);
        assert_eq!(answer.done.len(), done.len(), "each once");
        assert_eq!(answer.stale, stale, "the stale ones are told");
        assert_eq!(answer.wake.iter().copied().collect::<BTreeSet<_>>(), wake);
    }

    pub(crate) fn reap(&mut self, limit: usize, jitter: f64, answers: &[Transition]) {
        let mut expired: Vec<_> = self
            .pending
            .values()
            .filter(|job| job.lease_expires_at.is_some_and(|expiry| expiry <= self.now))
            .filter(|job| self.is_in_the_due_part(job))
            .map(|job| (job.lease_expires_at, job.id))
            .collect();
        expired.sort_unstable();
        expired.truncate(limit);
        let expired: Vec<_> = expired.into_iter().map(|(_, id)| id).collect();
        let found: Vec<_> = answers.iter().map(|answer| answer.id).collect();
        assert_eq!(found, expired, "expired leases, oldest first, and no others");
        for answer in answers {
            let job = &self.pending[&answer.id];
            let message =
                format!("attempt {} did not report before {}", job.attempt, job.lease_expires_at.unwrap());
            let failure =
                Failure { code: "lease_expired".into(), message, permanent: false, retry_after: None };
            let verdict = self.judge(job, &failure, JobEventType::LeaseRequeued, jitter);
            self.turn(answer.id, &verdict, None, answer);
        }
    }
}
