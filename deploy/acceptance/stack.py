"""One deployed stack: deployed by the SAM command, driven over HTTP and SQS as its users do."""

import json
import subprocess
import urllib.error
import urllib.request
import uuid

from machines import eventually

NAME = "callboard"


class Stack:
    def __init__(self, cloud, database, site, issuer, template):
        self.cloud, self.database, self.site, self.issuer = cloud, database, site, issuer
        self.lambdas, self.queues = cloud.client("lambda"), cloud.client("sqs")
        self.formation, self.logs = cloud.client("cloudformation"), cloud.client("logs")
        cloud.client("s3").create_bucket(
            Bucket="artefacts", CreateBucketConfiguration={"LocationConstraint": cloud.session.region_name}
        )
        self.parameters = {
            "DatabaseHost": "localhost",
            "DatabaseDirectHost": "localhost",
            "DatabasePort": database.port,
            # Tokens are signed for each connection; this server does not look at them.
            "DatabaseIamAuth": "true",
            "DatabaseResourceId": "db-ACCEPTANCE",
            "DatabaseTls": "require",
            "DatabaseCaBundle": database.ca_bundle,
            "OidcIssuer": issuer.url,
            "ContactUrl": "https://example.org/contact",
        }
        self.deploy(template)

    def deploy(self, template, **changes):
        """`sam deploy` of a built template: uploads its zips, and makes and executes a change set."""
        self.parameters |= changes
        given = [f"ParameterKey={key},ParameterValue={value}" for key, value in self.parameters.items()]
        ended = subprocess.run(
            ["sam", "deploy", "--template-file", str(template), "--stack-name", NAME, "--s3-bucket", "artefacts",
             "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--no-confirm-changeset",
             "--region", self.cloud.session.region_name, "--parameter-overrides", *given],
            env=self.cloud.environment, capture_output=True, text=True, cwd=template.parent, timeout=170,
        )
        assert ended.returncode == 0, f"{ended.stdout[-3000:]}\n{ended.stderr[-2000:]}\n{self.events()}"
        outputs = self.formation.describe_stacks(StackName=NAME)["Stacks"][0]["Outputs"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in outputs}

    def events(self):
        try:
            events = self.formation.describe_stack_events(StackName=NAME)["StackEvents"]
        except self.formation.exceptions.ClientError:
            return "no events"
        return "\n".join(
            f"{e['LogicalResourceId']} {e['ResourceStatus']} {e.get('ResourceStatusReason', '')}" for e in events[:60]
        )

    def resource(self, logical_id):
        detail = self.formation.describe_stack_resource(StackName=NAME, LogicalResourceId=logical_id)
        return detail["StackResourceDetail"]

    # --- HTTP -----------------------------------------------------------------------------------------------------

    def call(self, method, path, body=None, **headers):
        """The status and the answer's document, through the emulated gateway."""
        api = self.resource("HttpApi")["PhysicalResourceId"]
        request = urllib.request.Request(self.cloud.endpoint + path, method=method)
        request.add_header("host", f"{api}.execute-api.localhost")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        if body is not None:
            request.add_header("content-type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                return error.code, json.loads(text or b"null")
            except ValueError:
                return error.code, text.decode(errors="replace")

    def connector(self, module_id):
        """Makes a trusted connector as an administrator, and gives the headers that it signs in with."""
        bearer = f"Bearer {self.issuer.token('admin')}"
        module = {"module_id": module_id, "name": module_id, "kind": "connector", "intake_mode": "api",
                  "scopes": ["discoveries:write"], "trust_level": "trusted"}
        status, made = self.call("POST", "/admin/modules", module, authorization=bearer, idempotency_key=str(uuid.uuid4()))
        assert status == 201, (status, made)
        status, key = self.call("POST", f"/admin/modules/{module_id}/keys", {"label": "acceptance"},
                                authorization=bearer, idempotency_key=str(uuid.uuid4()))
        assert status == 201, (status, key)
        return {"x_module_id": module_id, "x_api_key": key["key"]}

    def hand_in(self, connector, url):
        """Posts a discovery, and gives its id."""
        now = self.database.rows("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")[0][0]
        body = {"origin_module_id": connector["x_module_id"], "url": url, "discovered_at": now}
        status, answer = self.call("POST", "/discoveries", body, **connector)
        assert status == 202, (status, answer)
        return answer["discovery_id"]

    def discovery(self, connector, discovery_id):
        status, answer = self.call("GET", f"/discoveries/{discovery_id}", **connector)
        assert status == 200, (status, answer)
        return answer

    def settled(self, connector, discovery_id, seconds=60):
        def look():
            found = self.discovery(connector, discovery_id)
            return found["status"] != "received" and found

        return eventually(f"the discovery {discovery_id} is settled", look, seconds)

    # --- Behind the gateway ---------------------------------------------------------------------------------------

    def sweep(self):
        """What the schedule does each minute."""
        answer = self.lambdas.invoke(FunctionName=f"{self.outputs['DispatchFunction']}:live", Payload=b'{"sweep":true}')
        assert "FunctionError" not in answer, answer["Payload"].read()

    def count(self, queue, attribute):
        url = self.outputs[f"{queue}Url"]
        return int(self.queues.get_queue_attributes(QueueUrl=url, AttributeNames=[attribute])["Attributes"][attribute])

    def is_empty(self, queue):
        parts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
        return all(self.count(queue, part) == 0 for part in parts)

    def alias(self, function):
        return self.lambdas.get_alias(FunctionName=self.outputs[f"{function}Function"], Name="live")["FunctionVersion"]

    def live(self, function):
        """The configuration of the version that takes the traffic."""
        return self.lambdas.get_function_configuration(FunctionName=self.outputs[f"{function}Function"], Qualifier="live")

    def log_lines(self, function):
        """The JSON lines of a function's log group."""
        lines = []
        group = f"/callboard/{NAME}/{function.lower()}"
        for event in self.logs.filter_log_events(logGroupName=group)["events"]:
            for line in event["message"].splitlines():
                if line.startswith("{"):
                    lines.append(json.loads(line))
        return lines

    def metrics(self, function):
        """The names of the embedded metrics in a function's log group."""
        return {
            metric["Name"]
            for line in self.log_lines(function)
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", ())
            for metric in directive["Metrics"]
        }
