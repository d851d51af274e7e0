"""Commands that write the page of a run."""

from __future__ import annotations

from tessy.config.evaluation import EvaluateConfig, JudgeConfig
from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig, ViewConfig
from tessy.evaluation import command as evaluation
from tessy.evaluation.official import command as official
from tessy.reports.viewer.page import write_report
from tessy.storage.run_paths import RunPaths
from tessy.synthesis import run


def synthesize(config: SynthesizeConfig) -> int:
    """Run ``tessy synthesize``, then write its page; return the exit code."""
    code = run.synthesize(config)
    print(f"Report of all samples: {write_report(config.out)}")
    return code


def sample(config: SampleConfig) -> int:
    """Run ``tessy sample``, then write its page; return the exit code."""
    code = run.sample(config)
    print(f"Report of all samples: {write_report(config.out)}")
    return code


def evaluate(config: EvaluateConfig) -> int:
    """Run ``tessy evaluate``, then write the page of each run; return the exit code."""
    code = evaluation.evaluate(config)
    for directory in evaluation.run_directories(config):
        if RunPaths(directory).config.exists():  # not those of checkpoints after an interruption
            print(f"Report of all responses: {write_report(directory)}")
    return code


def judge(config: JudgeConfig) -> int:
    """Run ``tessy judge``, then write the page of a run with new verdicts; return the exit code."""
    code = official.judge(config)
    if config.export is None:
        print(f"Report of all responses: {write_report(config.run)}")
    return code


def view(config: ViewConfig) -> int:
    """Write the page of a run and print its path; return the exit code."""
    print(write_report(config.run))
    return 0
