"""Which promises of a queue a plain PanDA server cannot keep, and why.

The one list of them: the tests of the contract that are named here are not asked of PanDA, all others are, and
docs/reference/panda.md is drawn from it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """What a plain PanDA server does not have, and the tests of the contract that would ask for it."""

    why: str
    tests: tuple[str, ...]


LOSSES: dict[str, Loss] = {
    "claim id": Loss(
        "asking again gives other jobs; an answer that is lost leaves its jobs `sent` until the server's own limit",
        (
            "test_the_same_claim_id_gives_the_same_grant",
            "test_a_claim_id_is_spent_once_its_attempt_is_reported",
            "test_a_claim_given_back_before_it_arrived_gets_nothing",
        ),
    ),
    "lease": Loss(
        "a pilot that is silent is noticed after hours; until then nobody else gets its jobs, and there is no fence",
        (
            "test_asking_again_renews_the_lease",
            "test_a_claim_id_is_spent_once_its_lease_has_run_out",
            "test_a_lease_that_ran_out_gives_the_job_to_the_next_pilot",
            "test_an_old_attempts_report_is_refused_and_changes_nothing",
            "test_a_late_report_is_accepted_and_the_interruption_forgotten",
            "test_an_interrupted_job_goes_on_at_once_where_it_was",
            "test_leases_that_run_out_use_up_patience",
            "test_renewing_keeps_the_lease_and_shows_progress",
            "test_a_fenced_attempt_is_told_so",
            "test_a_late_heartbeat_takes_the_job_up_again_if_nobody_has_it",
            "test_a_parked_attempt_is_taken_up_again_under_its_number",
            "test_a_parked_attempt_whose_lease_ran_out_is_still_ours_if_nobody_has_the_job",
            "test_what_somebody_else_has_had_is_not_adopted",
        ),
    ),
    "attempts": Loss(
        "the next attempt is another job, which JEDI makes; what is given back counts as a failed attempt",
        (
            "test_a_claim_given_back_is_never_granted_again",
            "test_the_same_report_twice_is_acknowledged_and_counts_once",
            "test_a_report_after_giving_back_is_refused",
            "test_failures_of_the_payload_use_up_attempts",
            "test_a_node_that_failed_costs_an_interruption_and_a_moment",
        ),
    ),
    "turns": Loss(
        "jobs are handed out by priority; who gets how much is settled before, by JEDI and the global shares",
        ("test_owners_take_turns_whatever_their_priorities",),
    ),
    "matching": Loss(
        "no requirements and no cores in a request: memory, disk, time left, devices and resource types count",
        (
            "test_what_does_not_fit_is_passed_over",
            "test_requirements_choose_the_node_and_the_node_chooses_the_job",
        ),
    ),
    "the job as it was written": Loss(
        "a job is PanDA's definition, not ours: environment, owner and destination follow from it",
        ("test_the_first_grant_is_attempt_1_and_carries_the_job", "test_code_travels_with_the_job"),
    ),
    "commands": Loss(
        "`checkpoint` is no word there, and a job that is killed as its payload ends well counts as cancelled; one "
        "that is killed while its outputs are being stored finishes all the same",
        (
            "test_a_checkpoint_is_asked_for_once",
            "test_a_cancelled_job_is_not_given_out_again",
        ),
    ),
    "looks": Loss(
        "only a claim can tell whether there is work",
        (
            "test_registration_tells_the_lease",
            "test_changed_says_whether_asking_again_may_help",
            "test_idle_pilots_do_not_wake_one_another",
        ),
    ),
    "order between jobs": Loss(
        "JEDI releases tasks, not the queue: `after` and holding are not the pilot's to see",
        (
            "test_a_job_waits_for_those_it_comes_after",
            "test_a_job_whose_predecessor_failed_says_so",
            "test_a_predecessor_with_attempts_left_still_counts",
            "test_held_jobs_wait_for_their_release",
        ),
    ),
    "the queue's own state": Loss(
        "it is the site's: an offline queue is not asked at all, a queue under test gives jobs with the label `test`",
        (
            "test_a_queue_that_gives_nothing_still_takes_reports",
            "test_a_queue_under_test_gives_its_owners_jobs_alone",
        ),
    ),
}
