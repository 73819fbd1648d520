"""The paths of a machine learning backend of Label Studio.

Source: https://labelstud.io/guide/ml_create and https://github.com/HumanSignal/label-studio-ml-backend
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from convlora.inference.label_studio import brush_label
from convlora.serve import schema
from convlora.serve.label_config import Brushes, brushes_of
from convlora.serve.limits import Problem
from convlora.serve.results import Result
from convlora.serve.segmenting import Segmenting
from convlora.serve.task_images import TaskImages
from convlora.serve.uploads import json_in

_LOG = logging.getLogger("convlora.serve")
_AT_A_TIME = 4  # tasks of one request


def label_studio_routes(segmenting: Segmenting, images: TaskImages) -> APIRouter:
    """The paths that Label Studio calls; each run has them below `/label-studio/RUN`, too.

    Args:
        segmenting: What answers.
        images: What fetches the images of tasks.
    """
    router = APIRouter(tags=["Label Studio"])

    @router.get("/health", summary="Whether the backend works")
    async def health(run: str | None = None) -> dict[str, str]:
        if not segmenting.engine.is_alive:
            raise Problem(503, "The thread that computes has ended. Start the server again.")
        return {"status": "UP", "model_class": "convlora"}

    @router.post("/setup", summary="Name the model", responses=schema.problems(404, 422))
    async def setup(request: Request, run: str | None = None) -> dict[str, str]:
        await json_in(request, segmenting.limits, segmenting.room)
        name, _ = segmenting.find(run)
        return {"model_version": name}

    @router.post("/webhook", summary="Take notice of events", status_code=200)
    async def webhook(request: Request, run: str | None = None) -> dict[str, str]:
        await json_in(request, segmenting.limits, segmenting.room)  # it does not train, so that none matters
        return {"status": "ok"}

    @router.post(
        "/predict",
        summary="Segment the images of tasks",
        responses=schema.problems(400, 404, 408, 413, 415, 422, 500, 502, 503, 504),
    )
    async def predict(request: Request, run: str | None = None) -> dict[str, Any]:
        asked = await json_in(request, segmenting.limits, segmenting.room)
        name, served = segmenting.find(run)
        tasks = asked.get("tasks") if isinstance(asked, dict) else None
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise Problem(422, "The request has no list of tasks.")
        classes = served.segmenter.classes
        of_interest = [label for kind, label in enumerate(classes.names) if kind != classes.background]
        brushes = brushes_of(asked.get("label_config"), of_interest)
        lacking = set() if brushes.names is None else set(of_interest) - brushes.names
        if lacking:
            _LOG.warning("Label Studio has no label for %s, which %s finds.", ", ".join(sorted(lacking)), name)
        places = asyncio.Semaphore(_AT_A_TIME)

        async def answer(task: dict[str, Any]) -> dict[str, Any]:
            data = task.get("data")
            address = data.get(brushes.key) if isinstance(data, dict) else None
            async with places, images.image(address, task.get("id")) as upload:
                return await segmenting.segment(
                    upload, name, False, lambda result, _: _prediction(result, name, brushes), request
                )

        try:
            async with asyncio.TaskGroup() as group:
                answers = [group.create_task(answer(task)) for task in tasks]
        except BaseExceptionGroup as group_of_errors:
            first = group_of_errors.exceptions[0]
            if isinstance(first, Problem):
                raise first from None
            _LOG.exception("A task of Label Studio could not be answered.")
            raise Problem(500, "A task could not be answered. The log of the server says more.") from first
        return {"results": [each.result() for each in answers]}

    return router


def _prediction(result: Result, run: str, brushes: Brushes) -> dict[str, Any]:
    """A prediction of Label Studio: a brush stroke for each class in the image."""
    classes, found = result.segmenter.classes, []
    for kind, name in enumerate(classes.names):
        if kind == classes.background or not result.counts[kind] or (brushes.names and name not in brushes.names):
            continue
        mask = np.asarray(result.semantic_map == kind)
        found.append(brush_label(mask, kind, name, labels=brushes.labels, image=brushes.image))
    return {"model_version": run, "result": found}
