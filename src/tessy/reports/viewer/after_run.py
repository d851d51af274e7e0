"""Commands that write the page of a run."""

from __future__ import annotations

from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig, ViewConfig
from tessy.reports.viewer.page import write_report
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


def view(config: ViewConfig) -> int:
    """Write the page of a run and print its path; return the exit code."""
    print(write_report(config.run))
    return 0
