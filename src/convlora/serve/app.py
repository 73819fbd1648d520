"""The paths that a server answers."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Annotated, Any, Literal, cast

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from convlora import __version__
from convlora.errors import shown
from convlora.serve import results, schema
from convlora.serve.guard import Guard
from convlora.serve.label_studio import label_studio_routes
from convlora.serve.limits import Problem
from convlora.serve.page import content_security_policy, page_of
from convlora.serve.problems import problem_response
from convlora.serve.segmenting import Segmenting
from convlora.serve.task_images import TaskImages
from convlora.serve.uploads import FIELD

_LOG = logging.getLogger("convlora.serve")
_FORMATS = {"png": results.mask_png, "overlay": results.overlay_png, "probability": results.probability_png}
_PNG, _JSON = "image/png", "application/json"

Format = Literal["png", "json", "overlay", "probability"]
Picture = Literal["mask", "layers", "preview"]

_IMAGE = {"type": "string", "format": "binary", "description": "A PNG, JPEG, TIFF, BMP or WebP file."}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: _IMAGE, "run": {"type": "string", "description": "As the parameter."}},
            }
        },
        "image/*": {"schema": _IMAGE},
        "application/octet-stream": {"schema": _IMAGE},
    },
}


def make_app(
    segmenting: Segmenting, allowed_hosts: Collection[str] | None = (), images: TaskImages | None = None
) -> FastAPI:
    """Makes the application.

    Args:
        segmenting: What answers; it belongs to the caller.
        allowed_hosts: See `convlora.serve.guard.Guard`.
        images: What fetches images for Label Studio; None: only those that it sends along are taken.
    """
    app = FastAPI(
        title="convlora",
        version=__version__,
        description="Segments images with runs that `convlora train` wrote.",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
    )
    app.add_middleware(Guard, allowed=allowed_hosts)
    facts = [run.facts for run in segmenting.runs.values()]
    page = page_of(facts, segmenting.limits)
    headers = {"Content-Security-Policy": content_security_policy(page)}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers=headers)

    @app.get("/healthz", summary="Whether the server works", responses=schema.problems(403, 503))
    async def health() -> schema.Health:
        if not segmenting.engine.is_alive:
            raise Problem(503, "The thread that computes has ended. Start the server again.")
        return schema.Health(status="ok", waiting=segmenting.waiting)

    @app.get("/v1/runs", summary="The runs that are served", responses=schema.problems(403))
    async def list_runs() -> schema.RunList:
        return schema.RunList.model_validate({"runs": facts})

    @app.post(
        "/v1/segment",
        summary="Segment an image",
        response_class=Response,
        openapi_extra={"requestBody": _BODY},
        responses={
            200: {
                "description": "The mask or another picture as PNG, or the segmentation as JSON.",
                "model": schema.Segmentation,
                "content": {_PNG: {"schema": {"type": "string", "format": "binary"}}},
            },
            **schema.problems(400, 403, 404, 406, 408, 413, 415, 422, 500, 503, 504),
        },
    )
    async def segment(
        request: Request,
        run: Annotated[str | None, Query(description="Name of the run; not needed if there is one only.")] = None,
        format: Annotated[
            Format | None,
            Query(
                description="`png`: the mask as `convlora predict` writes it, whose pixel values are the classes. "
                "`json`: shares and polygons. `overlay`: a picture of image and classes. `probability`: of a binary "
                "run, a grey image; level v means that the probability of the foreground is above v / 256 and at most "
                "(v + 1) / 256. If it is not given, the header Accept decides between `png` and `json`."
            ),
        ] = None,
        polygons: Annotated[bool | None, Query(description="Of `json`: whether it has polygons; it does.")] = None,
        picture: Annotated[list[Picture] | None, Query(description="Of `json`: pictures to add, as base64.")] = None,
    ) -> Response:
        _refuse_unknown(request)
        kind = format or _accepted(request)
        if kind != "json" and (polygons is not None or picture):
            raise Problem(422, f"'polygons' and 'picture' have no effect with format={kind}. Ask for format=json.")
        try:
            if kind == "json":
                wanted = list(dict.fromkeys(picture or []))

                def make(result: results.Result, name: str) -> Response:
                    return JSONResponse(results.as_json(result, name, polygons is not False, cast("list[str]", wanted)))
            else:

                def make(result: results.Result, name: str) -> Response:
                    return Response(_FORMATS[kind](result), media_type=_PNG)

            needs_levels = kind == "probability" or "layers" in (picture or [])
            return await segmenting.answer(request, run, needs_levels, make)
        except Problem:
            raise
        except Exception as error:
            _LOG.exception("An image could not be segmented.")
            raise Problem(500, "The image could not be segmented. The log of the server says more.") from error

    if images is None:
        images = TaskImages(None, None, segmenting.limits, segmenting.room)
    routes = label_studio_routes(segmenting, images)
    app.include_router(routes)
    app.include_router(routes, prefix="/label-studio/{run:path}", include_in_schema=False)

    @app.exception_handler(Problem)
    async def tell_problem(request: Request, problem: Problem) -> Response:
        return problem_response(problem)

    @app.exception_handler(HTTPException)
    async def tell_http_problem(request: Request, error: HTTPException) -> Response:
        details = {
            404: f"There is nothing at {shown(request.url.path)}.",
            405: f"{request.method} is not answered here.",
        }
        detail = details.get(error.status_code, str(error.detail))
        return problem_response(Problem(error.status_code, detail, error.headers))

    @app.exception_handler(RequestValidationError)
    async def tell_wrong_parameter(request: Request, error: RequestValidationError) -> Response:
        first: dict[str, Any] = error.errors()[0]
        return problem_response(Problem(422, f"The parameter '{first['loc'][-1]}' is wrong: {first['msg']}."))

    return app


def _refuse_unknown(request: Request) -> None:
    """Refuses parameters that would have no effect.

    Raises:
        Problem: If there is one.
    """
    known = ("run", "format", "polygons", "picture")
    for name in request.query_params:
        if name not in known:
            raise Problem(422, f"There is no parameter '{shown(name, 60)}'. There are: {', '.join(known)}.")


def _accepted(request: Request) -> Literal["png", "json"]:
    """What the header Accept asks for; the mask, if it does not matter.

    Raises:
        Problem: If neither will do.
    """
    best: dict[str, float] = {}
    for part in request.headers.get("accept", "*/*").lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
        try:
            weight = float(weights[0]) if weights else 1.0
        except ValueError:
            weight = 1.0
        best[kind] = max(weight, best.get(kind, 0))
    anything = best.get("*/*", 0)
    png = best.get(_PNG, best.get("image/*", anything))
    json = best.get(_JSON, best.get("application/*", anything))
    if not max(png, json) > 0:
        raise Problem(406, f"The header Accept takes neither {_PNG} nor {_JSON}. Take one of them, or give format=.")
    return "json" if json > png else "png"
