"""What running callboard costs: a model. Every price and every amount is an assumption that is named here.

Prices are AWS's public list prices for us-east-1 without free tiers, as its pages gave them when this was written; look them up
before relying on a figure. Run `python deploy/callboard_deploy/costs.py` for the tables of docs/deploy.md.
"""

HOURS = 730
SWEEPS = 60 * 24 * 30

PRICES = {
    "Lambda, a million invocations": 0.20,
    "Lambda x86_64, GB-second": 0.0000166667,
    "HTTP API, a million requests": 1.00,
    "SQS standard, a million requests": 0.40,
    "Scheduler, a million invocations": 1.00,
    "CloudWatch Logs, GB taken in": 0.50,
    "CloudWatch alarm, month": 0.10,
    "NAT gateway, hour": 0.045,
    "NAT gateway, GB": 0.045,
    "data to the internet, GB": 0.09,
    "RDS db.t4g.small, single zone, hour": 0.032,
    "RDS gp3 storage, GB-month": 0.115,
    "RDS Proxy, vCPU-hour": 0.015,
}

# Seconds billed, bytes: round numbers above what the local runner shows, not measured on AWS.
API_WRITE_S, API_READ_S, DISPATCH_S = 0.030, 0.010, 0.030
WORKER_ONE_S, WORKER_TEN_S = 1.0, 1.5  # waiting for the web; ten pages side by side
API_GB, DISPATCH_GB, WORKER_GB = 0.25, 0.25, 0.5
PAGE_BYTES, ANSWER_BYTES = 100_000, 3_000
LOG_BYTES_DISCOVERY, LOG_BYTES_READ = 3_500, 1_000
ALARMS, STORAGE_GB, DATABASE_VCPUS = 14, 20, 2
# Five pollers a queue, each asking every 20 s (Lambda Developer Guide, "Using Lambda with Amazon SQS"), two queues.
IDLE_POLLS = 2 * 5 * 3 * SWEEPS


def lambda_cost(invocations, seconds, gigabytes):
    """Dollars for so many invocations of so many billed seconds."""
    requests = invocations / 1e6 * PRICES["Lambda, a million invocations"]
    return requests + invocations * seconds * gigabytes * PRICES["Lambda x86_64, GB-second"]


def discoveries(batch):
    """Dollars for a million discoveries that come singly (1) or so close together that messages travel in tens (10)."""
    million, groups = 1e6, 1e6 / batch
    worker_s = WORKER_ONE_S if batch == 1 else WORKER_TEN_S
    # Wake: one send each, receive and delete by the group. Jobs: all three by the group.
    sqs = million + 2 * groups + 3 * groups
    return {
        "HTTP API": PRICES["HTTP API, a million requests"],
        "Lambda api": lambda_cost(million, API_WRITE_S, API_GB),
        "Lambda dispatch": lambda_cost(groups, DISPATCH_S, DISPATCH_GB),
        "Lambda worker": lambda_cost(groups, worker_s, WORKER_GB),
        "SQS": sqs / 1e6 * PRICES["SQS standard, a million requests"],
        "logs": million * LOG_BYTES_DISCOVERY / 1e9 * PRICES["CloudWatch Logs, GB taken in"],
        "pages through NAT": million * PAGE_BYTES / 1e9 * PRICES["NAT gateway, GB"],
    }


def reads():
    """Dollars for a million reads of the catalogue."""
    return {
        "HTTP API": PRICES["HTTP API, a million requests"],
        "Lambda api": lambda_cost(1e6, API_READ_S, API_GB),
        "logs": 1e6 * LOG_BYTES_READ / 1e9 * PRICES["CloudWatch Logs, GB taken in"],
        "data to the internet": 1e6 * ANSWER_BYTES / 1e9 * PRICES["data to the internet, GB"],
    }


def idle():
    """Dollars a month with no traffic."""
    return {
        "database": HOURS * PRICES["RDS db.t4g.small, single zone, hour"],
        "storage": STORAGE_GB * PRICES["RDS gp3 storage, GB-month"],
        "proxy": HOURS * DATABASE_VCPUS * PRICES["RDS Proxy, vCPU-hour"],
        "NAT gateway": HOURS * PRICES["NAT gateway, hour"],
        "alarms": ALARMS * PRICES["CloudWatch alarm, month"],
        "sweep": lambda_cost(SWEEPS, DISPATCH_S, DISPATCH_GB) + SWEEPS / 1e6 * PRICES["Scheduler, a million invocations"],
        "empty polls": IDLE_POLLS / 1e6 * PRICES["SQS standard, a million requests"],
    }


def tables():
    """The model as Markdown."""
    columns = [
        ("a million discoveries, singly", discoveries(1)),
        ("a million discoveries, in tens", discoveries(10)),
        ("a million reads", reads()),
        ("a month of nothing", idle()),
    ]
    lines = []
    for title, parts in columns:
        lines.append(f"| {title} | $ |\n|---|---|")
        lines += [f"| {name} | {dollars:.2f} |" for name, dollars in parts.items()]
        lines.append(f"| **together** | **{sum(parts.values()):.2f}** |\n")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
