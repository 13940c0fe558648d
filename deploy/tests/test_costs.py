from callboard_deploy import REPOSITORY, costs
from callboard_deploy.template import of_type


def test_the_document_has_the_model_s_tables_and_prices():
    text = (REPOSITORY / "docs/deploy.md").read_text()
    assert costs.tables().strip() in text, "python deploy/callboard_deploy/costs.py prints the tables of docs/deploy.md"


def test_the_model_counts_the_template_s_own_alarms_memory_and_schedule(stacks, usual):
    resources = stacks.evaluate(usual)
    assert costs.ALARMS == len(of_type(resources, "AWS::CloudWatch::Alarm"))
    memory = {name: function["MemorySize"] for name, function in of_type(resources, "AWS::Lambda::Function").items()}
    assert (memory["Api"], memory["Dispatch"], memory["Worker"]) == tuple(
        int(gigabytes * 1024) for gigabytes in (costs.API_GB, costs.DISPATCH_GB, costs.WORKER_GB)
    )
    (schedule,) = of_type(resources, "AWS::Scheduler::Schedule").values()
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
