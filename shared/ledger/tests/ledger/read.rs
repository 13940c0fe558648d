//! The three tables as one, the numbers, and what makes room.

use crate::support::{Fixture, REPORT, WORK, job, permanent};
use jiff::{SignedDuration, Timestamp};
use ledger::retention::PartitionedTable;
use ledger::{
    JobFilter, JobId, JobStatus, dead_jobs_purge, job_complete, job_fail, job_find, job_pending_find,
    job_stats, jobs_list, partitions_drop, partitions_ensure,
};
use serde_json::json;
use uuid::Uuid;

/// One job in each state: queued, claimed, done, failed.
async fn one_of_each(f: &Fixture) -> [JobId; 4] {
    let queued = f.queued(REPORT).await;
    let claimed = f.claimed().await.id;
    let done = f.claimed().await;
    let fenced = f.fenced(&done).await;
    job_complete(&f.app, &fenced, &json!({}), None).await.unwrap();
    let failed = f.claimed().await;
    let fenced = f.fenced(&failed).await;
    job_fail(&f.app, &fenced, &permanent("gone"), None, &f.registry, 0.5).await.unwrap();
    [queued, claimed, done.id, failed.id]
}

async fn list(f: &Fixture, filter: &JobFilter) -> Vec<JobId> {
    jobs_list(&f.app, filter, None, 50).await.unwrap().into_iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn a_job_is_found_wherever_it_is_and_listed_newest_first() {
    let f = Fixture::new().await;
    let ids = one_of_each(&f).await;
    let statuses = [JobStatus::Queued, JobStatus::Claimed, JobStatus::Done, JobStatus::Failed];
    for (id, status) in ids.iter().zip(statuses) {
        assert_eq!(f.find(*id).await.status, status);
        let filter = JobFilter { status: Some(status), ..JobFilter::default() };
        assert_eq!(list(&f, &filter).await, vec![*id]);
    }
    assert_eq!(job_find(&f.app, JobId::new()).await.unwrap(), None);
    let newest_first: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(list(&f, &JobFilter::default()).await, newest_first);
}

#[tokio::test]
async fn a_page_goes_on_below_the_last_id_of_the_one_before() {
    let f = Fixture::new().await;
    let ids = one_of_each(&f).await;
    let first = jobs_list(&f.app, &JobFilter::default(), None, 3).await.unwrap();
    assert_eq!(first.iter().map(|job| job.id).collect::<Vec<_>>(), vec![ids[3], ids[2], ids[1]]);
    f.queued(WORK).await;
    let rest = jobs_list(&f.app, &JobFilter::default(), Some(first[2].id), 3).await.unwrap();
    assert_eq!(rest.iter().map(|job| job.id).collect::<Vec<_>>(), vec![ids[0]]);
}

#[tokio::test]
async fn filters_choose_by_kind_target_and_instant() {
    let f = Fixture::new().await;
    let ids = one_of_each(&f).await;
    let target = f.find(ids[2]).await.target_id;
    let kind = JobFilter { kind: Some(REPORT.into()), ..JobFilter::default() };
    assert_eq!(list(&f, &kind).await, vec![ids[0]]);
    let of_target =
        JobFilter { target_type: Some("thing".into()), target_id: Some(target), ..JobFilter::default() };
    assert_eq!(list(&f, &of_target).await, vec![ids[2]]);
    let since = |at| JobFilter { since: Some(at), ..JobFilter::default() };
    assert_eq!(list(&f, &since(Timestamp::now() - SignedDuration::from_mins(5))).await.len(), 4);
    assert!(list(&f, &since(Timestamp::now() + SignedDuration::from_mins(5))).await.is_empty());
}

#[tokio::test]
async fn the_pending_job_of_a_target_is_found_by_its_key() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let id = f.enqueue(job(WORK, target)).await.id;
    assert_eq!(job_pending_find(&f.app, WORK, "thing", target).await.unwrap(), Some(id));
    assert_eq!(job_pending_find(&f.app, REPORT, "thing", target).await.unwrap(), None);
}

#[tokio::test]
async fn the_numbers_count_each_state_and_tell_the_age_of_what_is_ready() {
    let f = Fixture::new().await;
    let stats = job_stats(&f.app).await.unwrap();
    assert_eq!((stats.oldest_ready_age_s, stats.by_status["queued"]), (None, 0));
    let ids = one_of_each(&f).await;
    f.set(ids[0], "next_run_at = now() - interval '90 seconds'").await;
    let stats = job_stats(&f.app).await.unwrap();
    for status in ["queued", "claimed", "done", "failed"] {
        assert_eq!(stats.by_status[status], 1, "{status}");
    }
    assert_eq!(stats.by_status["dead_letter"], 0);
    assert_eq!(stats.by_kind[REPORT]["queued"], 1);
    assert_eq!((stats.by_kind[WORK]["claimed"], stats.by_kind[WORK]["failed"]), (1, 1));
    let age = stats.oldest_ready_age_s.unwrap();
    assert!((90.0..100.0).contains(&age), "{age}");
}

#[tokio::test]
async fn partitions_reach_three_months_ahead_and_making_them_again_makes_none() {
    let f = Fixture::new().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'job_archive'::regclass";
    let count = || async { f.owner.query_one(partitions, &[]).await.unwrap().get::<_, i64>(0) };
    assert_eq!(count().await, 4);
    for table in PartitionedTable::ALL {
        assert!(partitions_ensure(&f.app, table).await.unwrap().is_empty(), "{table:?}");
        assert!(partitions_drop(&f.app, table).await.unwrap().is_empty(), "{table:?}");
    }
    let last = "SELECT max(c.relname) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'job_archive'::regclass";
    let last: String = f.owner.query_one(last, &[]).await.unwrap().get(0);
    f.owner.batch_execute(&format!("DROP TABLE {last}")).await.unwrap();
    assert_eq!(partitions_ensure(&f.app, PartitionedTable::JobArchive).await.unwrap(), vec![last]);
    assert_eq!(count().await, 4);
}

#[tokio::test]
async fn a_partition_is_dropped_once_every_row_is_past_its_retention() {
    let f = Fixture::new().await;
    let add = "DO $$
        DECLARE month date; name text;
        BEGIN
            FOR ago IN 1..3 LOOP
                month := (date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => ago))::date;
                name := 'job_archive_' || to_char(month, 'YYYY_MM');
                EXECUTE format('CREATE TABLE %I PARTITION OF job_archive FOR VALUES FROM (%L) TO (%L)',
                    name, month || ' 00:00+00', (month + interval '1 month')::date || ' 00:00+00');
            END LOOP;
        END $$";
    f.owner.batch_execute(add).await.unwrap();
    let dropped = partitions_drop(&f.app, PartitionedTable::JobArchive).await.unwrap();
    // Last month's rows may be a day old; those of three months ago are older than thirty days whatever today is.
    assert!((1..=2).contains(&dropped.len()), "{dropped:?}");
    assert!(dropped.iter().all(|name| name.starts_with("job_archive_")));
    assert!(partitions_drop(&f.app, PartitionedTable::JobArchive).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_partition_functions_take_no_other_table_and_the_role_owns_none() {
    let f = Fixture::new().await;
    for sql in [
        "SELECT partition_drop('jobs')",
        "SELECT partition_ensure('job_dead')",
        "SELECT partition_ensure(NULL)",
        "DROP TABLE jobs",
        "DELETE FROM job_archive",
        "UPDATE job_archive SET status = 'done'",
        "CREATE TABLE mine (id int)",
    ] {
        assert!(f.app.batch_execute(sql).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn the_dead_are_deleted_after_half_a_year() {
    let f = Fixture::new().await;
    let ids = one_of_each(&f).await;
    let later = Timestamp::now() + SignedDuration::from_hours(181 * 24);
    assert_eq!(dead_jobs_purge(&f.app, Timestamp::now(), 100).await.unwrap(), 0);
    assert_eq!(dead_jobs_purge(&f.app, later, 100).await.unwrap(), 1);
    assert_eq!(job_find(&f.app, ids[3]).await.unwrap(), None);
    assert_eq!(f.find(ids[2]).await.status, JobStatus::Done);
}

/// A subselect with LIMIT and SKIP LOCKED that a join runs once for each row of its other side gives other rows every time, and
/// the limit is none. That is the plan when the table was empty the last time the server looked at it.
#[tokio::test]
async fn the_dead_are_deleted_up_to_the_limit_also_after_there_were_none() {
    let f = Fixture::new().await;
    one_of_each(&f).await;
    let columns: String = f
        .owner
        .query_one(
            "SELECT string_agg(attname, ', ') FROM pg_attribute
            WHERE attrelid = 'job_dead'::regclass AND attnum > 0 AND attname NOT IN ('id', 'target_id')",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let twenty = format!(
        "INSERT INTO job_dead (id, target_id, {columns})
        SELECT (left(id::text, 13) || '-7000-8000-' || lpad(n::text, 12, '0'))::uuid, gen_random_uuid(), {columns}
        FROM one_dead, generate_series(1, 20) AS n"
    );
    let emptied = "CREATE TABLE one_dead AS SELECT * FROM job_dead; DELETE FROM job_dead";
    for sql in [emptied, &twenty, "DELETE FROM job_dead", "ANALYZE job_dead", &twenty] {
        f.owner.batch_execute(sql).await.unwrap();
    }
    let later = Timestamp::now() + SignedDuration::from_hours(181 * 24);
    assert_eq!(dead_jobs_purge(&f.app, later, 3).await.unwrap(), 3);
    assert_eq!(dead_jobs_purge(&f.app, later, 100).await.unwrap(), 17);
}

#[tokio::test]
async fn the_tables_refuse_rows_whose_columns_contradict_one_another() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    for (assignment, constraint) in [
        ("status = 'claimed'", "jobs_claim_has_its_lease"),
        ("lease_token = gen_random_uuid()", "jobs_claim_has_its_lease"),
        ("status = 'done'", "jobs_status_is_pending"),
        ("priority = 7", "jobs_priority_is_known"),
        ("rerun = true", "jobs_rerun_is_of_claimed"),
        ("failures = 3", "jobs_failures_leave_a_try"),
        ("locked_by_module_id = gen_random_uuid()", "jobs_holder_has_a_claim"),
        ("report_token = gen_random_uuid()", "jobs_report_is_whole"),
        (
            "status = 'claimed', lease_token = gen_random_uuid(), claimed_at = now(), lease_expires_at = now() + interval '16 min'",
            "jobs_lease_is_bounded",
        ),
    ] {
        let sql = format!("UPDATE jobs SET {assignment} WHERE id = '{id}'");
        let error = f.owner.batch_execute(&sql).await.unwrap_err();
        assert_eq!(
            error.as_db_error().and_then(|error| error.constraint()),
            Some(constraint),
            "{assignment}"
        );
    }
}

#[tokio::test]
async fn a_job_that_was_made_long_ago_and_ended_now_is_kept() {
    let f = Fixture::new().await;
    one_of_each(&f).await;
    let year_ago = Timestamp::now() - SignedDuration::from_hours(365 * 24);
    let ms = u128::try_from(year_ago.as_millisecond()).unwrap();
    let old = uuid::Uuid::from_u128((ms << 80) | (7 << 76) | (2 << 62));
    f.owner.execute("UPDATE job_dead SET id = $1", &[&old]).await.unwrap();
    assert_eq!(dead_jobs_purge(&f.app, Timestamp::now(), 100).await.unwrap(), 0);
    assert_eq!(f.find(JobId(old)).await.status, JobStatus::Failed);
}
