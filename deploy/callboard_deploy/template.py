"""`template.yaml` as CloudFormation would see it: SAM's translator, then conditions and intrinsics.

The translator leaves conditions and `Fn::If` as they are, so nothing could be said about a function's layers from its output
alone. `evaluate` works them out for given parameters. What only AWS knows, the identity of a resource, stays a token in angle
brackets: `<WakeQueue>` for a `Ref`, `<WakeQueue.Arn>` for a `Fn::GetAtt`. An intrinsic that is not known here is an error.
"""

import copy
import os
import re

import yaml

from . import REPOSITORY

PSEUDO = {
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::StackName": "callboard",
    "AWS::URLSuffix": "amazonaws.com",
}
# An attribute that the template takes apart needs its real shape.
SHAPED = {"DatabaseProxy.DBProxyArn": "arn:aws:rds:eu-central-1:123456789012:db-proxy:prx-0123456789abcdef0"}
# Parameters without a default that say nothing about the shape of the stack.
NEEDED = {
    "DatabaseDirectHost": "db.example.org",
    "OidcIssuer": "https://issuer.example.org",
    "ContactUrl": "https://example.org/contact",
}
NO_VALUE = object()


class TemplateError(Exception):
    """The template holds something that is not understood here, or refers to nothing."""


def source(path=REPOSITORY / "template.yaml"):
    """The template as it is written, each function's code at an address of its own, as `sam package` leaves it."""
    document = yaml.safe_load(path.read_text())
    document["Globals"]["Function"].pop("CodeUri")
    for logical_id, resource in document["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = f"s3://artefacts/{logical_id}-1.zip"
    return document


def render(document, parameters):
    """The translator's output. `parameters` matter to it where SAM resolves them itself (`DeploymentPreference`)."""
    # The translator asks boto3 for the partition, and that for a region.
    os.environ.setdefault("AWS_DEFAULT_REGION", PSEUDO["AWS::Region"])
    from samtranslator.translator.transform import transform

    class NoManagedPolicies:
        def load(self):
            return {}

    values = {**NEEDED, **{name: str(value) for name, value in parameters.items()}}
    return transform(copy.deepcopy(document), values, NoManagedPolicies())


class Evaluator:
    """Conditions, mappings and intrinsics of one template under one set of parameters."""

    def __init__(self, document, parameters):
        self.document = document
        self.parameters = dict(PSEUDO)
        for name, declared in document.get("Parameters", {}).items():
            value = parameters.get(name, declared.get("Default", NEEDED.get(name)))
            if value is None:
                raise TemplateError(f"the parameter {name} has no value")
            if declared["Type"] == "CommaDelimitedList" and isinstance(value, str):
                value = [part for part in value.split(",") if part]
            self.parameters[name] = value
        for name in parameters:
            if name not in document.get("Parameters", {}):
                raise TemplateError(f"there is no parameter {name}")
        self.known = {}

    def condition(self, name):
        if name not in self.known:
            if name not in self.document.get("Conditions", {}):
                raise TemplateError(f"there is no condition {name}")
            self.known[name] = self.claim(self.document["Conditions"][name])
        return self.known[name]

    def claim(self, expression):
        """A condition's expression as a bool."""
        ((name, argument),) = expression.items()
        match name:
            case "Condition":
                return self.condition(argument)
            case "Fn::Equals":
                left, right = (self.value(part) for part in argument)
                return _text(left) == _text(right)
            case "Fn::Not":
                return not self.claim(argument[0])
            case "Fn::And":
                return all(self.claim(part) for part in argument)
            case "Fn::Or":
                return any(self.claim(part) for part in argument)
        raise TemplateError(f"{name} is no condition that is known here")

    def value(self, value):
        """A value with its intrinsics worked out; `NO_VALUE` for `AWS::NoValue`."""
        if isinstance(value, list):
            items = [self.value(item) for item in value]
            return [item for item in items if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self.intrinsic(name, argument)
        members = {key: self.value(member) for key, member in value.items()}
        return {key: member for key, member in members.items() if member is not NO_VALUE}

    def intrinsic(self, name, argument):
        match name:
            case "Ref":
                return self.reference(argument)
            case "Fn::GetAtt":
                path = argument if isinstance(argument, str) else ".".join(argument)
                return self.attribute(*path.split(".", 1))
            case "Fn::If":
                condition, then, otherwise = argument
                return self.value(then if self.condition(condition) else otherwise)
            case "Fn::Join":
                return argument[0].join(_text(part) for part in self.value(argument[1]))
            case "Fn::Sub":
                text, own = (argument, {}) if isinstance(argument, str) else argument
                return self.substitute(text, {key: self.value(member) for key, member in own.items()})
            case "Fn::FindInMap":
                mapping, top, second = (self.value(part) for part in argument)
                try:
                    return self.document["Mappings"][mapping][_text(top)][_text(second)]
                except KeyError as missing:
                    raise TemplateError(f"the mapping {mapping} has no {missing}") from None
            case "Fn::Select":
                index, items = argument
                return self.value(items)[int(index)]
            case "Fn::Split":
                separator, text = argument
                return self.value(text).split(separator)
        raise TemplateError(f"{name} is not known here")

    def reference(self, name):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.parameters:
            return self.parameters[name]
        self.exists(name)
        return f"<{name}>"

    def attribute(self, resource, attribute):
        self.exists(resource)
        return SHAPED.get(f"{resource}.{attribute}", f"<{resource}.{attribute}>")

    def exists(self, name):
        resource = self.document["Resources"].get(name)
        if resource is None:
            raise TemplateError(f"there is no resource {name}")
        if "Condition" in resource and not self.condition(resource["Condition"]):
            raise TemplateError(f"{name} is referred to, and not made: {resource['Condition']} does not hold")

    def substitute(self, text, own):
        def one(match):
            name = match.group(1)
            if name in own:
                return _text(own[name])
            if "." in name:
                return self.attribute(*name.split(".", 1))
            return _text(self.reference(name))

        return re.sub(r"\$\{([^!}][^}]*)\}", one, text)

    def broken_rules(self):
        """The descriptions of the template's rules that these parameters break: CloudFormation refuses them."""
        broken = []
        for rule in self.document.get("Rules", {}).values():
            if "RuleCondition" in rule and not self.claim(rule["RuleCondition"]):
                continue
            for assertion in rule["Assertions"]:
                if not self.claim(assertion["Assert"]):
                    broken.append(assertion["AssertDescription"])
        return broken


def evaluate(rendered, parameters):
    """The resources that are made, by logical id, every property worked out.

    Raises `TemplateError`, also for a reference to a resource that is not made under these parameters.
    """
    evaluator = Evaluator(rendered, parameters)
    resources = {}
    for logical_id, resource in rendered["Resources"].items():
        if "Condition" in resource and not evaluator.condition(resource["Condition"]):
            continue
        resources[logical_id] = {
            **{key: member for key, member in resource.items() if key not in ("Properties", "Condition")},
            "Properties": evaluator.value(resource.get("Properties", {})),
        }
    return resources


def of_type(resources, kind):
    """The properties of every resource of one type, by logical id."""
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


def references(value):
    """The names that a value refers to, resources and parameters alike."""
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    if not isinstance(value, dict):
        return set()
    found = set()
    for key, member in value.items():
        if key == "Ref":
            found.add(member)
        elif key == "Fn::GetAtt":
            found.add(member.split(".")[0] if isinstance(member, str) else member[0])
        elif key == "Fn::Sub":
            text = member if isinstance(member, str) else member[0]
            own = set() if isinstance(member, str) else set(member[1])
            found |= {name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", text)} - own
            found |= set() if isinstance(member, str) else references(member[1])
        else:
            found |= references(member)
    return found - {"AWS::NoValue"}


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
