"""The real template with the real zips, from nothing to its removal. The tests run in order, on one stack.

What the emulator cannot do as AWS does is listed in docs/deploy.md, and tested on the rendered template.
"""

import os
import shutil
import signal

import pytest
import yaml

from machines import eventually


@pytest.fixture(scope="module")
def connector(stack):
    return stack.connector("acceptance-feed")


def test_the_migrations_ran_as_a_custom_resource_before_the_functions_were_made(stack):
    assert stack.resource("Migration")["PhysicalResourceId"] == "callboard-schema"
    applied = [row[0] for row in stack.database.rows("SELECT name FROM schema_migrations ORDER BY version")]
    assert applied and applied[0] == "0001_create_roles.sql"
    owners = stack.database.rows("SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'")
    assert owners == [["callboard_owner"]]
    # Its answer reached every function, as CloudFormation hands attributes on.
    hashes = {stack.live(f)["Environment"]["Variables"]["CONFIGURATION_HASH"] for f in ("Api", "Dispatch", "Worker")}
    assert len(hashes) == 1 and len(hashes.pop()) == 64


def test_functions_are_connected_with_tls_by_the_bundle_s_root_and_not_as_owner(stack):
    status, answer = stack.call("GET", "/readyz")
    assert status == 200, answer
    with stack.database.connect("postgres", stack.database.superuser) as superuser:
        sessions = superuser.run(
            "SELECT DISTINCT usename::text, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE application_name = 'callboard'"
        )
    assert sessions == [["callboard_app", True]]


def test_a_discovery_is_settled_through_the_queues_and_is_searched_and_read(stack, connector):
    url = stack.site.posting("/jobs/1", "Doctoral student in glacier hydrology")
    found = stack.settled(connector, stack.hand_in(connector, url))
    assert found["status"] == "extracted", found

    status, page = stack.call("GET", "/postings?q=glacier%20hydrology")
    assert status == 200 and len(page["items"]) == 1, page
    posting = page["items"][0]
    assert (posting["organization_name"], posting["country"]) == ("Norrsken University", "SE")
    status, detail = stack.call("GET", f"/postings/{posting['id']}")
    assert status == 200 and detail["provenance"]["title"]["via"] == "json-ld", detail
    assert stack.is_empty("JobsQueue") and stack.is_empty("WakeQueue")


def test_a_message_that_is_no_hint_is_dropped_and_told(stack):
    stack.queues.send_message(QueueUrl=stack.outputs["JobsQueueUrl"], MessageBody="no hint")
    eventually("the message is gone", lambda: stack.is_empty("JobsQueue"))
    eventually("the worker tells of it", lambda: "callboard.messages.malformed" in stack.metrics("Worker"))
    assert stack.is_empty("DeadLetterQueue")


def test_a_poison_message_ends_in_the_dead_letter_queue_and_the_sweep_drains_it(stack, connector):
    # A hint that cannot be recorded, however often it comes: the worker is not let into its database.
    jobs_queue = stack.outputs["JobsQueueUrl"]
    stack.queues.set_queue_attributes(QueueUrl=jobs_queue, Attributes={"VisibilityTimeout": "1"})
    url = stack.site.posting("/jobs/poison", "Postdoctoral fellow in permafrost chemistry")
    gate = stack.site.hold_once("/jobs/poison")
    discovery = stack.hand_in(connector, url)
    eventually("the worker asks for the page", lambda: "/jobs/poison" in stack.site.asked)
    stack.database.set_sign_in(False)
    try:
        gate.set()
        (job,) = stack.database.rows("SELECT id::text FROM jobs")
        stack.queues.send_message(QueueUrl=jobs_queue, MessageBody=f'{{"job_id":"{job[0]}","attempt":1}}')
        eventually("a message is dead", lambda: stack.count("DeadLetterQueue", "ApproximateNumberOfMessages") > 0)
        assert "callboard.messages.returned" in stack.metrics("Worker")
    finally:
        stack.database.set_sign_in(True)
        stack.queues.set_queue_attributes(QueueUrl=jobs_queue, Attributes={"VisibilityTimeout": "390"})
    stack.database.rows("UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE lease_expires_at IS NOT NULL")
    stack.sweep()
    eventually("the dead-letter queue is drained", lambda: stack.is_empty("DeadLetterQueue"))
    assert "callboard.dead_letters" in stack.metrics("Dispatch")
    assert stack.settled(connector, discovery)["status"] == "extracted"


def test_a_throttled_function_recovers(stack, connector):
    worker = stack.outputs["WorkerFunction"]
    url = stack.site.posting("/jobs/throttled", "Research engineer for tide gauges")
    # The emulator throttles the function itself, not its versions: for this test the queue feeds the function itself.
    (mapping,) = stack.lambdas.list_event_source_mappings(FunctionName=f"{worker}:live")["EventSourceMappings"]
    stack.lambdas.put_function_concurrency(FunctionName=worker, ReservedConcurrentExecutions=0)
    stack.lambdas.update_event_source_mapping(UUID=mapping["UUID"], FunctionName=worker)
    try:
        with pytest.raises(stack.lambdas.exceptions.TooManyRequestsException):
            stack.lambdas.invoke(FunctionName=worker, Payload=b'{"Records":[]}')
        discovery = stack.hand_in(connector, url)
        eventually("the hint waits", lambda: not stack.is_empty("JobsQueue"))
        assert stack.discovery(connector, discovery)["status"] == "received"
        assert "/jobs/throttled" not in stack.site.asked
        stack.lambdas.delete_function_concurrency(FunctionName=worker)
        assert stack.settled(connector, discovery)["status"] == "extracted"
    finally:
        stack.lambdas.delete_function_concurrency(FunctionName=worker)
        stack.lambdas.update_event_source_mapping(UUID=mapping["UUID"], FunctionName=f"{worker}:live")


@pytest.fixture(scope="module")
def second(built, tmp_path_factory):
    """Another version: Migrate's and Api's code differ by a byte, the worker's time-out and memory by a number."""
    directory = tmp_path_factory.mktemp("second") / "build"
    shutil.copytree(built.parent, directory)
    for function in ("Api", "Migrate"):
        (directory / function / "RELEASE").write_text("2\n")
    template = directory / built.name
    document = yaml.safe_load(template.read_text())
    document["Resources"]["Worker"]["Properties"] |= {"Timeout": 20, "MemorySize": 1024}
    template.write_text(yaml.safe_dump(document, sort_keys=False))
    return template


FUNCTIONS = ("Api", "Dispatch", "Worker")


def migrations(stack):
    """How often the migrations ran to their end."""
    return sum(line.get("message") == "schema is up to date" for line in stack.log_lines("Migrate"))


def test_an_update_publishes_versions_and_migrates_again_and_the_old_ones_stay(stack, connector, second):
    before = {name: (stack.alias(name), stack.live(name)) for name in FUNCTIONS}
    runs = migrations(stack)
    stack.deploy(second, LogLevel="info,h2=warn")
    for name in FUNCTIONS:
        version, configuration = before[name]
        after = stack.live(name)
        assert stack.alias(name) != version, name
        # By its environment alone, that is: a parameter was edited, nothing else of Dispatch.
        assert after["Environment"]["Variables"]["RUST_LOG"] == "info,h2=warn", name
        assert (after["CodeSha256"] != configuration["CodeSha256"]) == (name == "Api"), name
        kept = stack.lambdas.get_function_configuration(FunctionName=stack.outputs[f"{name}Function"], Qualifier=version)
        assert kept["CodeSha256"] == configuration["CodeSha256"], name
    assert (stack.live("Worker")["Timeout"], stack.live("Worker")["MemorySize"]) == (20, 1024)
    again = migrations(stack)
    assert again == runs + 1
    url = stack.site.posting("/jobs/2", "Technician for a research icebreaker")
    assert stack.settled(connector, stack.hand_in(connector, url))["status"] == "extracted"


def test_a_function_that_timed_out_recovers(stack, connector):
    # The worker's process is stopped in the middle of its page, so that only the platform can end the invocation.
    url = stack.site.posting("/jobs/slow", "Lecturer in seismology of volcanoes")
    gate = stack.site.hold_once("/jobs/slow")
    discovery = stack.hand_in(connector, url)
    eventually("the worker asks for the page", lambda: "/jobs/slow" in stack.site.asked)
    stopped = stack.cloud.processes(stack.outputs["WorkerFunction"])
    assert stopped
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    try:
        def ended():
            for process in stopped:
                # A stopped process takes no SIGTERM; what the platform's SIGKILL ends is gone.
                if not os.path.exists(f"/proc/{process}"):
                    return True
            return any("Task timed out" in event["message"] for event in stack.logs.filter_log_events(
                logGroupName="/callboard/callboard/worker")["events"])

        eventually("the platform ends the invocation", ended, 60)
    finally:
        gate.set()
        for process in stopped:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
    stack.sweep()
    assert stack.settled(connector, discovery)["status"] == "extracted"
    (attempts,) = stack.database.rows("SELECT attempt FROM job_archive WHERE target_id = CAST(:id AS uuid)", id=discovery)
    assert attempts == [2]


def test_a_deployment_back_to_the_first_version_serves_again(stack, connector, built):
    stack.deploy(built, LogLevel="info")
    assert stack.live("Worker")["Timeout"] == 60
    assert stack.live("Api")["Environment"]["Variables"]["RUST_LOG"] == "info"
    url = stack.site.posting("/jobs/3", "Curator of a lichen herbarium")
    assert stack.settled(connector, stack.hand_in(connector, url))["status"] == "extracted"


def test_an_alias_is_pointed_back_by_hand(stack):
    function = stack.outputs["ApiFunction"]
    current = stack.alias("Api")
    older = [v["Version"] for v in stack.lambdas.list_versions_by_function(FunctionName=function)["Versions"]
             if v["Version"] not in ("$LATEST", current)]
    assert older
    stack.lambdas.update_alias(FunctionName=function, Name="live", FunctionVersion=older[-1])
    assert stack.call("GET", "/healthz")[0] == 200
    stack.lambdas.update_alias(FunctionName=function, Name="live", FunctionVersion=current)


def test_removing_the_stack_keeps_the_data(stack):
    before = stack.database.rows("SELECT count(*) FROM postings")
    assert before[0][0] >= 5
    stack.formation.delete_stack(StackName="callboard")

    def gone():
        try:
            status = stack.formation.describe_stacks(StackName="callboard")["Stacks"][0]["StackStatus"]
        except stack.formation.exceptions.ClientError:
            return True
        assert status != "DELETE_FAILED", stack.events()
        return status == "DELETE_COMPLETE"

    eventually("the stack is gone", gone)
    assert stack.database.rows("SELECT count(*) FROM postings") == before
