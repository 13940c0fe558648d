//! The steps of a history: what is drawn, and how one is done to the ledger.

use super::*;

/// `None`: a step that runs with those of other histories.
pub(super) async fn run(tx: &Transaction<'_>, registry: &Registry, step: &Step) -> Option<Answer> {
    Some(match step {
        Step::Enqueue { jobs, alone: true } => {
            Answer::Enqueued(job_enqueue(tx, registry, jobs).await.unwrap())
        }
        Step::MarkById { ids, alone: true } => Answer::Marked(jobs_mark_by_id(tx, ids).await.unwrap()),
        Step::ClaimOutside { module, kinds, id, lease } => Answer::ClaimedOutside(
            job_claim_external(tx, registry, *module, kinds, *id, *lease).await.unwrap(),
        ),
        Step::Heartbeat { holder, lease } => Answer::Heartbeat(job_heartbeat(tx, holder, *lease).await),
        Step::Report { holder, end, report, jitter } => {
            Answer::Reported(settle(tx, registry, holder, end, report.as_ref(), *jitter).await)
        }
        Step::Cancel(id) => Answer::Ended(job_cancel(tx, *id, "not wanted").await),
        Step::CancelForTarget { kinds, target } => Answer::Cancelled(
            jobs_cancel_for_target(tx, kinds, TARGET_TYPE, *target, "merged").await.unwrap(),
        ),
        Step::RetryNow(id) => Answer::Ended(job_retry_now(tx, *id).await),
        Step::Requeue(id) => Answer::Ended(job_requeue(tx, *id).await),
        Step::PutOff { id, deferrals } => {
            tx.execute("UPDATE jobs SET deferrals = $2 WHERE id = $1", &[&id.0, deferrals]).await.unwrap();
            Answer::PutOff
        }
        Step::Find(id) => Answer::Found(job_find(tx, *id).await.unwrap()),
        Step::List { target, status } => {
            let filter = JobFilter { target_id: Some(*target), status: *status, ..JobFilter::default() };
            Answer::Listed(jobs_list(tx, &filter, None, 1_000).await.unwrap())
        }
        Step::FindPending((kind, target)) => {
            Answer::FoundPending(job_pending_find(tx, kind, TARGET_TYPE, *target).await.unwrap())
        }
        Step::Enqueue { .. }
        | Step::MarkById { .. }
        | Step::Unmark(_)
        | Step::UnmarkById(_)
        | Step::Claim(_)
        | Step::CompleteInBatch(_)
        | Step::Nothing => return None,
    })
}

pub(super) async fn settle(
    tx: &Transaction<'_>,
    registry: &Registry,
    holder: &Holder,
    end: &End,
    report: Option<&Report>,
    jitter: f64,
) -> Reported {
    if let Some(report) = report {
        match job_replay(tx, holder.job_id, report).await {
            Ok(Replay::New) => {}
            Ok(repeated) => return Reported::Repeated(repeated),
            Err(Error::NotFound) => return Reported::Unknown,
            Err(error) => panic!("{error:?}"),
        }
    }
    let fenced = match fence(tx, holder).await {
        Ok(fenced) => fenced,
        Err(Error::Stale) => return Reported::Stale,
        Err(error) => panic!("{error:?}"),
    };
    let transition = match end {
        End::Complete(result) => job_complete(tx, &fenced, result, report).await,
        End::Fail(failure) => job_fail(tx, &fenced, failure, report, registry, jitter).await,
        End::Release(after) => job_release(tx, &fenced, *after, registry, jitter).await,
        End::Defer { until, counted } => job_defer(tx, &fenced, *until, *counted, registry, jitter).await,
    };
    Reported::Settled(Box::new(fenced), Box::new(transition.unwrap()))
}

pub(super) fn with_attempts(hints: &[Hint]) -> Vec<(JobId, Option<i32>)> {
    hints.iter().map(|hint| (hint.job_id, Some(hint.attempt))).collect()
}

pub(super) fn new_job(rng: &mut StdRng, history: &History, now: Timestamp) -> NewJob<'static> {
    let (kind, target_id) = history.keys.choose(rng).unwrap();
    let ahead_s = *[0, 1, 30, 59, 90, 600].choose(rng).unwrap();
    NewJob {
        kind: KINDS.iter().find(|known| *known == kind).unwrap(),
        target_type: TARGET_TYPE,
        target_id: *target_id,
        inputs: json!({"n": rng.random_range(0..1_000)}),
        priority: rng.random_bool(0.4).then(|| *ledger::policy::PRIORITIES.choose(rng).unwrap()),
        run_at: rng.random_bool(0.4).then(|| now + SignedDuration::from_secs(ahead_s)),
        trace_context: rng.random_bool(0.5).then(|| format!("trace {}", rng.random_range(0..1_000))),
    }
}

/// Hints of the pending jobs, most with the right attempt, some doubled.
pub(super) fn hints(
    rng: &mut StdRng,
    pending: &[&Job],
    ids: &impl Fn(&mut StdRng) -> Vec<JobId>,
) -> Vec<Hint> {
    let mut hints: Vec<Hint> = pending
        .iter()
        .filter(|_| rng.random_bool(0.8))
        .map(|job| Hint { job_id: job.id, attempt: job.attempt })
        .collect();
    for hint in hints.clone() {
        match rng.random_range(0..10) {
            0 => hints.push(hint),
            1 => hints.push(Hint { attempt: hint.attempt - 1, ..hint }),
            2 => hints.push(Hint { attempt: hint.attempt + 1, ..hint }),
            _ => {}
        }
    }
    if rng.random_bool(0.2) {
        hints.extend(ids(rng).into_iter().map(|job_id| Hint { job_id, attempt: rng.random_range(0..3) }));
    }
    hints
}

pub(super) fn some_kinds(rng: &mut StdRng) -> Vec<String> {
    let mut kinds: Vec<String> =
        KINDS.iter().filter(|_| rng.random_bool(0.7)).map(|kind| (*kind).to_owned()).collect();
    if rng.random_bool(0.1) {
        kinds.push("unheard-of".to_owned());
    }
    kinds
}

pub(super) fn asked_lease(rng: &mut StdRng) -> Option<Duration> {
    rng.random_bool(0.5).then(|| Duration::from_secs(*[1, 40, 5_000].choose(rng).unwrap()))
}

/// Mostly an attempt that holds its job, sometimes any that ever was, sometimes one that never was.
pub(super) fn a_holder(rng: &mut StdRng, holders: &[Holder], model: &Reference) -> Option<Holder> {
    let living: Vec<_> = holders.iter().filter(|holder| model.holds(holder)).collect();
    let latest = **living.choose(rng).or(holders.last().as_ref())?;
    Some(match rng.random_range(0..20) {
        0 => Holder { lease_token: Uuid::new_v4(), ..latest },
        1 => Holder { attempt: latest.attempt + *[-1, 1].choose(rng)?, ..latest },
        2..=7 => *holders.choose(rng)?,
        _ => latest,
    })
}

pub(super) fn report(rng: &mut StdRng, holder: Holder, now: Timestamp) -> Step {
    let failure = |permanent, retry_after_s: Option<u64>| Failure {
        code: "busy".into(),
        message: "it did not work".into(),
        permanent,
        retry_after: retry_after_s.map(Duration::from_secs),
    };
    let end = match rng.random_range(0..20) {
        0..=5 => End::Complete(json!({"n": rng.random_range(0..1_000)})),
        6..=9 => End::Fail(failure(false, None)),
        10 => End::Fail(failure(false, Some(*[1, 45, 100_000].choose(rng).unwrap()))),
        11 => End::Fail(failure(true, None)),
        12..=13 => End::Release(None),
        14 => End::Release(Some(Duration::from_secs(20))),
        counted => End::Defer {
            until: now + SignedDuration::from_secs(*[-5, 0, 20, 90].choose(rng).unwrap()),
            counted: counted < 18,
        },
    };
    let is_reported = matches!(end, End::Complete(_) | End::Fail(_)) && rng.random_bool(0.5);
    let report =
        is_reported.then(|| Report { token: holder.lease_token, digest: [rng.random_range(1..3); 32] });
    Step::Report { holder, end, report, jitter: *[0.0, 0.5, 1.0].choose(rng).unwrap() }
}
