"""Who does a sweep's trainings: this process, or the workers of Ray Tune."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ENGINES = ("auto", "ray", "here")
RETRIES = 2  # a worker that is lost with its node starts again, from its backup

Work = Callable[[Any], Exception | None]


def pick(engine: str) -> str:
    """ "ray" or "here".

    Raises:
        ImportError: If Ray is asked for and missing.
    """
    installed = importlib.util.find_spec("ray") is not None
    if engine == "ray" and not installed:
        raise ImportError("engine='ray' needs Ray Tune. Install it with: pip install 'keras-iss[sweep]'")
    return "ray" if engine == "ray" or (engine == "auto" and installed) else "here"


def here(points: Sequence[Any], work: Work) -> dict[str, Exception]:
    """One after another in this process; returns what went wrong, by point."""
    return {point.name: error for point in points if (error := work(point)) is not None}


class RemoteError(RuntimeError):
    """What went wrong in another process, by type and message."""


def told(error: Exception) -> str:
    """An error in a line, with its type."""
    return str(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def ray_running(backend: str) -> Iterator[None]:
    """Ray, if it isn't running already on this machine's cores; its workers get this backend of Keras."""
    import ray  # pyright: ignore[reportMissingImports]

    if ray.is_initialized():
        yield
        return
    # Relative paths in the user's functions go on meaning the same.
    variables = {"KERAS_BACKEND": backend, "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    ray.init(runtime_env={"env_vars": variables}, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def with_ray(
    points: Sequence[Any], work: Work, folder: Path, resources: Mapping[str, float]
) -> dict[str, Exception]:
    """Side by side in processes of Ray's: on this machine's cores, or on the cluster that Ray is connected to.

    Args:
        points: What to train.
        work: Trains one; has to be picklable by Ray, which functions and closures are.
        folder: Where Ray keeps its notes meanwhile; on a cluster storage that all nodes share.
        resources: Of one training, such as {"cpu": 1, "gpu": 1}.

    Returns:
        What went wrong, by point.

    Source: https://docs.ray.io/en/latest/tune/api/doc/ray.tune.Tuner.html
    """
    from ray import tune  # pyright: ignore[reportMissingImports]

    by_name = {point.name: point for point in points}

    def trial(config: dict[str, Any]) -> None:
        error = work(by_name[config["point"]])
        tune.report({"failed": "" if error is None else told(error)})

    notes = folder / "ray"
    shutil.rmtree(notes, ignore_errors=True)
    try:
        tuner = tune.Tuner(
            tune.with_resources(trial, dict(resources)),
            param_space={"point": tune.grid_search([*by_name])},
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(notes),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                verbose=0,
            ),
        )
        results = tuner.fit()
    finally:
        shutil.rmtree(notes, ignore_errors=True)
    failures = {}
    for result in results:
        text = str(result.error) if result.error else (result.metrics or {}).get("failed", "")
        if text:
            failures[result.config["point"]] = RemoteError(text)
    return failures
