"""The numbers fit one another, whatever the conditions; and a number that does not fit is seen."""

import copy

import pytest

from callboard_deploy import budgets, template
from conftest import every_choice


def test_every_combination_of_the_conditions_keeps_the_budgets(stacks, all_stacks):
    for parameters, resources in all_stacks:
        assert budgets.broken(resources, stacks.connections(parameters)) == [], parameters


def test_the_combinations_reach_both_sides_of_every_condition(stacks):
    taken = [choice for choice in every_choice() if not stacks.is_refused(choice)]
    seen = {name: set() for name in stacks.source["Conditions"]}
    for choice in taken:
        evaluator = template.Evaluator(stacks.source, choice)
        for name in seen:
            seen[name].add(evaluator.condition(name))
    assert all(sides == {True, False} for sides in seen.values()), seen
    assert len(taken) >= 1_000


def test_every_size_of_database_keeps_the_budgets(stacks, usual):
    for size in stacks.source["Parameters"]["DatabaseSize"]["AllowedValues"]:
        parameters = {**usual, "DatabaseSize": size}
        assert budgets.broken(stacks.evaluate(parameters), stacks.connections(parameters)) == [], size


def test_every_kind_of_deployment_leaves_its_alarms_time_to_see_something(stacks, usual):
    for kind in stacks.source["Parameters"]["Deployment"]["AllowedValues"]:
        resources = stacks.evaluate({**usual, "Deployment": kind})
        assert budgets.broken_alarms(resources) == [], kind
        groups = template.of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
        assert len(groups) == (0 if kind == "AllAtOnce" else 3), kind


def test_the_longest_window_still_fits_the_visibility(stacks, usual):
    longest = stacks.source["Parameters"]["WorkerBatchingWindowSeconds"]["MaxValue"]
    parameters = {**usual, "WorkerBatchingWindowSeconds": longest}
    assert budgets.broken(stacks.evaluate(parameters), 157) == []
    too_long = {**usual, "WorkerBatchingWindowSeconds": longest + 1}
    assert any("JobsQueue hides" in line for line in budgets.broken(stacks.evaluate(too_long), 157))


def test_more_concurrency_than_the_database_takes_is_told(stacks, usual):
    wrong = budgets.broken(stacks.evaluate({**usual, "WorkerConcurrency": 60}), 157)
    assert len(wrong) == 1 and "'Worker': 240" in wrong[0] and "141 of 157" in wrong[0], wrong


SPOILED = [
    (["JobsQueue", "VisibilityTimeout"], 359, "JobsQueue hides"),
    (["WakeQueue", "VisibilityTimeout"], 179, "WakeQueue hides"),
    (["JobsQueue", "RedrivePolicy", "maxReceiveCount"], 4, "4 receives"),
    (["DeadLetterQueue", "MessageRetentionPeriod"], 345_600, "JobsQueue: a message keeps its age"),
    (["Worker", "Timeout"], 8, "leave a lease of 3.0 s"),
    (["Api", "Timeout"], 11, "do not outlast"),
    (["WorkerJobs", "FunctionResponseTypes"], [], "which messages of JobsQueue failed"),
    (["WorkerJobs", "ScalingConfig", "MaximumConcurrency"], 1, "takes 2 to 1,000"),
    (["Api", "Environment", "Variables", "DATABASE_POOL_SIZE"], "6", "may hold"),
    (["ApiErrorsAlarm", "DatapointsToAlarm"], 6, "wants 6 of 5"),
    (["ApiErrorsAlarm", "Period"], 90, "by the minute"),
    (["ApiSlowAlarm", "Period"], 86_400, "a day at most"),
    (["DispatchErrorsAlarm", "Period"], 180, "moves on after 300 s"),
]


@pytest.mark.parametrize(("path", "value", "told"), SPOILED, ids=lambda part: ".".join(part) if isinstance(part, list) else None)
def test_a_number_that_does_not_fit_is_told(stacks, usual, path, value, told):
    resources = copy.deepcopy(stacks.evaluate(usual))
    holder = resources[path[0]]["Properties"]
    for member in path[1:-1]:
        holder = holder[member]
    assert path[-1] in holder
    holder[path[-1]] = value
    wrong = budgets.broken(resources, stacks.connections(usual))
    assert any(told in line for line in wrong), wrong
