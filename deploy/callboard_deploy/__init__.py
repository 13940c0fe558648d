"""What stands between the repository and a stack: the template worked out, its budgets, the zips.

`template` renders and evaluates `template.yaml`, `budgets` says what its numbers must fit, `zips` makes and compares what is
uploaded. The commands beside this package (`check`, `zips`) and the tests use them.
"""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
