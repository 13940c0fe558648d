import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from callboard_deploy import template  # noqa: E402

COLLECTOR = {
    "OtlpEndpoint": "http://127.0.0.1:4318",
    "CollectorLayerArn": "arn:aws:lambda:eu-central-1:1:layer:otel:1",
    "OtlpBackendEndpoint": "https://otlp.example.org",
}
# Each choice flips the conditions that are named; together they make every combination of the template's conditions that its
# rules let through. What CloudFormation would refuse is left out by the rules themselves, and counted by a test.
CHOICES = [
    [{}, {"SubnetIds": "subnet-a,subnet-b", "SecurityGroupIds": "sg-a"}],
    [
        {"DatabaseHost": "db.example.org"},
        {"DatabaseHost": "db.example.org", "DatabaseInstance": "callboard"},
        {"DatabaseHost": "", "DatabaseInstance": "callboard"},
        {"DatabaseHost": "", "DatabaseInstance": ""},
    ],
    [{"DatabaseIamAuth": "true", "DatabaseResourceId": "db-ABC"}, {"DatabaseIamAuth": "false"}],
    [{}, {"DatabaseCaBundle": "/var/task/database-ca.pem"}],
    [{}, {"ApiConcurrency": 5}],
    [{}, {"WorkerConcurrency": 4}],
    [{}, COLLECTOR, {**COLLECTOR, "OtlpBackendSecretArn": "arn:aws:secretsmanager:eu-central-1:1:secret:otlp-AbCdEf"}],
    [{}, {"WebAclArn": "arn:aws:wafv2:us-east-1:123456789012:global/webacl/a/b"}],
    [{}, {"AlarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:alarms"}],
    [{"Deployment": "Canary10Percent5Minutes"}, {"Deployment": "AllAtOnce"}],
]


def every_choice():
    for parts in itertools.product(*CHOICES):
        yield {name: value for part in parts for name, value in part.items()}


class Stacks:
    """The template, rendered once for each kind of deployment, and evaluated as it is asked for."""

    def __init__(self):
        self.source = template.source()
        self.rendered = {}

    def render(self, parameters):
        deployment = parameters.get("Deployment", self.source["Parameters"]["Deployment"]["Default"])
        if deployment not in self.rendered:
            self.rendered[deployment] = template.render(self.source, {"Deployment": deployment})
        return self.rendered[deployment]

    def is_refused(self, parameters):
        return bool(template.Evaluator(self.source, parameters).broken_rules())

    def evaluate(self, parameters):
        return template.evaluate(self.render(parameters), parameters)

    def connections(self, parameters):
        sizes = self.source["Mappings"]["DatabaseSizes"]
        return sizes[parameters.get("DatabaseSize", self.source["Parameters"]["DatabaseSize"]["Default"])]["Connections"]


@pytest.fixture(scope="session")
def stacks():
    return Stacks()


@pytest.fixture(scope="session")
def all_stacks(stacks):
    """Every combination that CloudFormation takes: its parameters and its resources."""
    return [(choice, stacks.evaluate(choice)) for choice in every_choice() if not stacks.is_refused(choice)]


# A stack as docs/deploy.md makes it.
USUAL = {
    "SubnetIds": "subnet-a,subnet-b",
    "SecurityGroupIds": "sg-a",
    "DatabaseInstance": "callboard",
    "DatabaseResourceId": "db-ABC",
    "DatabaseCaBundle": "/var/task/database-ca.pem",
}


@pytest.fixture(scope="session")
def usual():
    return dict(USUAL)
