//! The guards of the ledger, each broken in one place, and the tests that notice.

/// One textual change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mutation {
    /// What is broken.
    pub(crate) name: &'static str,
    /// From the repository's root.
    pub(crate) file: &'static str,
    /// Occurs once in the file. The change is made between it and the next blank line.
    pub(crate) within: &'static str,
    /// Occurs once there.
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// Each of these tests of `tests/ledger` passes without the change, and fails with it.
    pub(crate) caught_by: &'static [&'static str],
}

const FUNCTIONS: &str = "migrations/0004_create_ledger_functions.sql";
const COMPLETE: &str = "migrations/0005_fence_batch_completion.sql";
const ENQUEUE_ONE: &str = "migrations/0006_return_enqueued_as_text.sql";

macro_rules! mutations {
    ($($file:expr, $within:literal => {
        $($name:literal: $from:literal => $to:literal, [$($test:literal),+];)+
    })+) => {
        pub(crate) const MUTATIONS: &[Mutation] = &[
            $($(Mutation {
                name: $name,
                file: $file,
                within: $within,
                from: $from,
                to: $to,
                caught_by: &[$($test),+],
            },)+)+
        ];
    };
}

mutations! {
    FUNCTIONS, "CREATE FUNCTION ledger_fence(" => {
        "fence: any token": "AND j.lease_token = token" => "",
            ["fence::the_holder_passes_the_fence_and_nobody_else_does"];
        "fence: any attempt": "AND j.attempt = job_attempt" => "",
            ["fence::the_holder_passes_the_fence_and_nobody_else_does"];
        "fence: any state": "AND j.status = 'claimed'" => "",
            ["fence::a_token_that_was_left_on_a_queued_row_lets_nobody_in"];
        "fence: the expiry is not judged after the wait": "WHERE h.lease_expires_at > clock_timestamp()" => "",
            ["fence::a_fence_that_waited_past_the_expiry_is_stale",
            "interleavings::a_lease_is_over_on_its_instant_and_not_before"];
        "fence: the lease is still good on the instant of its expiry":
            "WHERE h.lease_expires_at > clock_timestamp()" => "WHERE h.lease_expires_at >= clock_timestamp()",
            ["interleavings::a_lease_is_over_on_its_instant_and_not_before"];
        "fence: takes no lock": "FOR UPDATE OF j" => "",
            ["fence::who_holds_the_row_may_commit_after_the_expiry_and_the_reaper_passes_it_by"];
        "fence: passes by a row that is locked": "FOR UPDATE OF j" => "FOR UPDATE OF j SKIP LOCKED",
            ["interleavings::a_lease_is_over_on_its_instant_and_not_before"];
    }
    "shared/ledger/src/fence.rs", "pub(crate) const HEARTBEAT" => {
        "heartbeat: any token": "AND j.lease_token = $3" => "AND $3::uuid IS NOT NULL",
            ["fence::the_holder_passes_the_fence_and_nobody_else_does"];
        "heartbeat: any attempt": "AND j.attempt = $2" => "AND $2::int4 IS NOT NULL",
            ["fence::the_holder_passes_the_fence_and_nobody_else_does"];
        "heartbeat: any state": "AND j.status = 'claimed'" => "",
            ["fence::a_token_that_was_left_on_a_queued_row_lets_nobody_in"];
        "heartbeat: the expiry is not judged after the wait": "\n    AND h.lease_expires_at > clock_timestamp()" => "",
            ["fence::a_heartbeat_that_waited_past_the_expiry_is_stale"];
        "heartbeat: a lease of any length after the claim":
            "least(clock_timestamp() + $4 * interval '1 second', j.claimed_at + interval '15 minutes')" => "clock_timestamp() + $4 * interval '1 second'",
            ["fence::a_heartbeat_extends_to_a_lease_from_now_and_never_past_a_quarter_of_an_hour"];
    }
    FUNCTIONS, "CREATE FUNCTION ledger_claim(" => {
        "claim: by a late hint": " AND h.attempt = j.attempt" => "",
            ["claim::a_hint_of_an_earlier_attempt_claims_nothing"];
        "claim: of a claimed row": "j.status = 'queued'" => "true",
            ["claim::a_late_or_doubled_hint_finds_nothing_to_claim",
            "interleavings::a_job_is_never_claimed_twice_with_living_tokens"];
        "claim: of an external job": "AND j.route = 'internal'" => "",
            ["claim::an_external_job_is_never_claimed_by_a_hint"];
        "claim: of a job that is not due": "AND j.next_run_at <= clock_timestamp() + interval '1 second'" => "",
            ["claim::only_what_is_due_within_a_second_is_claimed"];
        "claim: a minute early": "interval '1 second'\n            AND" => "interval '1 minute'\n            AND",
            ["claim::only_what_is_due_within_a_second_is_claimed"];
        "claim: no second early": "clock_timestamp() + interval '1 second'" => "clock_timestamp()",
            ["claim::only_what_is_due_within_a_second_is_claimed"];
        "claim: of a disabled kind": "AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))" => "",
            ["claim::a_disabled_kind_is_not_claimed_and_its_running_attempts_go_on"];
        "claim: locks in the order of the hints":
            "ORDER BY j.id\n        FOR UPDATE OF j" => "ORDER BY array_position(ids, j.id)\n        FOR UPDATE OF j",
            ["interleavings::no_statement_fails_and_none_deadlocks"];
        "claim: takes no lock first": "ORDER BY j.id\n        FOR UPDATE OF j" => "ORDER BY j.id",
            ["claim::a_claim_that_waited_for_another_finds_nothing"];
        "claim: passes by a row that is locked": "FOR UPDATE OF j" => "FOR UPDATE OF j SKIP LOCKED",
            ["claim::a_batch_waits_for_a_row_that_an_enqueue_holds"];
        "claim: is no new attempt": "attempt = j.attempt + 1" => "attempt = j.attempt",
            ["claim::a_claim_counts_the_attempt_and_makes_a_token_and_a_lease"];
        "claim: the token is known": "lease_token = gen_random_uuid()" => "lease_token = j.id",
            ["claim::every_attempt_has_a_token_of_its_own"];
        "claim: the mark stays": "hinted_until = NULL" => "hinted_until = j.hinted_until",
            ["claim::a_claim_counts_the_attempt_and_makes_a_token_and_a_lease"];
    }
    COMPLETE, "CREATE FUNCTION ledger_complete_2(" => {
        "complete: any token": " AND r.lease_token = j.lease_token" => "",
            ["fence::a_batch_with_the_wrong_attempt_or_token_is_stale"];
        "complete: any attempt": " AND r.attempt = j.attempt" => "",
            ["fence::a_batch_with_the_wrong_attempt_or_token_is_stale"];
        "complete: any state": "j.status = 'claimed'" => "true",
            ["fence::a_token_that_was_left_on_a_queued_row_lets_nobody_in"];
        "complete: the expiry is not judged after the wait": "\n            AND (is_fenced OR h.held_until > clock_timestamp())" => "",
            ["fence::a_batch_that_waited_past_the_expiry_is_stale"];
        "complete: a fenced attempt is judged by its expiry": "(is_fenced OR h.held_until > clock_timestamp())" => "(h.held_until > clock_timestamp())",
            ["fence::who_holds_the_row_may_commit_after_the_expiry_and_the_reaper_passes_it_by"];
        "complete: locks in the order of the reports": "ORDER BY j.id" => "",
            ["interleavings::no_statement_fails_and_none_deadlocks"];
        "complete: no rerun": "WHERE g.rerun" => "WHERE false",
            ["settle::a_terminal_transition_with_rerun_makes_a_fresh_job_that_takes_the_terminal_effect_over"];
        "complete: always a rerun": "WHERE g.rerun" => "",
            ["settle::a_done_job_moves_to_the_archive_with_its_result_and_without_an_event"];
        "complete: the report is forgotten": "coalesce(g.new_report_token, g.report_token)" => "g.report_token",
            ["settle::a_repeated_report_is_recognised_and_one_with_another_body_is_refused"];
        "complete: a rerun goes where its job went": "coalesce(k.route, g.route), g.priority" => "g.route, g.priority",
            ["settle::a_rerun_goes_where_its_kind_goes_now"];
    }
    FUNCTIONS, "CREATE FUNCTION ledger_mark(" => {
        "mark by id: an external job": "AND j.route = 'internal'" => "",
            ["hints::external_claimed_and_disabled_jobs_are_not_hinted"];
        "mark by id: a job that is due much later": "AND j.next_run_at <= now() + horizon_s * interval '1 second'" => "",
            ["hints::a_wake_marks_by_id_what_a_sweep_would_mark_and_once"];
        "mark by id: a claimed job": "AND j.status = 'queued'" => "",
            ["hints::external_claimed_and_disabled_jobs_are_not_hinted"];
        "mark by id: a marked job": "AND (j.hinted_until IS NULL OR j.hinted_until <= now())" => "",
            ["hints::a_wake_marks_by_id_what_a_sweep_would_mark_and_once"];
        "mark by id: a job whose mark has ended is passed by": "(j.hinted_until IS NULL OR j.hinted_until <= now())" => "(j.hinted_until IS NULL)",
            ["hints::a_mark_that_ended_is_no_mark"];
        "mark by id: a disabled kind": "AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))" => "",
            ["hints::external_claimed_and_disabled_jobs_are_not_hinted"];
        "mark by id: waits for who holds the row": " SKIP LOCKED" => "",
            ["hints::marking_skips_what_another_holds_and_does_not_wait"];
        "mark by id: the mark ends two minutes from now": "greatest(now(), j.next_run_at)" => "now()",
            ["hints::a_mark_ends_two_minutes_after_its_job_is_due"];
    }
    "shared/ledger/src/hints.rs", "const MARK_READY" => {
        "mark: an external job": "j.route = 'internal'" => "true",
            ["hints::external_claimed_and_disabled_jobs_are_not_hinted"];
        "mark: a job that is due much later": "AND j.next_run_at <= now() + $4 * interval '1 second'" => "AND $4::float8 > 0",
            ["hints::what_is_due_within_a_minute_is_hinted_with_its_delay_rounded_up"];
        "mark: a claimed job": "AND j.status = 'queued'" => "",
            ["hints::external_claimed_and_disabled_jobs_are_not_hinted"];
        "mark: a marked job": "AND (j.hinted_until IS NULL OR j.hinted_until <= now())" => "",
            ["hints::a_ready_job_is_hinted_once_and_again_when_its_mark_ends"];
        "mark: a job whose mark has ended is passed by": "(j.hinted_until IS NULL OR j.hinted_until <= now())" => "(j.hinted_until IS NULL)",
            ["hints::a_ready_job_is_hinted_once_and_again_when_its_mark_ends"];
        "mark: a disabled kind": "AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))" => "",
            ["hints::external_claimed_and_disabled_jobs_are_not_hinted"];
        "mark: waits for who holds the row": " SKIP LOCKED" => "",
            ["hints::marking_skips_what_another_holds_and_does_not_wait"];
        "mark: in the order of age alone": "AND j.priority = p.priority" => "AND p.priority = 0",
            ["hints::the_order_of_work_is_priority_then_instant_and_the_limit_holds"];
    }
    "shared/ledger/src/hints.rs", "const UNMARK" => {
        "unmark: of another attempt": " AND coalesce(h.attempt, j.attempt) = j.attempt" => "",
            ["hints::what_sqs_refused_is_unmarked_while_its_attempt_is_the_same"];
    }
    FUNCTIONS, "CREATE FUNCTION ledger_enqueue(" => {
        "enqueue: a claimed row gets no rerun": "rerun = j.rerun OR j.status = 'claimed'" => "rerun = j.rerun",
            ["enqueue::a_claimed_target_gets_rerun_and_nothing_else"];
        "enqueue: a claimed row gets another instant":
            "CASE j.status\n            WHEN 'queued' THEN least(j.next_run_at, excluded.next_run_at)\n            ELSE j.next_run_at\n        END" => "excluded.next_run_at",
            ["enqueue::a_claimed_target_gets_rerun_and_nothing_else"];
        "enqueue: a claimed row gets another priority":
            "CASE j.status WHEN 'queued' THEN greatest(j.priority, excluded.priority) ELSE j.priority END" => "greatest(j.priority, excluded.priority)",
            ["enqueue::a_claimed_target_gets_rerun_and_nothing_else"];
        "enqueue: a queued row is put off": "least(j.next_run_at, excluded.next_run_at)" => "excluded.next_run_at",
            ["enqueue::a_queued_target_keeps_its_job_with_the_earlier_instant_and_the_higher_priority"];
        "enqueue: a job that is due sooner keeps its mark":
            "CASE WHEN excluded.next_run_at < j.next_run_at THEN NULL ELSE j.hinted_until END" => "j.hinted_until",
            ["enqueue::a_queued_target_keeps_its_job_with_the_earlier_instant_and_the_higher_priority"];
        "enqueue: every mark is cleared":
            "CASE WHEN excluded.next_run_at < j.next_run_at THEN NULL ELSE j.hinted_until END" => "NULL",
            ["enqueue::a_queued_target_keeps_its_job_with_the_earlier_instant_and_the_higher_priority"];
        "enqueue: rows in any order": "ORDER BY n.place" => "ORDER BY random()",
            ["enqueue::two_transactions_that_enqueue_the_same_targets_wait_and_do_not_deadlock"];
        "enqueue: a claimed row is told to be due": "j.status = 'queued'\n            AND j.route" => "true\n            AND j.route",
            ["enqueue::a_claimed_target_gets_rerun_and_nothing_else"];
    }
    ENQUEUE_ONE, "CREATE FUNCTION ledger_enqueue_one_2(" => {
        "enqueue one: a conflict is passed by": "IF NOT FOUND THEN" => "IF false THEN",
            ["enqueue::a_claimed_target_gets_rerun_and_nothing_else"];
        "enqueue one: a conflict is an error": "ON CONFLICT (kind, target_type, target_id) DO NOTHING" => "",
            ["enqueue::a_claimed_target_gets_rerun_and_nothing_else"];
    }
    "shared/ledger/src/enqueue.rs", "    let mut wanted" => {
        "enqueue: two of one key are two jobs": ".entry((job.kind, job.target_type, job.target_id))" => ".entry((job.kind, job.target_type, Uuid::now_v7()))",
            ["enqueue::many_jobs_take_one_statement_and_answer_in_the_given_order"];
    }
    "shared/ledger/src/reap.rs", "const EXPIRED" => {
        "reap: any lease": "AND j.lease_expires_at <= clock_timestamp()" => "",
            ["reap::an_expired_lease_is_charged_and_queued_again_after_a_backoff"];
        "reap: not on the instant": "j.lease_expires_at <= clock_timestamp()" => "j.lease_expires_at < clock_timestamp()",
            ["fence::on_the_very_instant_the_holder_is_stale_and_the_reaper_takes_the_job"];
        "reap: any state": "AND j.status = 'claimed'" => "",
            ["fence::a_token_that_was_left_on_a_queued_row_lets_nobody_in"];
        "reap: waits for who holds the row": " SKIP LOCKED" => "",
            ["fence::who_holds_the_row_may_commit_after_the_expiry_and_the_reaper_passes_it_by"];
        "reap: takes no lock": "FOR UPDATE OF j SKIP LOCKED" => "",
            ["fence::who_holds_the_row_may_commit_after_the_expiry_and_the_reaper_passes_it_by"];
        "reap: the youngest expiry first": "ORDER BY j.lease_expires_at, j.id" => "ORDER BY j.lease_expires_at DESC, j.id",
            ["reap::the_oldest_expiry_goes_first_and_the_limit_holds"];
        "reap: internal jobs only": "ARRAY['internal', 'external']" => "ARRAY['internal']",
            ["reap::a_modules_expired_lease_is_taken_back_as_well"];
    }
    "shared/ledger/src/turn.rs", "pub(crate) const RETURN:" => {
        "return: of another attempt": "\n    AND j.attempt = r.attempt" => "",
            ["fence::what_was_fenced_in_a_transaction_that_is_over_changes_nothing"];
        "return: of a queued row": "\n    AND j.status = 'claimed'" => "",
            ["fence::a_returned_job_is_not_returned_again"];
        "return: not charged": "failures = j.failures + r.charge" => "failures = j.failures",
            ["settle::a_transient_failure_is_queued_again_after_a_backoff_with_its_event"];
        "return: not counted": "deferrals = j.deferrals + r.deferral" => "deferrals = j.deferrals",
            ["settle::a_release_is_not_charged_but_counted_and_has_no_event"];
        "return: a rerun stays": "rerun = false" => "rerun = j.rerun",
            ["settle::a_transient_failure_is_queued_again_after_a_backoff_with_its_event"];
        "return: the report is forgotten": "coalesce(r.report_token, j.report_token)" => "j.report_token",
            ["settle::a_reported_failure_is_recognised_after_its_job_was_claimed_again"];
        "return: the kind's route is not looked at": "coalesce((SELECT k.route FROM job_kinds AS k WHERE k.kind = j.kind), j.route)" => "j.route",
            ["admin::a_change_of_route_moves_the_queued_jobs_and_the_claimed_ones_when_they_return"];
    }
    "shared/ledger/src/turn.rs", "pub(crate) const BURY:" => {
        "bury: of another attempt": "\n        AND j.attempt = r.attempt" => "",
            ["fence::what_was_fenced_in_a_transaction_that_is_over_changes_nothing"];
        "bury: not charged": "failures + charge" => "failures",
            ["settle::the_last_failure_makes_a_dead_letter"];
        "bury: no rerun": "row::insert_rerun!()" => "\"SELECT 1\"",
            ["settle::a_terminal_transition_with_rerun_makes_a_fresh_job_that_takes_the_terminal_effect_over"];
    }
    "shared/ledger/src/turn.rs", "pub(crate) fn judge(" => {
        "budget: one failure more": "if failures >= job.max_failures" => "if failures > job.max_failures",
            ["settle::the_last_failure_makes_a_dead_letter"];
        "budget: one failure less": "let failures = job.failures + 1;" => "let failures = job.failures + 2;",
            ["settle::the_last_failure_makes_a_dead_letter"];
        "budget: a permanent failure is tried again": "if failure.permanent" => "if false",
            ["settle::a_permanent_failure_ends_the_job_at_once"];
    }
    "shared/ledger/src/turn.rs", "fn transition(" => {
        "a fresh job does not take the terminal effect over": "is_terminal && rerun.is_none()" => "is_terminal",
            ["settle::a_terminal_transition_with_rerun_makes_a_fresh_job_that_takes_the_terminal_effect_over"];
    }
    "shared/ledger/src/settle.rs", "pub const DEFERRALS_FREE" => {
        "deferrals: the twentieth is free": "= 19" => "= 20",
            ["settle::deferrals_are_charged_from_the_twentieth_on_and_end_the_job_some_day"];
        "deferrals: the nineteenth is charged": "= 19" => "= 18",
            ["settle::deferrals_are_charged_from_the_twentieth_on_and_end_the_job_some_day"];
    }
    "shared/ledger/src/settle.rs", "pub async fn job_defer(" => {
        "deferrals: pace is charged": "if counted && job.deferrals >= DEFERRALS_FREE" => "if job.deferrals >= DEFERRALS_FREE",
            ["settle::pace_is_never_charged_however_often"];
    }
    "shared/ledger/src/claim.rs", "pub async fn job_claim_batch(" => {
        "claim: a lease of any length": "lease.min(INTERNAL_LEASE_MAX).as_secs_f64()" => "lease.as_secs_f64()",
            ["claim::an_internal_lease_is_never_longer_than_a_minute"];
    }
    "shared/ledger/src/claim.rs", "const CLAIM_EXTERNAL:" => {
        "claim outside: an internal job": "j.route = 'external'" => "true",
            ["external::an_internal_job_is_never_claimed_from_outside"];
        "claim outside: a job that is not due": "AND j.next_run_at <= now()" => "",
            ["external::what_is_not_due_or_held_is_not_in_a_batch"];
        "claim outside: a claimed job": "AND j.status = 'queued'" => "",
            ["external::what_is_not_due_or_held_is_not_in_a_batch"];
        "claim outside: a disabled kind": "WHERE coalesce(k.enabled, true)" => "",
            ["external::an_admins_row_overrides_the_lease_and_stops_claims"];
        "claim outside: waits for who holds the row": " SKIP LOCKED" => "",
            ["external::a_claim_from_outside_passes_by_what_another_holds"];
    }
    "shared/ledger/src/claim.rs", "const CLAIM_EXTERNAL_ONE" => {
        "claim one outside: an internal job": "AND j.route = 'external'" => "",
            ["external::why_a_job_is_not_given_is_told"];
        "claim one outside: a job that is not due": "AND j.next_run_at <= now()" => "",
            ["external::why_a_job_is_not_given_is_told"];
        "claim one outside: a claimed job": "AND j.status = 'queued'" => "",
            ["external::why_a_job_is_not_given_is_told"];
        "claim one outside: a disabled kind": "WHERE coalesce(k.enabled, true)" => "",
            ["external::an_admins_row_overrides_the_lease_and_stops_claims"];
    }
    "shared/ledger/src/admin.rs", "const LOCK_QUEUED:" => {
        "cancel: a claimed job": "\n    AND j.status = 'queued'" => "",
            ["admin::only_a_queued_job_is_cancelled"];
    }
    "shared/ledger/src/admin.rs", "const LOCK_QUEUED_OF_TARGET" => {
        "merge: cancels claimed jobs": "\n    AND j.status = 'queued'" => "",
            ["admin::a_merge_cancels_the_queued_jobs_of_its_secondary_and_no_others"];
        "merge: cancels jobs of all targets": "\n    AND j.target_id = $3" => "\n    AND $3::uuid IS NOT NULL",
            ["admin::a_merge_cancels_the_queued_jobs_of_its_secondary_and_no_others"];
    }
    "shared/ledger/src/admin.rs", "const RETRY_NOW" => {
        "retry: a claimed job": "\n    AND status = 'queued'" => "",
            ["admin::retry_makes_a_queued_job_due_and_brings_a_dead_one_back_and_refuses_others"];
        "retry: the mark stays": "hinted_until = NULL" => "hinted_until = hinted_until",
            ["admin::retry_makes_a_queued_job_due_and_brings_a_dead_one_back_and_refuses_others"];
    }
    "shared/ledger/src/admin.rs", "const REQUEUE:" => {
        "requeue: although a job is pending": "\n    ON CONFLICT (kind, target_type, target_id) DO NOTHING" => "",
            ["admin::a_requeue_is_refused_while_the_target_has_a_pending_job"];
        "requeue: the attempt begins anew": "d.attempt, 0, coalesce(k.max_failures, d.max_failures)" => "0, 0, coalesce(k.max_failures, d.max_failures)",
            ["fence::a_requeue_goes_on_with_the_fence_of_before"];
        "requeue: takes no lock": "\n    FOR UPDATE OF d" => "",
            ["admin::a_requeue_holds_its_dead_letter_while_it_waits_for_the_target"];
    }
    "shared/ledger/src/admin.rs", "const END_LEASES" => {
        "a disabled module: everybody's leases end": "\n    AND j.locked_by_module_id = $1" => "\n    AND $1::uuid IS NOT NULL",
            ["external::disabling_a_module_ends_its_leases_uncharged_and_nobody_elses"];
    }
    "shared/ledger/src/read.rs", "pub async fn job_replay(" => {
        "replay: of any token": "(Some(token), Some(digest)) if token == report.token" => "(Some(_), Some(digest))",
            ["settle::a_repeated_report_is_recognised_and_one_with_another_body_is_refused"];
        "replay: of any body": "if digest == report.digest" => "if digest.len() == report.digest.len()",
            ["settle::a_repeated_report_is_recognised_and_one_with_another_body_is_refused"];
    }
    "shared/ledger/src/kind_rows.rs", "const MOVE_QUEUED" => {
        "route: claimed jobs move at once": "\n    AND status = 'queued'" => "",
            ["admin::a_change_of_route_moves_the_queued_jobs_and_the_claimed_ones_when_they_return"];
        "route: the mark stays": "hinted_until = NULL" => "hinted_until = hinted_until",
            ["admin::a_change_of_route_moves_the_queued_jobs_and_the_claimed_ones_when_they_return"];
    }
    "shared/ledger/src/retention.rs", "const PURGE" => {
        "purge: whatever ended": "\n        AND o.finished_at < $2" => "\n        AND $2::timestamptz IS NOT NULL",
            ["read::a_job_that_was_made_long_ago_and_ended_now_is_kept"];
    }
}
