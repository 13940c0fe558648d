"""Every kind of edit publishes a new version behind the alias, and the migration runs before it.

SAM names a version after a hash of the function's properties, with references as they stand: an edit of a parameter is not in it
(aws/serverless-application-model, issue 3820). Here a parameter's value reaches the version through the migration, which
answers with the hash of its property `Configuration`.
"""

import copy

import pytest

from callboard_deploy import template
from callboard_deploy.template import of_type, references

ALIASED = ("Api", "Dispatch", "Worker")
# Not a part of what a version freezes.
OUTSIDE_A_VERSION = {"ReservedConcurrentExecutions", "Tags", "Role", "LoggingConfig", "VersionDescription"}
EDITS = {
    "code": lambda p: p.update(CodeUri="s3://artefacts/other.zip"),
    "environment": lambda p: p["Environment"]["Variables"].update(DATABASE_POOL_SIZE="3"),
    "a new variable": lambda p: p["Environment"]["Variables"].update(NEW="1"),
    "memory": lambda p: p.update(MemorySize=1024),
    "time-out": lambda p: p.update(Timeout=9),
    "layer": lambda p: p.update(Layers=["arn:aws:lambda:eu-central-1:1:layer:otel:2"]),
}


def version_of(rendered, function):
    """The logical id of the version that the function's alias points at."""
    alias = rendered["Resources"][f"{function}Aliaslive"]["Properties"]
    return alias["FunctionVersion"]["Fn::GetAtt"][0]


@pytest.mark.parametrize("function", ALIASED)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_publishes_a_new_version_of_that_function_alone(stacks, function, edit):
    before = stacks.render({})
    edited = copy.deepcopy(stacks.source)
    EDITS[edit](edited["Resources"][function]["Properties"])
    after = template.render(edited, {"Deployment": "Canary10Percent5Minutes"})
    assert version_of(before, function) != version_of(after, function)
    for other in ALIASED:
        if other != function:
            assert version_of(before, other) == version_of(after, other), other


OTHER_VALUES = {
    "Architecture": "arm64",
    "DatabasePort": 6432,
    "DatabaseTls": "disable",
    "DatabaseIamAuth": "false",
    "DatabaseSize": "db.t4g.large",
    "SubnetIds": "subnet-c",
    "LogRetentionDays": 7,
    "Deployment": "AllAtOnce",
}
STARTS = [
    {"DatabaseHost": "h", "DatabaseResourceId": "db-A", "DatabaseCaBundle": "/a", "OtlpEndpoint": "http://a", "OtlpBackendEndpoint": "https://a"},
    {"DatabaseInstance": "callboard", "DatabaseResourceId": "db-A", "SubnetIds": "subnet-a", "CollectorLayerArn": "arn:a"},
]


@pytest.mark.parametrize("start", STARTS, ids=["direct", "proxy"])
def test_an_edit_of_any_parameter_that_reaches_a_function_changes_the_configuration_s_hash(stacks, start):
    rendered = stacks.render({})
    before = template.evaluate(rendered, start)
    reaching = set()
    for parameter in stacks.source["Parameters"]:
        other = OTHER_VALUES.get(parameter, "edited" if parameter not in ("ApiConcurrency", "WorkerConcurrency") else 3)
        after = template.evaluate(rendered, {**start, parameter: other})
        touched = [name for name in ALIASED if frozen(before, name) != frozen(after, name)]
        if touched:
            reaching.add(parameter)
            assert configuration(before) != configuration(after), (parameter, touched)
    assert {"LogLevel", "OtlpEndpoint", "OidcIssuer", "ContactUrl", "DatabaseUser", "Architecture"} <= reaching


def frozen(resources, function):
    properties = resources[function]["Properties"]
    return {name: value for name, value in properties.items() if name not in OUTSIDE_A_VERSION}


def configuration(resources):
    return resources["Migration"]["Properties"]["Configuration"]


def test_whatever_a_function_s_configuration_refers_to_is_in_the_migration_s(stacks):
    rendered = stacks.render({})
    listed = references(rendered["Resources"]["Migration"]["Properties"]["Configuration"])
    for name in ALIASED:
        properties = rendered["Resources"][name]["Properties"]
        used = set()
        for member, value in properties.items():
            if member not in OUTSIDE_A_VERSION and member != "Code":
                used |= references(value)
        assert used - {"Migration"} <= listed, name


def test_the_configuration_s_hash_is_in_each_function_and_in_its_version(stacks):
    rendered = stacks.render({})
    answer = {"Fn::GetAtt": ["Migration", "Configuration"]}
    for name in ALIASED:
        # In the version, so that it is replaced; in the function, since Lambda publishes nothing where nothing differs.
        version = rendered["Resources"][version_of(rendered, name)]
        assert version["Properties"]["Description"] == answer, name
        variables = rendered["Resources"][name]["Properties"]["Environment"]["Variables"]
        assert variables["CONFIGURATION_HASH"] == answer, name


def test_the_version_before_stays_to_roll_back_to(stacks):
    rendered = stacks.render({})
    for name in ALIASED:
        version = rendered["Resources"][version_of(rendered, name)]
        assert (version["DeletionPolicy"], version["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


def test_the_migration_runs_again_when_the_code_that_holds_the_schema_is_another(stacks):
    before = stacks.render({})["Resources"]["Migration"]["Properties"]["Code"]
    for function in ("Migrate", "Api"):
        edited = copy.deepcopy(stacks.source)
        EDITS["code"](edited["Resources"][function]["Properties"])
        after = template.render(edited, {"Deployment": "AllAtOnce"})["Resources"]["Migration"]["Properties"]["Code"]
        assert (before != after) == (function == "Migrate"), function


def test_every_function_that_takes_traffic_waits_for_the_migration(stacks):
    for deployment in ("Canary10Percent5Minutes", "AllAtOnce"):
        resources = stacks.render({"Deployment": deployment})["Resources"]
        for name in ALIASED:
            assert "Migration" in waits_for(resources, name), name
        assert not waits_for(resources, "Migration") & set(ALIASED)
        assert "Migrate" in waits_for(resources, "Migration")


def waits_for(resources, name):
    """Everything that CloudFormation makes before the resource."""
    found, ahead = set(), [name]
    while ahead:
        resource = resources[ahead.pop()]
        depends = resource.get("DependsOn", [])
        direct = references(resource) | set([depends] if isinstance(depends, str) else depends)
        ahead += [other for other in direct & set(resources) if other not in found]
        found |= direct & set(resources)
    return found


@pytest.mark.parametrize("deployment", ["Canary10Percent5Minutes", "Linear10PercentEvery1Minute", "AllAtOnce"])
def test_traffic_moves_as_the_parameter_says_and_is_rolled_back_by_alarms(stacks, usual, deployment):
    resources = stacks.evaluate({**usual, "Deployment": deployment})
    for name in ALIASED:
        policy = resources[f"{name}Aliaslive"].get("UpdatePolicy", {})
        assert ("CodeDeployLambdaAliasUpdate" in policy) == (deployment != "AllAtOnce"), name
    groups = of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
    for name, group in groups.items():
        assert group["DeploymentConfigName"] == f"CodeDeployDefault.Lambda{deployment}", name
        assert group["ServiceRoleArn"] == "<DeploymentRole.Arn>", name
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"], name
