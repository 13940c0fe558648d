//! What administrators do, and what the ledger tells of itself.

use super::*;

impl Reference {
    /// Where a claimed row lies, unless the clock went back since its claim: then it is passed over until the clock is
    /// there again.
    pub(super) fn is_in_the_due_part(&self, job: &Job) -> bool {
        job.next_run_at <= self.now + EARLY
    }

    pub(crate) fn end_leases(&mut self, module: Uuid, answers: &[Transition]) {
        let held: Vec<_> = self
            .pending
            .values()
            .filter(|job| job.module == Some(module) && self.is_in_the_due_part(job))
            .map(|job| job.id)
            .collect();
        assert_eq!(answers.iter().map(|answer| answer.id).collect::<Vec<_>>(), held);
        for answer in answers {
            self.saw("a lease is ended");
            let verdict = Verdict::Return { at: At::From(self.now), counted: false, charged: None };
            self.turn(answer.id, &verdict, None, answer);
        }
    }

    pub(super) fn cancelled(&mut self, id: JobId, reason: &str, answer: &Transition) {
        let cause =
            Cause { code: "cancelled".into(), message: reason.to_owned(), event: JobEventType::Cancelled };
        self.turn(id, &Verdict::Bury { status: JobStatus::Failed, charge: 0, cause }, None, answer);
    }

    pub(crate) fn cancel(&mut self, id: JobId, reason: &str, answer: &Result<Transition, Error>) {
        match (self.find(id).map(|job| job.status), answer) {
            (Some(JobStatus::Queued), Ok(answer)) => self.cancelled(id, reason, answer),
            (status, answer) => refused(status, "cancelled", answer),
        }
    }

    pub(crate) fn cancel_for_target(
        &mut self,
        kinds: &[&str],
        target_id: Uuid,
        reason: &str,
        answers: &[Transition],
    ) {
        let queued: BTreeSet<_> = kinds
            .iter()
            .filter_map(|kind| self.pending_of(&((*kind).to_owned(), target_id)))
            .filter(|job| job.is_queued())
            .map(|job| job.id)
            .collect();
        assert_eq!(
            answers.iter().map(|answer| answer.id).collect::<Vec<_>>(),
            queued.into_iter().collect::<Vec<_>>()
        );
        for answer in answers {
            self.cancelled(answer.id, reason, answer);
        }
    }

    pub(super) fn queued(job: &Job) -> Transition {
        Transition {
            next_run_at: Some(job.next_run_at),
            wake: (job.route == Route::Internal).then_some(job.id),
            ..job.transition(JobStatus::Queued)
        }
    }

    pub(crate) fn retry_now(&mut self, id: JobId, answer: &Result<Transition, Error>) {
        if !self.pending.get(&id).is_some_and(Job::is_queued) {
            return self.requeue(id, answer);
        }
        let now = self.now;
        let job = self.write(id);
        job.next_run_at = job.next_run_at.min(now);
        job.hinted_until = None;
        assert_eq!(*answer.as_ref().unwrap(), Self::queued(&self.pending[&id]));
    }

    pub(super) fn back(&mut self, id: JobId, answer: &Transition) {
        let now = self.now;
        self.saw("requeued");
        let mut job = self.dead.remove(&id).unwrap();
        let from = job.status;
        job.touch(now);
        job.status = JobStatus::Queued;
        job.route = self.route(&job.kind).unwrap_or(job.route);
        job.max_failures = self.max_failures(&job.kind).unwrap_or(job.max_failures);
        (job.failures, job.deferrals, job.next_run_at) = (0, 0, now);
        job.requeues += 1;
        job.last_error = job.error.take();
        (job.claimed_at, job.module, job.finished_at) = (None, None, None);
        let mut expected = Self::queued(&job);
        expected.event = Some(JobEvent {
            job_id: id,
            event_type: JobEventType::Requeued,
            payload: json!({
                "kind": job.kind,
                "target_type": TARGET_TYPE,
                "target_id": job.target_id,
                "from": from,
                "to": "queued",
                "reason": "requeued",
                "attempt": job.attempt,
                "failures": 0,
                "requeues": job.requeues,
                "next_run_at": now,
            }),
            trace_context: job.trace_context.clone(),
        });
        self.insert(job);
        assert_eq!(*answer, expected);
    }

    pub(crate) fn requeue(&mut self, id: JobId, answer: &Result<Transition, Error>) {
        let Some(dead) = self.dead.get(&id) else {
            return refused(self.find(id).map(|job| job.status), "requeued", answer);
        };
        match (self.pending_of(&dead.key()), answer) {
            (None, Ok(answer)) => self.back(id, answer),
            (Some(pending), Err(Error::PendingJobExists { job_id })) => {
                assert_eq!(*job_id, pending.id);
                self.saw("a requeue is refused");
            }
            (pending, answer) => panic!("{answer:?} where {pending:?} is pending"),
        }
    }

    pub(crate) fn requeue_dead(&mut self, filter: &DeadFilter, limit: usize, answer: &Requeued) {
        let wanted: BTreeSet<_> = self
            .dead
            .values()
            .filter(|job| job.status == JobStatus::DeadLetter)
            .filter(|job| filter.kind.as_ref().is_none_or(|kind| *kind == job.kind))
            .filter(|job| {
                let code = job.error.as_ref().and_then(|error| error["code"].as_str());
                filter.error_code.as_deref().is_none_or(|wanted| code == Some(wanted))
            })
            .filter(|job| filter.before.is_none_or(|before| job.finished_at < Some(before)))
            .map(|job| job.id)
            .take(limit)
            .collect();
        let back: Vec<_> = answer.requeued.iter().map(|back| back.id).collect();
        let all: BTreeSet<_> = back.iter().chain(&answer.skipped).copied().collect();
        assert_eq!(
            (all.len(), &all),
            (back.len() + answer.skipped.len(), &wanted),
            "the oldest dead letters"
        );
        assert!(back.is_sorted());
        for back in &answer.requeued {
            let key = self.dead[&back.id].key();
            assert!(self.pending_of(&key).is_none(), "the target's pending job is kept");
            self.back(back.id, back);
        }
        for skipped in &answer.skipped {
            // Of two dead letters of one target either may be the one that came back.
            assert!(
                self.pending_of(&self.dead[skipped].key()).is_some(),
                "nothing is skipped without reason"
            );
        }
    }

    pub(crate) fn put_kind(&mut self, kind: &str, settings: &KindSettings, answer: &KindRow) {
        let version = self.kinds.get(kind).map_or(0, |row| row.version) + 1;
        let row = KindRow { kind: kind.to_owned(), settings: *settings, version };
        assert_eq!(*answer, row);
        self.kinds.insert(kind.to_owned(), row);
        let moved: Vec<_> = self
            .pending
            .values()
            .filter(|job| job.kind == kind && job.is_queued() && job.route != settings.route)
            .map(|job| job.id)
            .collect();
        for id in moved {
            let job = self.write(id);
            (job.route, job.hinted_until) = (settings.route, None);
        }
    }

    pub(crate) fn purge(&mut self, before: Timestamp, limit: usize, answer: u64) {
        let old: Vec<_> = self
            .dead
            .values()
            .filter(|job| job.finished_at < Some(before))
            .map(|job| job.id)
            .take(limit)
            .collect();
        assert_eq!(answer, old.len() as u64);
        for id in old {
            self.saw("purged");
            self.dead.remove(&id);
            self.known.remove(&id);
        }
    }

    pub(crate) fn found(&self, id: JobId, answer: Option<&JobRecord>) {
        match (self.find(id), answer) {
            (Some(job), Some(record)) => job.is_the_record(record),
            (None, None) => {}
            (job, record) => panic!("{record:?} of {job:?}"),
        }
    }

    pub(crate) fn listed(&self, target_id: Uuid, status: Option<JobStatus>, answers: &[JobRecord]) {
        let mut expected: Vec<_> = [&self.pending, &self.archive, &self.dead]
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|job| job.target_id == target_id && status.is_none_or(|status| status == job.status))
            .collect();
        expected.sort_by_key(|job| Reverse(job.id));
        assert_eq!(answers.len(), expected.len());
        for (job, answer) in expected.iter().zip(answers) {
            job.is_the_record(answer);
        }
    }

    pub(crate) fn stats(&self, answer: &JobStats) {
        let statuses = [
            JobStatus::Queued,
            JobStatus::Claimed,
            JobStatus::Done,
            JobStatus::Failed,
            JobStatus::DeadLetter,
        ];
        let mut expected = JobStats {
            by_status: statuses.iter().map(|status| (status.to_string(), 0)).collect(),
            ..JobStats::default()
        };
        *expected.by_status.get_mut("done").unwrap() = i64::try_from(self.archive.len()).unwrap();
        for job in self.pending.values().chain(self.dead.values()) {
            *expected.by_status.get_mut(job.status.as_str()).unwrap() += 1;
            let by_status = expected.by_kind.entry(job.kind.clone()).or_default();
            *by_status.entry(job.status.to_string()).or_default() += 1;
        }
        expected.oldest_ready_age_s = self
            .pending
            .values()
            .filter(|job| job.is_queued() && job.next_run_at <= self.now && self.is_enabled(&job.kind))
            .map(|job| self.now.duration_since(job.next_run_at).as_secs_f64())
            .reduce(f64::max);
        let age = answer.oldest_ready_age_s;
        assert_eq!(JobStats { oldest_ready_age_s: expected.oldest_ready_age_s, ..answer.clone() }, expected);
        assert_eq!(age.is_some(), expected.oldest_ready_age_s.is_some());
        let difference = age.unwrap_or(0.0) - expected.oldest_ready_age_s.unwrap_or(0.0);
        assert!(difference.abs() < 1e-3, "{age:?}, not {:?}", expected.oldest_ready_age_s);
    }

    pub(crate) fn listed_kinds(&self, answers: &[KindRow]) {
        for (policy, answer) in self.registry.iter().zip(answers) {
            assert_eq!(policy.kind, answer.kind);
            match self.kinds.get(policy.kind) {
                Some(row) => assert_eq!(answer, row),
                None => assert_eq!((answer.version, answer.settings.max_failures), (0, policy.max_failures)),
            }
        }
        assert_eq!(answers.len(), self.registry.iter().count());
    }
}
