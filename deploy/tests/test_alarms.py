"""Every alarm has its page, and looks at something that exists."""

import re

from callboard_deploy import REPOSITORY
from callboard_deploy.template import of_type

RUNBOOKS = REPOSITORY / "observability" / "runbooks"


def alarms(stacks, usual):
    return of_type(stacks.evaluate(usual), "AWS::CloudWatch::Alarm")


def test_every_alarm_is_named_as_a_runbook_that_says_what_to_do(stacks, usual):
    for logical_id, alarm in alarms(stacks, usual).items():
        name = alarm["AlarmName"].removeprefix("callboard-")
        page = RUNBOOKS / f"{name}.md"
        assert page.is_file(), f"{logical_id}: {page} is missing"
        assert f"observability/runbooks/{name}.md" in alarm["AlarmDescription"], logical_id
        text = page.read_text()
        for part in ("Meaning.", "Impact.", "Diagnosis.", "Mitigation."):
            assert f"**{part}**" in text, (page.name, part)


def test_every_dimension_is_a_resource_of_the_stack_or_the_database(stacks, usual):
    resources = stacks.evaluate(usual)
    for logical_id, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        for dimension in alarm["Dimensions"]:
            named = re.match(r"<([A-Za-z]+)", dimension["Value"])
            is_known = named and named[1] in resources or dimension["Value"] == usual["DatabaseInstance"]
            assert is_known, (logical_id, dimension)


def test_alarms_speak_to_the_topic_and_to_nobody_without_one(stacks, usual):
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    for logical_id, alarm in alarms(stacks, usual).items():
        assert alarm["AlarmActions"] == [], logical_id
    for logical_id, alarm in alarms(stacks, {**usual, "AlarmTopicArn": topic}).items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [topic], logical_id


def test_the_database_s_alarms_need_an_instance(stacks, usual):
    watched = {name for name in alarms(stacks, usual) if name.startswith("Database")}
    assert len(watched) == 3
    without = alarms(stacks, {**usual, "DatabaseHost": "h", "DatabaseInstance": ""})
    assert not any(name.startswith("Database") for name in without)
