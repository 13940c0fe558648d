import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machines import REPOSITORY, Cloud, Database, Issuer, Site  # noqa: E402
from stack import Stack  # noqa: E402

# What `sam build` made, or a directory of the same shape.
BUILT = Path(os.environ.get("CALLBOARD_BUILT", REPOSITORY / ".aws-sam/build"))


@pytest.fixture(scope="session")
def built():
    template = BUILT / "template.yaml"
    assert template.is_file(), f"{template} is missing: run sam build first"
    # The emulator has no CodeDeploy, and runs SAM's translator without the parameters that are given: only a default reaches it.
    document = yaml.safe_load(template.read_text())
    document["Parameters"]["Deployment"]["Default"] = "AllAtOnce"
    copy = BUILT / "acceptance.yaml"
    copy.write_text(yaml.safe_dump(document, sort_keys=False))
    return copy


@pytest.fixture(scope="session")
def stack(built):
    # Not pytest's own directory: the database's user must be able to reach it.
    directory = Path(tempfile.mkdtemp(prefix="callboard-acceptance-"))
    directory.chmod(0o755)
    started = []
    try:
        database = Database(directory)
        started.append(database)
        site, issuer = Site(), Issuer()
        cloud = Cloud(directory, {"CALLBOARD_SITE": site.authority})
        started.append(cloud)
        yield Stack(cloud, database, site, issuer, built)
        if os.environ.get("CALLBOARD_KEEP"):
            print(f"the emulator's log is {cloud.log}")
    finally:
        for machine in reversed(started):
            machine.stop()
        if not os.environ.get("CALLBOARD_KEEP"):
            shutil.rmtree(directory, ignore_errors=True)
