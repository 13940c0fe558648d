"""What is there only under a condition, over all combinations of the conditions."""

from callboard_deploy import template
from callboard_deploy.template import of_type
from conftest import every_choice

FUNCTIONS = {"Api", "Dispatch", "Worker", "Migrate"}


def functions(resources):
    found = of_type(resources, "AWS::Lambda::Function")
    assert set(found) == FUNCTIONS
    return found


def test_a_function_has_the_layer_and_otel_variables_if_and_only_if_there_is_an_endpoint(all_stacks):
    seen = set()
    for parameters, resources in all_stacks:
        has_endpoint = "OtlpEndpoint" in parameters
        for name, function in functions(resources).items():
            variables = {v for v in function["Environment"]["Variables"] if v.startswith(("OTEL_", "OPENTELEMETRY_", "OTLP_"))}
            layers = function.get("Layers", [])
            if has_endpoint:
                assert layers == [parameters["CollectorLayerArn"]], (name, parameters)
                assert {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"} <= variables, (name, parameters)
                assert "OTLP_BACKEND_ENDPOINT" in variables, (name, parameters)
                assert ("OTLP_BACKEND_AUTHORIZATION" in variables) == ("OtlpBackendSecretArn" in parameters), (name, parameters)
            else:
                assert (layers, variables) == ([], set()), (name, parameters)
        seen.add(has_endpoint)
    assert seen == {True, False}


def test_an_endpoint_without_a_layer_is_refused(stacks, usual):
    evaluator = template.Evaluator(stacks.source, {**usual, "OtlpEndpoint": "http://127.0.0.1:4318"})
    broken = evaluator.broken_rules()
    assert any("CollectorLayerArn" in sentence for sentence in broken)
    assert any("OtlpBackendEndpoint" in sentence for sentence in broken)


def test_what_the_rules_refuse_is_a_proxy_without_its_needs(stacks):
    refused = [choice for choice in every_choice() if stacks.is_refused(choice)]
    assert refused
    for choice in refused:
        assert choice["DatabaseHost"] == "", choice
        assert choice["DatabaseInstance"] == "" or choice["DatabaseIamAuth"] == "false", choice


def test_iam_sign_in_needs_the_resource_it_is_limited_to(stacks, usual):
    evaluator = template.Evaluator(stacks.source, {**usual, "DatabaseResourceId": ""})
    assert evaluator.broken_rules() == ["IAM sign-in is limited to DatabaseResourceId"]


def test_behind_the_proxy_functions_connect_to_it_and_only_migrate_past_it(stacks, usual):
    resources = stacks.evaluate(usual)
    for name, function in functions(resources).items():
        variables = function["Environment"]["Variables"]
        if name == "Migrate":
            assert variables["MIGRATE_DATABASE_URL"] == "postgres://callboard_owner@db.example.org:5432/callboard"
            assert variables["DATABASE_CA_BUNDLE"] == "/var/task/database-ca.pem"
        else:
            assert variables["DATABASE_HOST"] == "<DatabaseProxy.Endpoint>", name
            # The proxy's certificate comes from a public root.
            assert "DATABASE_CA_BUNDLE" not in variables, name
    proxy = resources["DatabaseProxy"]["Properties"]
    assert (proxy["DefaultAuthScheme"], proxy["RequireTLS"]) == ("IAM_AUTH", True)
    assert "Auth" not in proxy


def test_without_the_proxy_every_function_may_need_the_database_s_own_roots(stacks, usual):
    resources = stacks.evaluate({**usual, "DatabaseHost": "db.example.org"})
    assert "DatabaseProxy" not in resources
    for name, function in functions(resources).items():
        assert function["Environment"]["Variables"]["DATABASE_CA_BUNDLE"] == "/var/task/database-ca.pem", name


def test_no_password_is_in_any_environment(all_stacks):
    for parameters, resources in all_stacks:
        for name, function in functions(resources).items():
            for variable, value in function["Environment"]["Variables"].items():
                words = ("PASSWORD", "SECRET", "TOKEN", "PGPASS")
                assert not any(word in variable for word in words), (name, variable)
                # postgres://user@host, never postgres://user:password@host
                assert "@" not in str(value) or ":" not in value.split("://")[1].split("@")[0], (name, variable)


def test_only_migrate_knows_the_owner_of_the_schema(all_stacks):
    for _, resources in all_stacks:
        for name, function in functions(resources).items():
            knows = any("callboard_owner" in str(value) for value in function["Environment"]["Variables"].values())
            assert knows == (name == "Migrate"), name


def test_every_function_logs_to_a_group_with_a_retention(all_stacks):
    for _, resources in all_stacks:
        groups = of_type(resources, "AWS::Logs::LogGroup")
        for name, function in functions(resources).items():
            group = function["LoggingConfig"]["LogGroup"].strip("<>")
            assert int(groups[group]["RetentionInDays"]) > 0, name


def test_the_functions_are_built_for_the_processor_that_is_asked_for(stacks, usual):
    for architecture in ("x86_64", "arm64"):
        resources = stacks.evaluate({**usual, "Architecture": architecture})
        assert all(f["Architectures"] == [architecture] for f in functions(resources).values())


def test_sam_s_own_output_differs_with_no_parameter_but_deployment(stacks, usual):
    # This is what lets the tests evaluate one rendering under many parameters.
    for choice in ({}, usual, {"OtlpEndpoint": "http://x", "CollectorLayerArn": "arn:x", "OtlpBackendEndpoint": "https://y", "LogLevel": "debug"}):
        for deployment in ("Canary10Percent5Minutes", "AllAtOnce"):
            parameters = {**choice, "Deployment": deployment}
            assert template.render(stacks.source, parameters) == stacks.render(parameters)


def test_the_web_acl_stands_at_a_distribution_before_the_api(stacks, usual):
    acl = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/a/b"
    distribution = stacks.evaluate({**usual, "WebAclArn": acl})["Distribution"]["Properties"]["DistributionConfig"]
    assert distribution["WebACLId"] == acl
    assert distribution["Origins"][0]["DomainName"] == "<HttpApi>.execute-api.eu-central-1.amazonaws.com"
    assert "Distribution" not in stacks.evaluate(usual)
