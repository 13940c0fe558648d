"""What is said before anything is uploaded."""

import os
import re
import subprocess

import pytest

from callboard_deploy import REPOSITORY, zips

GOOD = ["DatabaseHost=db.example.org", "DatabaseResourceId=db-ABC"]


def elf(machine):
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(44)


@pytest.fixture
def repository_check(monkeypatch):
    """`deploy/check` as a module: it has no suffix."""
    import importlib.machinery
    import importlib.util

    loader = importlib.machinery.SourceFileLoader("check", str(REPOSITORY / "deploy/check"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def built(tmp_path):
    for name in zips.FUNCTIONS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "bootstrap").write_bytes(elf(62))
        (tmp_path / name / "bootstrap").chmod(0o755)
    return tmp_path


def given(*more):
    return dict(pair.split("=", 1) for pair in [*GOOD, *more])


def test_a_deployment_that_fits_is_let_through(repository_check, built):
    assert repository_check.wrong_with(given(), built) == []


def test_a_build_for_another_processor_is_told(repository_check, built):
    wrong = repository_check.wrong_with(given("Architecture=arm64"), built)
    assert len(wrong) == 4 and "Api is built for x86_64, the parameter Architecture says arm64" in wrong


def test_more_concurrency_than_connections_and_a_broken_rule_are_told(repository_check, built):
    (wrong,) = repository_check.wrong_with(given("ApiConcurrency=500"), built)
    assert "the functions may hold" in wrong
    (wrong,) = repository_check.wrong_with(given("DatabaseHost="), built)
    assert "DatabaseInstance names what the proxy is for" in wrong


def test_a_missing_build_is_told(repository_check, tmp_path):
    assert "Api is not built: run sam build" in repository_check.wrong_with(given(), tmp_path)


def test_equal_files_make_equal_zips_whatever_their_times_and_the_function_may_be_executed(built, tmp_path):
    import zipfile

    first = zips.make(built, tmp_path / "first")
    for name in zips.FUNCTIONS:
        os.utime(built / name / "bootstrap", (0, 0))
    second = zips.make(built, tmp_path / "second")
    assert zips.differing(first, second) == []
    mode = zipfile.ZipFile(first["Api"]).getinfo("bootstrap").external_attr >> 16
    assert mode & 0o777 == 0o755
    (built / "Api/bootstrap").write_bytes(elf(62) + b"\0")
    assert zips.differing(first, zips.make(built, tmp_path / "third")) == ["Api"]


def test_a_zip_over_its_bar_is_told(built, tmp_path):
    (built / "Dispatch/bootstrap").write_bytes(os.urandom(4_000_001))
    assert zips.over_bar(zips.make(built, tmp_path / "zips"))[0].startswith("Dispatch's zip is 4,0")


def make(target, **environment):
    return subprocess.run(
        ["make", "-C", str(REPOSITORY / "deploy/build"), target, "ARTIFACTS_DIR=/nonexistent"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_build_refuses_a_processor_whose_target_is_not_installed_and_downloads_nothing(tmp_path):
    # A toolchain with no target but the build machine's own.
    rustc = tmp_path / "rustc"
    rustc.write_text(f"#!/bin/sh\necho {tmp_path}\n")
    rustc.chmod(0o755)
    refused = make("build-Api", ARCHITECTURE="arm64", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert refused.returncode != 0
    assert "aarch64-unknown-linux-gnu is not installed, and the build downloads nothing" in refused.stderr
    assert "rustup target add aarch64-unknown-linux-gnu" in refused.stderr


def test_the_build_refuses_a_processor_that_lambda_does_not_have():
    refused = make("build-Api", ARCHITECTURE="riscv64")
    assert refused.returncode != 0 and "ARCHITECTURE is x86_64 or arm64, not 'riscv64'" in refused.stderr


def test_the_makefile_has_a_target_for_every_function_of_the_template(stacks):
    text = (REPOSITORY / "deploy/build/Makefile").read_text()
    for name, resource in stacks.source["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            binary = resource["Metadata"]["BuildProperties"]["Binary"]
            assert re.search(rf"^build-{name}: BINARY = {binary}$", text, re.M), name


def test_the_foundation_s_database_is_of_the_declared_version_and_its_outputs_are_parameters(stacks):
    import yaml

    foundation = yaml.safe_load((REPOSITORY / "deploy/foundation.yaml").read_text())
    database = foundation["Resources"]["Database"]["Properties"]
    assert database["EngineVersion"].split(".")[0] == stacks.source["Metadata"]["PostgresVersion"]
    assert set(foundation["Outputs"]) - {"MasterSecret"} <= set(stacks.source["Parameters"])
    sizes = foundation["Parameters"]["DatabaseSize"]
    assert sizes["AllowedValues"] == stacks.source["Parameters"]["DatabaseSize"]["AllowedValues"]
