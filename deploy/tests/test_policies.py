"""Least privilege: every statement of every role and resource policy, over all combinations of the conditions."""

import re

from callboard_deploy.template import of_type

# Where no resource can be named, and why.
UNNAMED = {
    ("AttachToVpc", "Attach"): "Lambda refuses a function whose role may not do this on all resources",
    ("DeploymentRole", "ReadRevisions"): "the bucket is AWS's own; the key's prefix is named",
}


def statements(resources):
    """Every statement that grants something, with the resource that holds it."""
    for logical_id, resource in resources.items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        if "PolicyDocument" in properties:
            documents.append(properties["PolicyDocument"])
        for document in documents:
            listed = document["Statement"]
            for statement in listed if isinstance(listed, list) else [listed]:
                yield logical_id, statement


def as_list(value):
    return value if isinstance(value, list) else [value]


def is_named(arn):
    """A resource, a version or alias of a named function, or the streams of a named group."""
    if re.fullmatch(r"<[A-Za-z]+(\.Arn)?>(:\*)?", arn):
        return True
    return arn.startswith("arn:") and "*" not in arn


def test_no_statement_has_a_wildcard_where_a_resource_can_be_named(all_stacks):
    walked, unnamed = set(), set()
    for parameters, resources in all_stacks:
        for holder, statement in statements(resources):
            if statement["Effect"] != "Allow":
                continue
            walked.add(holder)
            assert "NotAction" not in statement and "NotResource" not in statement, holder
            for action in as_list(statement["Action"]):
                assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action), (holder, action)
            if all(is_named(arn) for arn in as_list(statement["Resource"])):
                continue
            key = (holder, statement.get("Sid"))
            assert key in UNNAMED, (key, statement["Resource"], parameters)
            unnamed.add(key)
    assert unnamed == set(UNNAMED), "an exception that is no longer needed"
    assert {"ApiRole", "DispatchRole", "WorkerRole", "MigrateRole", "DispatchSweepRole", "DatabaseProxyRole"} <= walked


def test_every_role_is_the_template_s_own_and_none_takes_a_policy_of_aws_with_wildcards(all_stacks):
    for _, resources in all_stacks:
        for name, role in of_type(resources, "AWS::IAM::Role").items():
            assert set(role.get("ManagedPolicyArns", [])) <= {"<AttachToVpc>"}, name
        for name, function in of_type(resources, "AWS::Lambda::Function").items():
            assert function["Role"] == f"<{name}Role.Arn>"


def test_each_role_is_assumed_by_one_service(all_stacks):
    for _, resources in all_stacks:
        for name, role in of_type(resources, "AWS::IAM::Role").items():
            (statement,) = as_list(role["AssumeRolePolicyDocument"]["Statement"])
            service = statement["Principal"]["Service"]
            assert len(as_list(service)) == 1 and set(statement["Principal"]) == {"Service"}, name


GRANTED = {
    "ApiRole": {"sqs:SendMessage <WakeQueue.Arn>"},
    "DispatchRole": {
        *(f"sqs:{a} <WakeQueue.Arn>" for a in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
        *(f"sqs:{a} <JobsQueue.Arn>" for a in ("SendMessage", "GetQueueAttributes")),
        *(f"sqs:{a} <DeadLetterQueue.Arn>" for a in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
    },
    "WorkerRole": {
        *(f"sqs:{a} <JobsQueue.Arn>" for a in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
        "sqs:SendMessage <WakeQueue.Arn>",
    },
    "MigrateRole": set(),
}


def test_each_function_may_do_with_the_queues_what_it_does_and_nothing_else(stacks, usual):
    granted = {role: set() for role in GRANTED}
    for holder, statement in statements(stacks.evaluate(usual)):
        for action in as_list(statement["Action"]):
            if holder in granted and action.startswith("sqs:"):
                granted[holder].add(f"{action} {statement['Resource']}")
    assert granted == GRANTED


def test_functions_sign_in_as_their_own_role_and_only_migrate_as_the_owner(stacks, usual):
    account = "arn:aws:rds-db:eu-central-1:123456789012:dbuser"
    proxied = {h: s["Resource"] for h, s in statements(stacks.evaluate(usual)) if s["Action"] == "rds-db:connect"}
    through = f"{account}:prx-0123456789abcdef0/callboard_app"
    assert proxied == {
        "ApiRole": through,
        "DispatchRole": through,
        "WorkerRole": through,
        "MigrateRole": f"{account}:db-ABC/callboard_owner",
        "DatabaseProxyRole": f"{account}:db-ABC/callboard_app",
    }
    without_iam = stacks.evaluate({"DatabaseHost": "h", "DatabaseIamAuth": "false"})
    assert not [h for h, s in statements(without_iam) if s["Action"] == "rds-db:connect"]


def test_in_a_vpc_the_functions_own_code_may_not_touch_its_network(stacks, usual):
    denied = [s for _, s in statements(stacks.evaluate(usual)) if s["Effect"] == "Deny"]
    assert [s["Action"] for s in denied] == ["ec2:*"]
    condition = denied[0]["Condition"]["ArnLike"]["lambda:SourceFunctionArn"]
    assert condition == "arn:aws:lambda:eu-central-1:123456789012:function:callboard-*"


def test_who_invokes_a_function_is_named(all_stacks):
    for _, resources in all_stacks:
        for name, permission in of_type(resources, "AWS::Lambda::Permission").items():
            assert permission["Principal"] == "apigateway.amazonaws.com", name
            assert permission["SourceArn"] == "arn:aws:execute-api:eu-central-1:123456789012:<HttpApi>/*", name
