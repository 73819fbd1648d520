"""Problems as answers."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import JSONResponse

from convlora.serve.limits import Problem


def problem_response(problem: Problem) -> JSONResponse:
    """The answer that tells of a problem, in the form of RFC 9457."""
    content = {"title": HTTPStatus(problem.status).phrase, "status": problem.status, "detail": problem.detail}
    return JSONResponse(content, problem.status, headers=problem.headers, media_type="application/problem+json")
