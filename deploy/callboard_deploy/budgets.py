"""The numbers of the template that must fit one another (design: "The functions").

`broken` reads an evaluated template and says, in words, what does not fit; nothing is what a deployment wants. The limits that
live in code, not in the template, are read from the code.
"""

import re

from . import REPOSITORY
from .template import of_type

FUNCTION = "AWS::Lambda::Function"
MAPPING = "AWS::Lambda::EventSourceMapping"
QUEUE = "AWS::SQS::Queue"
ALARM = "AWS::CloudWatch::Alarm"

# The proxy may use nine tenths (MaxConnectionsPercent); without one, the rest is for the migrations and for people.
SHARE_OF_CONNECTIONS = 0.9
RECEIVES_MIN = 5
VISIBILITY_TIMEOUTS = 6
# CloudWatch: EvaluationPeriods x Period is a day at most.
ALARM_SPAN_MAX_S = 86_400
# The first step of each kind of deployment: what an alarm has to see something in.
BAKE_S = {
    "Canary10Percent5Minutes": 300,
    "Canary10Percent15Minutes": 900,
    "Canary10Percent30Minutes": 1_800,
    "Linear10PercentEvery1Minute": 600,
}


def rust_seconds(path, constant):
    """A `Duration` constant of the code, in seconds."""
    text = (REPOSITORY / path).read_text()
    found = re.search(rf"const {constant}: Duration = Duration::from_(secs|millis)\(([\d_]+)\)", text)
    if not found:
        raise LookupError(f"{path} has no constant {constant}")
    return int(found[2].replace("_", "")) / (1_000 if found[1] == "millis" else 1)


def environments(resources):
    """How many environments of each function may run at once."""
    counts = {}
    for name, function in of_type(resources, FUNCTION).items():
        fed = [m for m in of_type(resources, MAPPING).values() if name in m["FunctionName"]]
        schedules = [
            s
            for s in of_type(resources, "AWS::Scheduler::Schedule").values()
            if name in s["Target"]["Arn"]
        ]
        by_events = sum(int(m["ScalingConfig"]["MaximumConcurrency"]) for m in fed) + len(schedules)
        counts[name] = int(function.get("ReservedConcurrentExecutions", 0)) or by_events
    return counts


def connections(resources):
    """Connections that the functions may hold at once, by function; Migrate holds one, past any proxy."""
    running = environments(resources)
    variables = {name: f["Environment"]["Variables"] for name, f in of_type(resources, FUNCTION).items()}
    return {name: running[name] * int(v.get("DATABASE_POOL_SIZE", 1)) for name, v in variables.items()}


def broken(resources, database_connections):
    """What does not fit, a sentence each. `database_connections` is what the database's size takes."""
    functions = of_type(resources, FUNCTION)
    queues = of_type(resources, QUEUE)
    wrong = []

    def need(holds, sentence):
        if not holds:
            wrong.append(sentence)

    for mapping in of_type(resources, MAPPING).values():
        name = next(name for name in functions if name in mapping["FunctionName"])
        queue_name = next(name for name in queues if mapping["EventSourceArn"] == f"<{name}.Arn>")
        queue, timeout = queues[queue_name], functions[name]["Timeout"]
        window = int(mapping.get("MaximumBatchingWindowInSeconds", 0))
        need(
            queue["VisibilityTimeout"] >= VISIBILITY_TIMEOUTS * timeout + window,
            f"{queue_name} hides a message for {queue['VisibilityTimeout']} s, {name} needs 6 x {timeout} s + {window} s",
        )
        need(
            mapping.get("FunctionResponseTypes") == ["ReportBatchItemFailures"],
            f"{name} does not answer which messages of {queue_name} failed",
        )
        concurrency = int(mapping["ScalingConfig"]["MaximumConcurrency"])
        need(2 <= concurrency <= 1_000, f"{name}: an event source mapping takes 2 to 1,000 at once, not {concurrency}")
        redrive = queue.get("RedrivePolicy", {})
        need(
            redrive.get("maxReceiveCount", 0) >= RECEIVES_MIN,
            f"{queue_name} gives a message {redrive.get('maxReceiveCount', 0)} receives, {RECEIVES_MIN} are needed",
        )
        dead = next((q for n, q in queues.items() if redrive.get("deadLetterTargetArn") == f"<{n}.Arn>"), None)
        need(
            dead is not None and dead["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"],
            f"{queue_name}: a message keeps its age in the dead-letter queue, which must keep it for longer",
        )

    worker = functions["Worker"]["Timeout"]
    margin = rust_seconds("functions/worker/src/batch.rs", "LEASE_MARGIN")
    lease_min = rust_seconds("functions/worker/src/batch.rs", "LEASE_MIN")
    lease = min(worker - margin, rust_seconds("shared/ledger/src/claim.rs", "INTERNAL_LEASE_MAX"))
    need(lease <= worker, f"a lease of {lease} s is longer than the worker's {worker} s")
    need(lease > lease_min, f"the worker's {worker} s leave a lease of {lease} s, at least {lease_min} s are needed")
    need(lease < queues["JobsQueue"]["VisibilityTimeout"], "a hint comes again while its lease is held")

    held = connections(resources)
    total, limit = sum(held.values()), int(SHARE_OF_CONNECTIONS * database_connections)
    need(total <= limit, f"the functions may hold {total} connections ({held}), {limit} of {database_connections} are theirs")

    integration = resources["HttpIntegration"]["Properties"]["TimeoutInMillis"]
    need(
        functions["Api"]["Timeout"] * 1_000 < integration <= 30_000,
        f"the integration's {integration} ms do not outlast the API's {functions['Api']['Timeout']} s",
    )
    return wrong + broken_alarms(resources)


def broken_alarms(resources):
    """As `broken`, for the alarms and what the deployments make of them."""
    wrong = []
    alarms = of_type(resources, ALARM)
    for name, alarm in alarms.items():
        period, count, points = alarm["Period"], alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]
        if period % 60:
            wrong.append(f"{name}: a period of {period} s; the metrics of AWS come by the minute")
        if period * count > ALARM_SPAN_MAX_S:
            wrong.append(f"{name} looks at {period * count} s, CloudWatch at a day at most")
        if points > count:
            wrong.append(f"{name} wants {points} of {count} periods")
        if alarm.get("TreatMissingData") not in ("breaching", "notBreaching", "missing", "ignore"):
            wrong.append(f"{name} does not say what missing data mean")
    for name, group in of_type(resources, "AWS::CodeDeploy::DeploymentGroup").items():
        kind = group["DeploymentConfigName"].removeprefix("CodeDeployDefault.Lambda")
        watched = [entry["Name"].strip("<>") for entry in group["AlarmConfiguration"]["Alarms"]]
        if not watched:
            wrong.append(f"{name} watches no alarm")
        for alarm in watched:
            needs = alarms[alarm]["Period"] * alarms[alarm]["DatapointsToAlarm"]
            if needs > BAKE_S[kind]:
                wrong.append(f"{alarm} needs {needs} s, and {kind} moves on after {BAKE_S[kind]} s")
    return wrong
